"""GDN and Mamba-2 as generation runs them compute what their own steps compute, from prefixes of any length."""

import copy

import pytest
import torch

from gdnbench.models.norm import LayerNorm, RMSNorm
from gdnbench.models.projection import Projection
from gdnbench.models.serving import Slots, StepByStep

LAYERS = {
    "gdn": ("gdn", {"heads": 2}),
    "gdn without convolved values": ("gdn", {"heads": 2, "conv_values": False}),
    "gdn with more value heads": ("gdn", {"heads": 2, "value_heads": 6, "head_k_dim": 5, "head_v_dim": 4}),
    "gdn with signs": ("gdn", {"heads": 1, "negative_eigenvalues": True, "qk_scale": "fla", "conv_size": 2}),
    "gdn without a window": ("gdn", {"heads": 2, "conv_size": 1, "output_multiplier": False}),
    "mamba2": ("mamba2", {"state_dim": 8}),
    "mamba2 with groups": ("mamba2", {"state_dim": 6, "head_dim": 4, "groups": 2, "conv_size": 3}),
}
PREFIXES, TOKENS, FACTOR = [0, 1, 2, 6], 10, 0.7
each = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def layer(name, tiny_decoder):
    arch, options = LAYERS[name]
    return tiny_decoder(arch, depth=1, options={arch: options}).block_list()[0].mixer


def draw(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slots_of(rows, dtype=torch.float64, state_dtype=None, impl="torch", device="cpu"):
    return Slots(
        batch_size=rows,
        capacity=64,
        lengths=torch.zeros(rows, dtype=torch.int32, device=device),
        dtype=dtype,
        state_dtype=state_dtype or dtype,
        impl=lambda operation: impl,
    )


def norm_of(kind, width):
    norm = (RMSNorm if kind == "rms" else LayerNorm)(width, eps=1e-6).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    return norm


def stepped(layer, norm, x, y, state):
    """Return the stream, the layer's outputs, and its state, step by step: what a serving is to compute."""
    outs = []
    for t in range(x.shape[1]):
        out, state = layer.step(norm(x[:, t] + y[:, t]), state)
        outs.append(FACTOR * out)
    return x + y, torch.stack(outs, 1), state


def served(serving, slots, x, y):
    """Return the stream and the outputs of a serving."""
    found = []
    for t in range(x.shape[1]):
        found.append(serving.step(x[:, t], y[:, t], {}))
        slots.lengths.add_(1)
    return (torch.stack(each, 1) for each in zip(*found, strict=True))


@pytest.mark.parametrize(("name", "kind"), [*((name, "rms") for name in LAYERS), ("gdn", "layer")])
@torch.no_grad()
def test_tokens_equal_the_layers_own_steps_from_any_prefix(name, kind, layer):
    rows, width, norm = len(PREFIXES), layer.width, norm_of(kind, layer.width)
    x, y = (draw(rows, TOKENS, width, seed=seed) for seed in (1, 2))
    slots, own = slots_of(rows), copy.deepcopy(layer)
    serving = layer.serve(norm, slots, factor=FACTOR)
    slots.lengths.copy_(torch.tensor(PREFIXES))
    expected = []
    for row, length in enumerate(PREFIXES):
        state = own.init_state(1)
        if length:
            _, state = own(draw(1, length, width, seed=9), state)
        serving.load(slice(row, row + 1), copy.deepcopy(state))
        expected.append(stepped(own, norm, x[row : row + 1], y[row : row + 1], state))
    stream, outs = served(serving, slots, x, y)
    torch.testing.assert_close(stream, x + y, rtol=0, atol=0)
    torch.testing.assert_close(outs, torch.cat([out for _, out, _ in expected]), rtol=1e-10, atol=1e-10)
    for row, (_, _, state) in enumerate(expected):
        found = serving.unload(slice(row, row + 1))
        assert found.keys() == state.keys()
        for part in state:
            torch.testing.assert_close(found[part], state[part], rtol=1e-10, atol=1e-10)


@each
@torch.no_grad()
def test_forward_computes_the_same_with_packed_matrices_and_holds_them_once(name, layer):
    x, own = draw(2, 7, layer.width), copy.deepcopy(layer)
    expected, state = own(x, own.init_state(2))
    norm = norm_of("rms", layer.width)
    serving = layer.serve(norm, slots_of(2))
    kept = {whole.untyped_storage().data_ptr() for whole in (serving.inputs, serving.output)}
    matrices = [module.weight for module in layer.modules() if isinstance(module, Projection)]
    assert {matrix.untyped_storage().data_ptr() for matrix in matrices} == kept
    actual, new = layer(x, layer.init_state(2))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    for part in state:
        torch.testing.assert_close(new[part], state[part], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gdn", "mamba2"])
@torch.no_grad()
def test_a_variant_that_computes_otherwise_is_served_by_its_steps(name, layer):
    kind = type(layer)
    serving = type(layer.serve(norm_of("rms", layer.width), slots_of(1)))
    layer.__class__ = type("Named", (kind,), {})
    assert type(layer.serve(norm_of("rms", layer.width), slots_of(1))) is serving
    layer.__class__ = type("Negated", (kind,), {"_output": lambda self, *given: -kind._output(self, *given)})
    assert type(layer.serve(norm_of("rms", layer.width), slots_of(1))) is StepByStep


@each
@torch.no_grad()
def test_a_state_goes_out_and_in_again(name, layer):
    """In half precision, into another row that stands elsewhere in its ring: not a bit is lost."""
    half = torch.bfloat16
    serving = layer.serve(norm_of("rms", layer.width), slots := slots_of(3, half, half))
    for row, length in enumerate(PREFIXES[1:]):
        slots.lengths[row] = length
        _, state = layer.double()(draw(1, length, layer.width, seed=row), layer.init_state(1))
        serving.load(slice(row, row + 1), state)
    before = serving.unload(slice(2, 3))
    assert before["memory"].dtype == torch.float32
    slots.lengths[0] = PREFIXES[-1] + 3
    serving.load(slice(0, 1), before)
    after = serving.unload(slice(0, 1))
    assert all(torch.equal(after[part], before[part]) for part in before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@each
@torch.no_grad()
def test_our_kernels_in_a_graph_are_near_float64(name, tiny_decoder):
    arch, options = LAYERS[name]
    wide = {"gdn": {"head_k_dim": 16, "head_v_dim": 24}, "mamba2": {"state_dim": 16, "head_dim": 16}}
    model = tiny_decoder(arch, depth=1, width=64, base_width=64, options={arch: {**wide[arch], **options}})
    layer, norm = model.block_list()[0].mixer, norm_of("rms", 64)
    x, y = (draw(3, TOKENS, 64, seed=seed) for seed in (1, 2))
    _, expected, _ = stepped(layer, norm, x, y, layer.init_state(3))
    slots = slots_of(3, torch.bfloat16, torch.float32, "triton", "cuda")
    serving = copy.deepcopy(layer).float().cuda().serve(norm.float().cuda(), slots, factor=FACTOR)
    x, y = x.float().cuda(), y.bfloat16().cuda()
    one, other = x[:, 0].clone(), y[:, 0].clone()

    def token():
        out = serving.step(one, other, {})[1]
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
        graph.replay()
        outs.append(out.clone())
    found = torch.stack(outs, 1).double().cpu()
    assert (found - expected).norm() < 2e-2 * expected.norm()
