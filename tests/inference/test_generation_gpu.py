"""The engine on an NVIDIA GPU: by a CUDA graph, as by single launches, it generates what single steps do."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.inference import Engine, Sampling
from gdnbench.models import Parametrization, build_decoder
from gdnbench.models.serving import served
from tests.inference.conftest import ARCHS, reference, small, text, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

# The chunked recurrences are kernels in half precision only; steps have kernels in both.
ANY = dict.fromkeys(("short_convolution", "gated_norm", "add_norm", "linear_cross_entropy"), "triton")
HALF = ANY | {"gated_delta": "triton", "ssd": "triton"}
OPTIONS = {
    "gdn": {"heads": 2, "head_k_dim": 64, "head_v_dim": 64},
    "transformer": {"heads": 2},
    "mamba2": {"state_dim": 64, "head_dim": 64},
    "rwkv7": {"head_dim": 64},
}
EVERY = [(arch, block) for arch in ARCHS for block in ("controlled", "native") if (arch, block) != ("hybrid", "native")]


@pytest.fixture(scope="module")
def model():
    """Return a function that returns a fresh copy of a trained decoder, on the GPU with our kernels or on the CPU."""
    kept = {}

    def get(arch, block="controlled", device="cuda", chosen=ANY):
        options = {name: OPTIONS[name] for name in small(arch).options}
        backend = chosen if device == "cuda" else "torch"
        config = small(arch, width=128, base_width=128, block=block)
        config = dataclasses.replace(config, options=options, backend=backend)
        if (arch, block) not in kept:
            kept[arch, block] = train(dataclasses.replace(config, backend="torch"), device=device).state_dict()
        made = build_decoder(config, Parametrization(table="sp"), seed=0).to(device)
        made.load_state_dict(kept[arch, block])
        return made

    return get


@pytest.fixture
def prompts():
    return [text(length, seed).tolist() for seed, length in enumerate((1, 2, 5, 66))]


@pytest.mark.parametrize(("arch", "block"), EVERY)
def test_greedy_tokens_are_those_of_single_steps(arch, block, model, prompts):
    expected = [reference(model(arch, block), prompt, 256) for prompt in prompts]
    stop = expected[0][9]
    cut = [tokens[: tokens.index(stop) + 1] if stop in tokens else tokens for tokens in expected]
    for graph in (False, True):
        tested = Engine(model(arch, block), batch_size=4, capacity=340, graph=graph)
        assert tested.complete(prompts, 256) == expected
        assert tested.complete(prompts, 256, stop=[stop]) == cut


@pytest.mark.parametrize("rows", [2, 5], ids=["few rows", "tensor cores"])
@pytest.mark.parametrize(("arch", "block"), EVERY)
def test_logits_of_given_tokens_in_bfloat16(arch, block, rows, model):
    tokens = text(60)
    single = model(arch, block)
    with torch.no_grad():
        exact = single(tokens[None].cuda())[0][0, 19:].double()
    tested = Engine(model(arch, block, chosen=HALF), batch_size=rows, capacity=61, dtype=torch.bfloat16)
    found = [tested.prefill(tokens[:20].expand(rows, 20)).clone()]
    found += [tested.step(token.expand(rows)).clone() for token in tokens[20:]]
    assert (torch.stack(found, 1).double() - exact).norm() < 2e-2 * exact.expand(rows, -1, -1).norm()


@pytest.mark.parametrize("arch", ARCHS)
def test_a_state_goes_on_on_a_cpu_and_back(arch, model, prompts, tmp_path):
    expected = [reference(model(arch), prompt, 60) for prompt in prompts]
    engines = [Engine(model(arch, device=device), batch_size=4, capacity=140) for device in ("cuda", "cpu", "cuda")]
    found = engines[0].complete(prompts, 20)
    for before, after in pairwise(engines):
        before.save_state(tmp_path / "state")
        after.load_state(tmp_path / "state")
        found = [tokens + more for tokens, more in zip(found, after.complete(None, 20), strict=True)]
    assert found == expected


@pytest.mark.parametrize("how", [Sampling(seed=1), Sampling(temperature=1.3, top_k=9, top_p=0.9, seed=2)])
def test_drawn_tokens_are_those_of_a_cpu(how, model, prompts):
    drawn = [
        Engine(model("gdn", device=device), batch_size=4, capacity=140).complete(prompts, 50, sampling=how)
        for device in ("cuda", "cpu")
    ]
    assert drawn[0] == drawn[1]


def test_a_layer_that_no_graph_can_hold_is_said(model, monkeypatch):
    made = model("transformer")
    mixer = type(made.block_list()[0].mixer)
    monkeypatch.setattr(
        mixer, "serve", lambda self, norm, slots, *, factor=1.0: served(self, norm, slots, factor=factor)
    )
    with pytest.raises(GdnbenchError, match="no CUDA graph can hold it"):
        Engine(made, batch_size=1, capacity=20)
    prompt = text(5).tolist()
    found = Engine(made, batch_size=1, capacity=20, graph=False).complete([prompt], 9)
    assert found == [reference(model("transformer"), prompt, 9)]
