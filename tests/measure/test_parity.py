"""Parity with other libraries' models, on what runs on a CPU; and that a wrong mapping cannot pass."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity import compare, run
from gdnbench.measure.parity.peer import architectures, peers_of
from gdnbench.measure.parity.report import Options
from gdnbench.measure.parity.run import parity, prepared
from gdnbench.measure.parity.tuning import untuned
from gdnbench.measure.parity.weights import cut, pair
from gdnbench.measure.training.peers import hf_llama
from gdnbench.models.config import ModelConfig

pytest.importorskip("transformers", reason="parity needs transformers")

FLOAT32 = Options(device="cpu", dtype="float32")
ON_CPU = [(arch, peer) for arch in architectures() for peer in peers_of(arch) if peer.kernels is None]
OF_FLA = [(arch, peer) for arch in architectures() for peer in peers_of(arch) if peer.kernels is not None]
peers = pytest.mark.parametrize(("arch", "peer"), ON_CPU, ids=[f"{arch}-{peer.library}" for arch, peer in ON_CPU])


@pytest.fixture
def one_peer(monkeypatch):
    """Return a function that makes parity know of one peer alone."""

    def know(arch, peer):
        monkeypatch.setattr(run, "architectures", lambda: [arch])
        monkeypatch.setattr(run, "peers_of", lambda name: (peer,))

    return know


def test_every_linear_mixer_and_attention_has_a_peer_and_most_run_on_a_cpu():
    assert architectures() == ["gdn", "mamba2", "rwkv7", "transformer"]
    assert {arch for arch, _ in ON_CPU} == {"gdn", "mamba2", "transformer"}
    assert {arch for arch, _ in OF_FLA} == {"gdn", "mamba2", "rwkv7"}


@peers
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_ours_with_their_weights_is_theirs(arch, peer, dtype):
    found = prepared(arch, peer, Options(device="cpu", dtype=dtype)).findings()
    assert [finding.quantity for finding in found] == list(compare.QUANTITIES)
    assert all(finding.same for finding in found), found
    assert any(finding.error > 0 for finding in found), "or something is compared with itself"


@pytest.mark.parametrize(
    ("arch", "library", "one", "other", "quantity"),
    [
        ("transformer", "transformers", "*.mlp.gate_proj.weight", "*.mlp.up_proj.weight", "logits"),
        ("transformer", "transformers", "*.input_layernorm.weight", "*.post_attention_layernorm.weight", "logits"),
        ("gdn", "transformers", "*.linear_attn.a_proj.weight", "*.linear_attn.b_proj.weight", "state"),
        ("gdn", "transformers", "*.linear_attn.A_log", "*.linear_attn.dt_bias", "gradients"),
        ("mamba2", "transformers", "*.mixer.D", "*.mixer.dt_bias", "next logits"),
    ],
)
def test_two_swapped_weights_are_seen(arch, library, one, other, quantity, one_peer):
    (peer,) = (peer for peer in peers_of(arch) if peer.library == library)
    ends = {name: key for key in peer.weights for name in (one, other) if key.endswith(name.removeprefix("*"))}
    weights = dict(peer.weights)
    weights[ends[one]], weights[ends[other]] = weights[ends[other]], weights[ends[one]]
    one_peer(arch, dataclasses.replace(peer, weights=weights))
    report = parity([], FLOAT32)
    assert report.failed
    wrong = {finding.quantity: finding for finding in report.outcomes[0].findings if not finding.same}
    assert wrong[quantity].error > 100 * wrong[quantity].tolerance
    assert "DIFFERENT" in "\n".join(report.lines())


def test_a_state_that_is_laid_out_otherwise_is_seen(one_peer):
    (peer,) = (peer for arch, peer in ON_CPU if arch == "mamba2")

    def transposed(cache, layer):
        state = peer.state(cache, layer)
        return {"mixer": {**state["mixer"], "memory": state["mixer"]["memory"].mT}}

    one_peer("mamba2", dataclasses.replace(peer, state=transposed))
    (outcome,) = parity([], FLOAT32).outcomes
    assert [finding.quantity for finding in outcome.findings if not finding.same] == ["state"]
    one_peer("mamba2", dataclasses.replace(peer, state=lambda cache, layer: {"mixer": {}}))
    (outcome,) = parity([], FLOAT32).outcomes
    assert outcome.failure == "block 0 mixer: ours carries ['memory', 'tail'], theirs []"


class Two(nn.Module):
    """Two parameters."""

    def __init__(self, first=(4, 3), second=(2,)):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(first)), nn.Parameter(torch.zeros(second))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"a": "a"}, "of the parameters that are theirs, mapped nowhere: b"),
        ({"a": "a", "b": ("b", "a")}, r"theirs b \[2\] does not fit ours: b \[2\], a \[4, 3\]"),
        ({"a": "a", "b": "c"}, "b stands for c, but there is no ours c"),
        ({"a": "a", "b": "b", "c": "b"}, "c stands for b, but there is no theirs c"),
    ],
)
def test_a_mapping_that_does_not_hold_is_an_error(names, message):
    with pytest.raises(GdnbenchError, match=message):
        pair(names, Two(), Two(), layers=1)


def test_every_parameter_is_used_once():
    with pytest.raises(GdnbenchError, match="that are ours, mapped more than once: b"):
        pair({"a": "b", "b": "b"}, Two(second=(2,), first=(2,)), Two(), layers=1)
    with pytest.raises(GdnbenchError, match="that are ours, mapped nowhere: b"):
        pair({"a": "a"}, nn.ParameterDict({"a": torch.zeros(4, 3)}), Two(), layers=1)
    assert pair({"a": "a", "b": "b", "head": "head"}, Two(), Two(), layers=1), "what neither has is left out"


def test_the_llama_that_training_is_timed_beside_is_one_that_is_compared():
    config = ModelConfig(
        arch="transformer", width=64, depth=3, vocab_size=300, options={"transformer": {"heads": 2, "kv_heads": 1}}
    )
    model = hf_llama.build(config, fused_loss=False)
    ((_, peer),) = (case for case in ON_CPU if case[0] == "transformer")
    fields = peer.ours(model)
    assert fields.pop("options") == {"heads": 2, "kv_heads": 1, "head_dim": 32, "rope_theta": 1e4}
    stated = {**vars(config), "mlp_width": config.mlp_width_of(0)}
    assert fields == {name: stated[name] for name in fields}


def test_a_fused_tensor_is_cut_in_order():
    parts = cut(torch.arange(10.0)[:, None, None], [torch.Size([4]), torch.Size([6, 1])])
    assert [part.shape for part in parts] == [(4,), (6, 1)]
    assert parts[1].flatten().tolist() == [4, 5, 6, 7, 8, 9]


def test_what_is_not_finite_differs_and_is_valid_json(one_peer, monkeypatch):
    monkeypatch.setattr(compare, "_relative", lambda ours, theirs: math.inf)
    (case,) = (case for case in ON_CPU if case[0] == "transformer")
    one_peer(*case)
    report = parity([], FLOAT32)
    assert report.failed
    assert "Infinity" not in report.as_json()


@pytest.mark.parametrize(("ours", "theirs", "error"), [(0.0, 0.0, 0.0), (1.0, 0.5, 1.0), (math.nan, 1.0, math.inf)])
def test_relative_error(ours, theirs, error):
    assert compare._relative(torch.tensor([ours]), torch.tensor([theirs])) == error
    assert compare._relative(torch.zeros(2), torch.zeros(3)) == math.inf
    found, where = compare._by_position(torch.ones(2, 3, 4), torch.ones(2, 3, 4).index_fill(1, torch.tensor(1), 2.0))
    assert (found, where) == (0.5, "sequence 0, token 1")


def test_what_breaks_in_a_library_is_named_and_the_rest_is_compared(one_peer):
    def breaks(cache, layer):
        raise RuntimeError("no kernel\nfor this")

    (case,) = (case for case in ON_CPU if case[0] == "transformer")
    one_peer(case[0], dataclasses.replace(case[1], state=breaks))
    report = parity([], FLOAT32)
    found = {finding.quantity: finding.failure for finding in report.outcomes[0].findings}
    reason = "RuntimeError: no kernel for this"
    assert found == dict.fromkeys(compare.QUANTITIES[:3], "") | dict.fromkeys(compare.QUANTITIES[3:], reason)
    assert report.failed
    assert "FAILED    RuntimeError" in "\n".join(report.lines())
    one_peer(case[0], dataclasses.replace(case[1], random=breaks))
    (outcome,) = parity([], FLOAT32).outcomes
    assert outcome.failure.startswith("TypeError: ")


def test_packages_that_transformers_would_call_are_left_out(tmp_path):
    """In a process of its own: transformers looks for them when it is imported."""
    package = tmp_path / "fla" / "ops" / "gated_delta_rule"
    package.mkdir(parents=True)
    (tmp_path / "fla" / "__init__.py").touch()
    (tmp_path / "fla" / "ops" / "__init__.py").touch()
    rules = ("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule")
    (package / "__init__.py").write_text("".join(f"def {rule}(*args, **options): raise Exception\n" for rule in rules))
    root = Path(run.__file__).parents[3]
    path = os.pathsep.join(str(folder) for folder in (tmp_path, root, root / "kernels", root / "baselines"))
    done = subprocess.run(
        [sys.executable, "-m", "gdnbench", "parity", "--arch", "gdn", "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 peers agree" in done.stdout


def test_only_the_first_configuration_that_runs_is_timed():
    class Tuner:
        def __init__(self):
            self.ran = []

        def tune(self, configs):
            self.nargs = {}
            return [self._bench(config=config)[0] for config in configs]

        def _bench(self, *, config):
            self.ran.append(config)
            return [math.inf if config == "too large" else 1.0] * 3

    tuner = Tuner()
    with untuned(Tuner):
        assert tuner.tune(["too large", "a", "b"]) == [math.inf, 1.0, math.inf]
        assert tuner.tune(["b", "a"]) == [1.0, math.inf]
    assert tuner.ran == ["too large", "a", "b"]
    assert tuner.tune(["a", "b"]) == [1.0, 1.0]


@pytest.mark.parametrize(("arch", "peer"), OF_FLA, ids=[arch for arch, _ in OF_FLA])
def test_flash_linear_attentions_parameters_are_ours(arch, peer):
    """Without a GPU its models can be built, if not run."""
    pytest.importorskip("fla.models", reason="needs flash-linear-attention")
    comparison = prepared(arch, peer, FLOAT32)
    assert comparison.pairs


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("arch", "peer"), OF_FLA, ids=[arch for arch, _ in OF_FLA])
def test_ours_with_flash_linear_attentions_weights_is_theirs(arch, peer, dtype):
    if reason := peer.why_unavailable("cuda", dtype):
        pytest.skip(reason)
    (outcome,) = parity([arch], Options(device="cuda", dtype=dtype), library=peer.library).outcomes
    assert not outcome.failure
    assert all(finding.same for finding in outcome.findings), outcome.findings
