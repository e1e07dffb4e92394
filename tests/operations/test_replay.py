"""Passes that come again are replayed: as they would run, on other tensors, and never where anything else differs.

Without a GPU: launching runs as far as Triton's launcher in C, in whose place numpy stands.
"""

import contextlib
import ctypes
import weakref

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from gdnbench_kernels import launching, replay
from gdnbench_kernels.launching import launch

from tests.operations.no_gpu import Driver, launches

HOPPER = 90


@triton.jit
def scaled(x, y, n, FACTOR: tl.constexpr):
    """``y = FACTOR x``, n numbers: see `multiply`."""


def multiply(kernel, *given):
    x, y, n, factor = given[-4:]
    source, target = (np.ctypeslib.as_array((ctypes.c_float * n).from_address(address)) for address in (x, y))
    target[:] = factor * source


@pytest.fixture
def in_c():
    with launches(multiply) as calls:
        yield calls


class Pass:
    """A pass of two kernels, between them functions of PyTorch; counts how often it is worked out.

    Returns ``factor^2 x + 1`` by row, its sum over rows, and the second half of ``x``, times ``factor``.
    """

    def __init__(self):
        self.times, self.elsewhere = 0, None
        self.replayed = replay.replayed(self.run)

    def run(self, x: torch.Tensor, bias: torch.Tensor | None, factor: float, deep: bool) -> tuple[torch.Tensor, ...]:
        self.times += 1
        flat = x.contiguous().float().view(-1)
        middle, y = flat.new_empty(flat.shape), x.new_empty(x.shape, dtype=torch.float32)
        half = torch.empty_like(middle[flat.numel() // 2 :])
        launch(scaled, (1,), x=flat, y=middle, n=flat.numel(), FACTOR=factor)
        launch(scaled, (1,), x=middle, y=y.view(-1), n=flat.numel(), FACTOR=factor)
        launch(scaled, (1,), x=flat[len(half) :], y=half, n=len(half), FACTOR=factor)
        y.add_(1 if bias is None else bias)
        return y, y.sum(0), half


def expected(x, bias, factor, deep):
    flat = x.contiguous().float()
    y = factor**2 * flat + (1 if bias is None else bias)
    return y, y.sum(0), factor * flat.flatten()[flat.numel() // 2 :]


def draw(*shape, **options):
    return torch.randn(*shape, **options)


@pytest.fixture
def made(in_c):
    return Pass()


def call(made, *arguments):
    """Make the pass, check what it returns, and return whether it was worked out."""
    before = made.times
    for actual, wanted in zip(made.replayed(*arguments), expected(*arguments), strict=True):
        torch.testing.assert_close(actual, wanted)
    return made.times > before


def test_a_pass_is_worked_out_twice_and_then_replayed_on_other_tensors(made, in_c):
    bias = draw(6)
    assert [call(made, draw(4, 6), bias, 2.0, False) for _ in range(5)] == [True, True, False, False, False]
    assert len(in_c) == 15


def misaligned():
    return draw(25)[1:].view(4, 6)


DIFFERENT = {
    "type": lambda: (draw(4, 6).double(), None, 2.0, False),
    "shape": lambda: (draw(6, 4), None, 2.0, False),
    "strides": lambda: (draw(6, 4).T, None, 2.0, False),
    "alignment": lambda: (misaligned(), None, 2.0, False),
    "a tensor for None": lambda: (draw(4, 6), draw(6), 2.0, False),
    "number": lambda: (draw(4, 6), None, 3.0, False),
    "type of an equal number": lambda: (draw(4, 6), None, 2, False),
    "bool": lambda: (draw(4, 6), None, 2.0, True),
    "type of an equal bool": lambda: (draw(4, 6), None, 2.0, 0),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_not_replayed_and_both_are_right_after(made, other):
    usual = lambda: (draw(4, 6), None, 2.0, False)  # noqa: E731
    assert [call(made, *usual()) for _ in range(3)] == [True, True, False]
    assert [call(made, *other()) for _ in range(3)] == [True, True, False]
    assert not call(made, *usual())
    assert not call(made, *other())


def test_another_device_is_not_replayed(made, monkeypatch):
    for device in (0, 1):
        monkeypatch.setattr(Driver, "device", device)
        assert [call(made, draw(4, 6), None, 2.0, False) for _ in range(3)] == [True, True, False]


def test_another_autocast_is_not_replayed(made, monkeypatch):
    for enabled in (False, True):
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda device, enabled=enabled: enabled)
        assert [call(made, draw(4, 6), None, 2.0, False) for _ in range(3)] == [True, True, False]


def test_a_replay_goes_to_the_current_stream(made, in_c, monkeypatch):
    for _ in range(2):
        made.replayed(draw(4, 6), None, 2.0, False)
    monkeypatch.setattr(Driver, "stream", 9)
    made.replayed(draw(4, 6), None, 2.0, False)
    assert [given[3] for _, given in in_c] == [5] * 6 + [9] * 3


def test_one_tensor_given_twice_is_not_taken_for_one(in_c):
    def add(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (a + 2 * b,)

    run, x = replay.replayed(add), draw(3)
    for _ in range(3):
        assert torch.equal(run(x, x)[0], 3 * x)
    y = draw(3)
    assert torch.equal(run(x, y)[0], x + 2 * y)


def test_what_it_is_given_may_be_written(in_c):
    def write(state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state[1:].copy_(x)
        launch(scaled, (1,), x=x, y=state, n=1, FACTOR=3)
        return (x.clone(),)

    run = replay.replayed(write)
    for _ in range(4):
        state, x = torch.zeros(3), draw(2)
        run(state, x)
        torch.testing.assert_close(state, torch.cat([3 * x[:1], x]))


def test_tapes_hold_no_tensors(made):
    x = draw(4, 6)
    kept = [weakref.ref(x)]
    for _ in range(3):
        kept += [weakref.ref(result) for result in made.replayed(x, None, 2.0, False)]
    del x
    assert [each() for each in kept] == [None] * len(kept)


ELSEWHERE = torch.ones(3)

UNWRITABLE = {
    "a value read on the host": lambda x: (x + x.sum().item(),),
    "a tensor from elsewhere": lambda x: (x + ELSEWHERE,),
    "a list of tensors": lambda x: (torch.cat([x, x]),),
    "several results": lambda x: x.unbind(),
}


@pytest.mark.parametrize("function", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_no_tape_holds_is_worked_out_every_time(function, in_c):
    times = []

    def counted(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        times.append(x)
        return function(x)

    run = replay.replayed(counted)
    for _ in range(4):
        x = draw(3)
        for actual, wanted in zip(run(x), function(x), strict=True):
            assert torch.equal(actual, wanted)
    assert len(times) == 4


def test_afresh_forgets_before_and_after(made):
    usual = draw(4, 6), None, 2.0, False
    assert [call(made, *usual) for _ in range(3)] == [True, True, False]
    with replay.afresh():
        assert [call(made, *usual) for _ in range(3)] == [True, True, False]
    assert [call(made, *usual) for _ in range(3)] == [True, True, False]


def test_no_more_is_kept_than_fits(made, monkeypatch):
    monkeypatch.setattr(replay, "MOST", 2)
    assert [call(made, draw(n, 2), None, 2.0, False) for n in (2, 4, 6) for _ in range(3)] == [True, True, False] * 3
    assert call(made, draw(2, 2), None, 2.0, False), "or it was kept"


def test_an_error_leaves_nothing_behind(made, monkeypatch):
    usual = draw(4, 6), None, 2.0, False
    call(made, *usual)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "contiguous", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.replayed(*usual)
    assert not launching.observed()
    assert [call(made, *usual) for _ in range(2)] == [True, False]


@contextlib.contextmanager
def hooked():
    """Let Triton tell of launches, as a profiler does."""
    hook = triton.knobs.runtime.launch_enter_hook
    hook.add(print)
    try:
        yield
    finally:
        hook.remove(print)


@pytest.mark.parametrize("observe", [lambda: launching.recorded(HOPPER), lambda: launching.told(print), hooked])
def test_observed_launches_are_worked_out(made, observe):
    usual = draw(4, 6), None, 2.0, False
    assert [call(made, *usual) for _ in range(3)] == [True, True, False]
    with observe():
        made.replayed(*usual)
    assert made.times == 3
    assert not call(made, *usual)
