"""The kernels of the gated delta rule as operators of PyTorch, and that the comparison with float64 can fail."""

import pytest
import torch
from gdnbench_kernels.gated_delta.gpu import operator  # noqa: F401  (registers the custom ops)
from gdnbench_kernels.testing import Case

from tests.operations.agreement import RAW, disagreements, draw, exact, run
from tests.operations.layer import Layer, forward_and_backward

F32 = torch.float32
OPTIONAL = ("A_log", "dt_bias", "initial_state")

CALLS = {
    "all raw, state": (Case(batch=1, time=66, heads=1, group=2, key_dim=16, value_dim=16), {"raw": RAW}),
    "packed, no state": (Case(heads=2, key_dim=16, value_dim=24, state=False), {"lengths": [3, 2]}),
}


def arguments(call):
    """Return the arguments of the forward operator, in its order."""
    x, settings = call.tensors, call.settings
    tensors = [x[name] for name in ("q", "k", "v", "g", "beta")] + [x.get(name) for name in OPTIONAL]
    options = (settings["scale"], settings.get("gate_scale", 1.0), settings.get("beta_range"))
    return *tensors, settings.get("cu_seqlens"), *options, settings.get("normalize_qk", False)


@pytest.mark.parametrize(("case", "options"), CALLS.values(), ids=CALLS)
def test_forward_and_backward_are_proper_operators(case, options):
    call = draw(case, F32, **options)
    x = [t.requires_grad_() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in arguments(call)]
    ops = torch.ops.gdnbench
    torch.library.opcheck(ops.gated_delta_forward.default, (*x, True))
    plain = [t.detach() if isinstance(t, torch.Tensor) else t for t in x]
    output, final, *kept = ops.gated_delta_forward(*plain, True)
    torch.library.opcheck(ops.gated_delta_backward.default, (*plain[:9], *kept, output, final, *plain[9:]))


@pytest.mark.parametrize("raw", [False, True])
def test_compiles_without_a_graph_break(raw):
    torch.manual_seed(0)
    layer = Layer(heads=1, group=2, key_dim=16, value_dim=24, raw=raw)
    x, state = torch.randn(1, 66, 32, requires_grad=True), torch.randn(1, 2, 16, 24, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for eager, traced in zip(*(forward_and_backward(form, x, state) for form in (layer, compiled)), strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("dtype", [F32, torch.bfloat16])
@pytest.mark.parametrize("key_dim", [16, 136])
def test_a_wrong_sign_in_any_one_gradient_is_found(key_dim, dtype):
    call = draw(Case(batch=1, time=66, heads=1, group=2, key_dim=key_dim, value_dim=16), dtype, raw=RAW)
    actual, expected = run(call), exact(call)
    assert disagreements(actual, expected, dtype) == {}
    gradients = [name for name in expected if name.startswith("d_")]
    assert {name.removeprefix("d_") for name in gradients} == call.tensors.keys()
    for name in gradients:
        assert disagreements(actual | {name: -actual[name]}, expected, dtype).keys() == {name}


@pytest.mark.parametrize("part", [(0, 4000), (0, slice(4032, None), 1), (slice(None), slice(None), slice(None), 7)])
def test_a_wrong_token_tail_or_column_of_a_long_sequence_is_found(part):
    expected = {"d_k": torch.randn(1, 4096, 2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    wrong = {"d_k": expected["d_k"].clone()}
    wrong["d_k"][part] = 0
    assert disagreements(wrong, expected, torch.bfloat16)
    wrong["d_k"][part] = torch.nan
    assert disagreements(wrong, expected, torch.bfloat16)
    assert not disagreements({"d_k": expected["d_k"].bfloat16()}, expected, torch.bfloat16)
