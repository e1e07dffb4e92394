"""Attention and RWKV-7 as generation runs them compute what their own steps compute, from prefixes of any length."""

import copy

import pytest
import torch
from gdnbench_kernels.wkv7_decode import Maps

from gdnbench.errors import GdnbenchError
from gdnbench.models.norm import LayerNorm, RMSNorm
from gdnbench.models.projection import Projection
from gdnbench.models.serving import RowByRow, Slots, StepByStep

LAYERS = {
    "attention": ("transformer", {"heads": 2}),
    "attention with groups": ("transformer", {"heads": 4, "kv_heads": 2, "head_dim": 6, "rope_theta": 100.0}),
    "attention, native": ("transformer", {"heads": 2, "qk_norm": True, "conv_size": 4, "output_gate": True}),
    "attention, gated": ("transformer", {"heads": 2, "conv_size": 2, "output_gate": True}),
    "rwkv7": ("rwkv7", {"head_dim": 8, "decay_rank": 3, "rate_rank": 4, "value_rank": 5, "gate_rank": 6}),
}
PREFIXES, TOKENS, FACTOR, CAPACITY = [0, 1, 2, 6], 10, 0.7, 16
FIRST = "rwkv7_first_value"
each = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def layer(name, tiny_decoder):
    """Return the last layer of a small decoder: RWKV-7's first one reads no values of another."""
    arch, options = LAYERS[name]
    return tiny_decoder(arch, options={arch: options}).block_list()[-1].mixer


def draw(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slots_of(lengths, dtype=torch.float64, state_dtype=None, impl="torch", device="cpu"):
    return Slots(
        batch_size=len(lengths),
        capacity=CAPACITY,
        lengths=torch.tensor(lengths, dtype=torch.int32, device=device),
        dtype=dtype,
        state_dtype=state_dtype or dtype,
        impl=lambda operation: impl,
    )


def norm_of(kind, width):
    norm = (RMSNorm if kind == "rms" else LayerNorm)(width, eps=1e-6).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    return norm


def drawn(rows, width):
    """Return the stream, what is to be added to it, and the first layer's values, ``[rows, TOKENS, width]``."""
    return (draw(rows, TOKENS, width, seed=seed) for seed in (1, 2, 3))


def prefixed(layer, row, length):
    """Return the layer's own state after a prefix."""
    state = layer.init_state(1)
    if length:
        x, first = draw(1, length, layer.width, seed=row), draw(1, length, layer.width, seed=row + 50)
        _, state = layer(x, state, {FIRST: first})
    return state


def stepped(layer, norm, x, y, first, state):
    """Return the layer's outputs and its state, step by step: what a serving is to compute."""
    outs = []
    for t in range(x.shape[1]):
        out, state = layer.step(norm(x[:, t] + y[:, t]), state, {FIRST: first[:, t : t + 1]})
        outs.append(FACTOR * out)
    return torch.stack(outs, 1), state


def served(serving, slots, x, y, first):
    """Return the stream and the outputs of a serving."""
    found = []
    for t in range(x.shape[1]):
        found.append(serving.step(x[:, t], y[:, t], {FIRST: first[:, t]}))
        slots.lengths.add_(1)
    return (torch.stack(part, 1) for part in zip(*found, strict=True))


def tensors_in(serving):
    """Return what a serving holds."""
    for value in vars(serving).values():
        parts = (
            vars(value).values() if isinstance(value, Maps) else value.values() if isinstance(value, dict) else [value]
        )
        yield from filter(torch.is_tensor, parts)


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        value = value[:, : int(expected["length"])] if part in ("k", "v") else value  # a cache may have room behind
        torch.testing.assert_close(found[part], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "rms") for name in LAYERS), ("attention", "layer"), ("rwkv7", "layer")]
)
@torch.no_grad()
def test_tokens_equal_the_layers_own_steps_from_any_prefix(name, kind, layer):
    norm, own = norm_of(kind, layer.width), copy.deepcopy(layer)
    x, y, first = drawn(len(PREFIXES), layer.width)
    serving = layer.serve(norm, slots := slots_of(PREFIXES), factor=FACTOR)
    states = [prefixed(own, row, length) for row, length in enumerate(PREFIXES)]
    for row, state in enumerate(states):
        serving.load(slice(row, row + 1), copy.deepcopy(state))
    stream, outs = served(serving, slots, x, y, first)
    torch.testing.assert_close(stream, x + y, rtol=0, atol=0)
    for row, state in enumerate(states):
        here = slice(row, row + 1)
        out, after = stepped(own, norm, x[here], y[here], first[here], state)
        torch.testing.assert_close(outs[here], out, rtol=1e-10, atol=1e-10)
        assert_same_state(serving.unload(here), after)


@each
@torch.no_grad()
def test_a_prompt_goes_into_the_buffers_and_matrices_are_held_once(name, layer):
    x, first, own = draw(2, 5, layer.width), draw(2, 5, layer.width, seed=1), copy.deepcopy(layer)
    expected, state = own(x, own.init_state(2), {FIRST: first})
    serving = layer.serve(norm_of("rms", layer.width), slots_of([5, 5, 5]))
    held = {x.untyped_storage().data_ptr() for x in tensors_in(serving)}
    matrices = [module.weight for module in layer.modules() if isinstance(module, Projection)]
    assert {matrix.untyped_storage().data_ptr() for matrix in matrices} <= held
    begun = serving.begin(slice(1, 3))
    actual, carried = layer(x, layer.init_state(2) if begun is None else begun, {FIRST: first})
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    serving.load(slice(1, 3), carried)
    assert_same_state(serving.unload(slice(1, 3)), state)
    assert not any(buffer[0].any() for buffer in serving.state.values())


@pytest.mark.parametrize(("name", "method"), [("attention", "frequencies"), ("rwkv7", "_output")])
def test_a_variant_that_computes_otherwise_is_served_by_its_steps(name, method, layer):
    kind = type(layer)
    layer.__class__ = type("Variant", (kind,), {method: lambda self, *rest: getattr(kind, method)(self, *rest)})
    assert type(layer.serve(norm_of("rms", layer.width), slots_of([0]))) in (StepByStep, RowByRow)


def test_rows_of_different_lengths_have_no_state_in_common(tiny_decoder):
    layer = tiny_decoder("transformer").block_list()[0].mixer
    serving = layer.serve(norm_of("rms", layer.width), slots_of([1, 2]))
    with pytest.raises(GdnbenchError, match=r"rows of \[1, 2\] tokens"):
        serving.unload(slice(0, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@each
@torch.no_grad()
def test_our_kernels_in_a_graph_are_near_float64(name, tiny_decoder):
    arch, options = LAYERS[name]
    model = tiny_decoder(arch, width=64, base_width=64, options={arch: {**options, "head_dim": 16}})
    layer, norm = model.block_list()[-1].mixer, norm_of("rms", 64)
    x, y, first = drawn(3, 64)
    expected, _ = stepped(layer, norm, x, y, first, layer.init_state(3))
    slots = slots_of([0, 0, 0], torch.bfloat16, torch.float32, "triton", "cuda")
    serving = copy.deepcopy(layer).float().cuda().serve(norm.float().cuda(), slots, factor=FACTOR)
    x, y, first = x.float().cuda(), y.bfloat16().cuda(), first.bfloat16().cuda()
    one, other, values = x[:, 0].clone(), y[:, 0].clone(), first[:, 0].clone()

    def token():
        _, out = serving.step(one, other, {FIRST: values})
        slots.lengths.add_(1)
        return out

    token()  # compiled
    slots.lengths.zero_()
    for buffer in serving.state.values():
        buffer.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = token()
    outs = []
    for t in range(TOKENS):
        one.copy_(x[:, t])
        other.copy_(y[:, t])
        values.copy_(first[:, t])
        graph.replay()
        outs.append(out.clone())
    found = torch.stack(outs, 1).double().cpu()
    assert (found - expected).norm() < 2e-2 * expected.norm()
