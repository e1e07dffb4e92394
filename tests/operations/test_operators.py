"""Operators as PyTorch sees them, and that every pass of the package is replayed as it runs."""

import sys

import pytest
import torch
from gdnbench_kernels import launching
from gdnbench_kernels.gated_delta.gpu import choice, configurations
from gdnbench_kernels.gated_delta.gpu import operator as gated_delta
from gdnbench_kernels.gated_delta.gpu.step import gated_delta_step
from gdnbench_kernels.gated_norm.impl import triton as gated_norm
from gdnbench_kernels.operators import Operator
from gdnbench_kernels.short_convolution.impl import triton as short_convolution
from gdnbench_kernels.ssd.gpu import passes
from gdnbench_kernels.ssd.impl import triton as ssd
from torch.utils._python_dispatch import TorchDispatchMode

from tests.operations import no_gpu
from tests.operations.no_gpu import Descriptor, launches

HALF = torch.bfloat16


def times_double(x: torch.Tensor, y: torch.Tensor | None, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``factor x (y or 1)``, and its double."""
    product = factor * x if y is None else factor * x * y
    return product, 2 * product


def save(ctx, arguments, results):
    ctx.save_for_backward(*arguments[:2])
    ctx.factor = arguments[2]
    ctx.mark_non_differentiable(results[1])


def differentiate(ctx, d, _):
    x, y = ctx.saved_tensors
    dx, dy = backward(x, y, d, ctx.factor)
    return dx, None if y is None else dy, None


def gradients(
    x: torch.Tensor, y: torch.Tensor | None, d: torch.Tensor, factor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return factor * d if y is None else factor * d * y, factor * d * x


def like(x, *rest):
    return torch.empty_like(x), torch.empty_like(x)


backward = Operator("times_double_backward_of_a_test", gradients, fake=like)
forward = Operator("times_double_of_a_test", times_double, fake=like, save=save, differentiate=differentiate)


def drawn(wanted=True):
    return torch.randn(3, requires_grad=wanted)


@pytest.fixture(autouse=True)
def in_c():
    with launches() as calls:
        yield calls


def test_gradients_come_and_go_with_what_each_call_wants():
    for x_wants, y_wants in [(True, True), (True, False), (False, True), (False, False)] * 4:
        x, y = drawn(x_wants), drawn(y_wants)
        product, double = forward(x, y, 0.5)
        assert torch.equal(product, 0.5 * x * y)
        assert (product.requires_grad, double.requires_grad) == (x_wants or y_wants, False)
        wanted = [t for t in (x, y) if t.requires_grad]
        if wanted:
            d = torch.randn(3)
            expected = [0.5 * d * other for other, asked in ((y, x_wants), (x, y_wants)) if asked]
            for actual, right in zip(torch.autograd.grad(product, wanted, d), expected, strict=True):
                torch.testing.assert_close(actual, right)
        with torch.no_grad():
            assert not forward(x, y, 0.5)[0].requires_grad


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operators_and_nothing_inside():
    x, y = drawn(), drawn()
    for _ in range(3):
        forward(x, y, 2.0)
    with Seen() as seen:
        product, _ = forward(x, y, 2.0)
        (dx,) = torch.autograd.grad(product.sum(), x)
    ours = [name for name in seen.names if name.startswith("gdnbench")]
    assert ours == ["gdnbench.times_double_of_a_test.default", "gdnbench.times_double_backward_of_a_test.default"]
    assert "aten.mul.Tensor" not in seen.names
    assert torch.equal(dx, 2 * y)


def test_numbers_that_are_no_python_numbers_are_converted():
    import numpy as np

    assert torch.equal(forward(x := drawn(), None, np.float32(0.5))[0], 0.5 * x)


def write_double(x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return ``x + state`` and double ``state``, which PyTorch does not see, as it does not see kernels."""
    found = x + state
    state.data.mul_(2)
    return found


writing = Operator(
    "write_double_of_a_test", write_double, fake=lambda x, state: x.new_empty(x.shape), mutates=("state",)
)


@pytest.mark.parametrize("through", [writing, writing.traced])
def test_autograd_knows_what_is_written(through):
    for _ in range(4):
        x, state = drawn(False), drawn(False)
        y = drawn()
        product, before, version = y * state, state.clone(), state._version
        assert torch.equal(through(x, state), x + before)
        assert torch.equal(state, 2 * before)
        assert state._version > version
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()


@pytest.mark.parametrize("looked_on", [True, False])
def test_there_are_no_second_derivatives_and_it_is_said(looked_on):
    x, y = drawn(), drawn()
    product, _ = (forward.traced if looked_on else forward)(x, y, 2.0)
    (dx,) = torch.autograd.grad(product.square().sum(), x, create_graph=True)
    torch.testing.assert_close(dx, 2 * product * 2 * y)
    with pytest.raises(RuntimeError, match="no second derivatives; impl='torch'"):
        dx.sum().backward()


def rule(arch, *, tokens=(2, 130), heads=2, group=1, raw=False, packed=False, state=False, dims=(32, 64)):
    """Return the gated delta rule's two passes with their arguments: functions that draw others every time."""
    hv, sequences = heads * group, 3 if packed else tokens[0]
    ends = torch.tensor([0, 60, 60, tokens[1]], dtype=torch.int32) if packed else None

    def arguments():
        q, k = (torch.randn(*tokens, heads, dims[0], dtype=HALF) for _ in range(2))
        v, g, beta = (torch.randn(*tokens, hv, *rest, dtype=HALF) for rest in ([dims[1]], [], []))
        gates = (torch.randn(hv), torch.randn(hv)) if raw else (None, None)
        initial = torch.randn(sequences, hv, *dims) if state else None
        return q, k, v, g, beta, *gates, initial, ends

    options = 0.5, 1.0, 1.0 if raw else None, raw

    def backward_arguments():
        given = arguments()
        output, final, *kept = gated_delta.forward(*given, *options, state)
        return *given, *kept, torch.randn_like(output), torch.randn_like(final) if state else None, *options

    return [
        (gated_delta.gated_delta_forward, lambda: (*arguments(), *options, state)),
        (gated_delta.gated_delta_backward, backward_arguments),
    ]


def convolution(arch):
    def arguments():
        return torch.randn(2, 70, 40, dtype=HALF)[..., 8:], torch.randn(32, 4), torch.randn(32), None, None

    def backward_arguments():
        return *arguments(), torch.randn(2, 70, 32, dtype=HALF), None, True

    return [
        (short_convolution._forward, lambda: (*arguments(), True, False)),
        (short_convolution._backward, backward_arguments),
    ]


def norm(arch):
    def arguments():
        x, z = torch.randn(3, 5, 2, 32, dtype=HALF).unbind(2)
        return x, z, torch.randn(32)

    def skip():
        return True, torch.randn(3, 5, 32, dtype=HALF), torch.randn(2)

    return [
        (gated_norm._forward, lambda: (*arguments(), 1e-5, *skip())),
        (gated_norm._backward, lambda: (torch.randn(3, 5, 32, dtype=HALF), *arguments(), torch.randn(15), *skip())),
    ]


def walk(arch):
    def arguments():
        c, b = (torch.randn(2, 130, 1, 64, dtype=HALF) for _ in range(2))
        x = torch.randn(2, 130, 4, 64, dtype=HALF)
        return c, b, x, torch.randn(2, 130, 4), torch.randn(2, 130, 4), torch.randn(2, 4, 64, 64)

    def backward_arguments():
        return *arguments(), torch.randn(2, 130, 4, 64, dtype=HALF), torch.randn(2, 4, 64, 64)

    return [(ssd._forward, lambda: (*arguments(), True)), (ssd._backward, backward_arguments)]


def decoding(arch):
    def arguments():
        q, k, v = (torch.randn(3, heads, 64, dtype=HALF) for heads in (2, 2, 4))
        g, beta = (torch.randn(3, 4, dtype=HALF) for _ in range(2))
        return q, k, v, g, beta, torch.randn(3, 4, 64, 64), torch.randn(4), torch.randn(4), 0.5, 1.0, 1.0, True

    return [(gated_delta_step, arguments)]


CALLS = {
    "gated delta rule": rule,
    "raw, state": lambda arch: rule(arch, raw=True, state=True, group=2),
    "pieces": lambda arch: rule(arch, tokens=(1, 2100), state=True),
    "packed": lambda arch: rule(arch, tokens=(1, 130), packed=True, raw=True, state=True),
    "packed pieces": lambda arch: rule(arch, tokens=(1, 2100), packed=True),
    "several tiles of keys": lambda arch: rule(arch, dims=(256, 64)),
    "short convolution": convolution,
    "gated norm": norm,
    "ssd": walk,
    "decode step": decoding,
}


def canonical(calls, arguments):
    """Return what launchers were given, addresses by what they are of: an argument, or the nth that was made."""
    homes = [(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()) for x in arguments if torch.is_tensor(x)]
    made = {}

    def of(x):
        if isinstance(x, Descriptor):
            return of(x.address), x.rest
        if type(x) is not int or x < 2**32:
            return x
        inside = [(i, x - begin) for i, (begin, size) in enumerate(homes) if begin <= x < begin + size]
        return ("argument", *inside[0]) if inside else ("made", made.setdefault(x, len(made)))

    return [(name, list(map(of, given))) for name, given in calls]


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_pass_is_replayed_as_it_runs(call, arch, in_c, monkeypatch):
    for module in (choice, configurations, passes):
        monkeypatch.setattr(module, "arch_of", lambda device: arch)
    for operator, draw in call(arch):
        for _ in range(2):
            operator.run(*draw())
        arguments = draw()
        in_c.clear()
        with monkeypatch.context() as patch:
            patch.setattr(launching, "specialization", None)  # a replay works no launch out
            replayed = operator.run(*arguments)
        by_replay = canonical(in_c, arguments)
        in_c.clear()
        with launching.told(lambda *launched: None):
            run = operator.run(*arguments)
        assert by_replay == canonical(in_c, arguments) != []
        pairs = zip(replayed, run, strict=True) if isinstance(run, tuple) else [(replayed, run)]
        for one, other in pairs:
            assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


def python_calls(operator, arguments):
    """Return how many functions, Python's and C's, a pass calls; what stands for the GPU does not count."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call") and frame.f_code.co_filename != no_gpu.__file__

    sys.setprofile(note)
    try:
        operator.run(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_a_replay_costs_the_host_a_fraction(monkeypatch):
    for module in (choice, configurations):
        monkeypatch.setattr(module, "arch_of", lambda device: 90)
    for operator, draw in rule(90):
        arguments = draw()
        for _ in range(3):
            operator.run(*arguments)
        with launching.told(lambda *launched: None):
            worked_out = python_calls(operator, arguments)
        replayed = python_calls(operator, arguments)
        assert replayed < worked_out / 2, (replayed, worked_out)
