"""Launches keep the kernel that Triton found for them; here without a GPU, against the keys of Triton's own cache."""

import pytest
import torch
import triton
import triton.language as tl
from gdnbench_kernels import launching, resources
from gdnbench_kernels.gated_delta.gpu.hopper.warpgroups import Tiles
from gdnbench_kernels.launching import Launch
from hypothesis import given
from hypothesis import strategies as st
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.runtime.jit import JITFunction

HOPPER = 90


@triton.jit(do_not_specialize=["free"])
def plain(x, maybe, stride, free, number, flag, WIDTH: tl.constexpr):
    pass


@gluon.jit
def tiled(tiles, maybe, stride, free, number, flag, WIDTH: gl.constexpr):
    pass


def tensor(dtype=torch.bfloat16, offset=0):
    return torch.empty(2, 64, 2, 72, dtype=dtype)[..., offset : offset + 64]


def tiles(dtype=torch.bfloat16, width=64):
    return Tiles(tensor(dtype), (1, 64, 1, width))


USUAL = {"maybe": tensor(), "stride": 64, "free": 3, "number": 0.5, "flag": True, "WIDTH": 1, "num_warps": 4}
TYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
TENSORS = st.builds(tensor, TYPES, st.integers(0, 8)) | st.builds(torch.nn.Parameter, st.builds(tensor, TYPES))
NUMBERS = st.sampled_from([0, 1, 2, 16, 17, -1, -16, 2**31 - 16, 2**31 - 1, 2**31, 2**63 - 16, 2**63, 2**63 + 1])
ARGUMENTS = {
    "maybe": st.none() | TENSORS | NUMBERS,
    "stride": NUMBERS | st.integers(-(2**63), 2**64 - 1),
    "free": NUMBERS | st.integers(-(2**63), 2**64 - 1),
    "number": st.floats() | st.integers(-2, 2),
    "flag": st.booleans() | NUMBERS | st.none(),
    "WIDTH": st.sampled_from([None, 0, 1, 2, True, False, 0.0, 1.0, "1", tl.float32, tl.float16]),
    "num_warps": st.sampled_from([1, 4]),
    "maxnreg": st.sampled_from([128, 168]),
}
FIRST = {plain: ("x", TENSORS), tiled: ("tiles", st.builds(tiles, TYPES, st.sampled_from([16, 64])))}


def keys(kernel, arguments):
    """Return the key of a launch here and in Triton."""
    options = {name: value for name, value in arguments.items() if name in launching.OPTIONS}
    rest = {name: value for name, value in arguments.items() if name not in options}
    launch = Launch(kernel=kernel, grid=(1,), arguments=rest, options=options)
    return launching.specialization(kernel, arguments), resources.specialization(launch, HOPPER)


@st.composite
def families(draw):
    """Return a kernel and the arguments of launches that differ in one of them."""
    kernel = draw(st.sampled_from([plain, tiled]))
    first, values = FIRST[kernel]
    strategies = {first: values, **ARGUMENTS}
    common = {first: draw(values)} | {name: draw(strategies[name]) for name in USUAL}
    name = draw(st.sampled_from(sorted(strategies)))
    return kernel, [common | {name: value} for value in draw(st.lists(strategies[name], min_size=5, max_size=15))]


@given(families())
def test_launches_with_one_key_are_one_to_triton(family):
    kernel, launches = family
    in_triton = {}
    for arguments in launches:
        here, there = keys(kernel, arguments)
        assert in_triton.setdefault(here, there) == there


DIFFERENT = {
    "another type": {"x": tensor(torch.float16)},
    "misaligned pointer": {"x": tensor(offset=1)},
    "no tensor": {"maybe": None},
    "number for a tensor": {"maybe": 64},
    "odd stride": {"stride": 65},
    "stride 1": {"stride": 1},
    "wide stride": {"stride": 2**31},
    "unsigned stride": {"stride": 2**63},
    "wide number that is not specialized": {"free": 2**31},
    "integer for a float": {"number": 2},
    "integer for a bool": {"flag": 2},
    "another constexpr": {"WIDTH": 2},
    "warps": {"num_warps": 8},
    "another option": {"maxnreg": 128},
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_what_triton_compiles_anew_has_another_key(change):
    usual = {"x": tensor()} | USUAL
    (here, in_triton), (here_too, in_triton_too) = keys(plain, usual), keys(plain, usual | change)
    assert in_triton != in_triton_too
    assert here != here_too


@pytest.mark.parametrize("equal", [True, 1.0])
def test_constexprs_that_are_equal_but_of_other_types_have_another_key(equal):
    """Triton itself takes them for the same, and runs what it compiled first."""
    usual = {"x": tensor()} | USUAL
    assert launching.specialization(plain, usual) != launching.specialization(plain, usual | {"WIDTH": equal})


@pytest.mark.parametrize("change", [{"tiles": tiles(torch.float16)}, {"tiles": tiles(width=32)}])
def test_descriptors_of_other_types_or_tiles_have_another_key(change):
    usual = {"tiles": tiles()} | USUAL
    (here, in_triton), (here_too, in_triton_too) = keys(tiled, usual), keys(tiled, usual | change)
    assert in_triton != in_triton_too
    assert here != here_too


@pytest.mark.parametrize("change", [{"x": tensor()}, {"stride": 128}, {"free": 5}, {"number": -2.0}, {"flag": False}])
def test_what_varies_from_call_to_call_needs_no_other_key(change):
    usual = {"x": tensor()} | USUAL
    assert keys(plain, usual) == keys(plain, usual | change)


def test_kernels_do_not_share_keys():
    other = JITFunction(plain.fn, do_not_specialize=["stride"])
    arguments = {"x": tensor()} | USUAL
    assert launching.specialization(plain, arguments) != launching.specialization(other, arguments)


class Compiled:
    """Stands for a compiled kernel, as Triton returns it; keeps what it is called with."""

    def __init__(self):
        self.calls = []

    def __getitem__(self, grid):
        return lambda *arguments: self.calls.append((grid, arguments))


@pytest.fixture
def compiled(monkeypatch):
    """Make Triton find a kernel of its own for each launch, on a GPU that is not there; return them all."""
    found = []

    def run(self, *args, grid, warmup, **kwargs):
        found.append(Compiled())
        found[-1].function = len(found)
        return found[-1]

    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(launching, "_compiled", {})
    with resources._architecture(HOPPER):
        yield found


def test_triton_is_asked_once_for_each_key(compiled):
    x, y, misaligned = tensor(), tensor(), tensor(offset=1)
    for first in (x, y, misaligned, misaligned):
        launching.launch(plain, (3, 2), **USUAL, x=first)
    assert len(compiled) == 2
    rest = tuple(USUAL[name] for name in plain.arg_names[1:])
    assert compiled[0].calls == [((3, 2, 1), (y, *rest))]
    assert compiled[1].calls == [((3, 2, 1), (misaligned, *rest))]


def test_a_preference_for_shared_memory_is_told_to_the_driver_once_for_each_kernel(compiled, monkeypatch):
    told = []
    preferring = launching.prefer_shared(28)(JITFunction(plain.fn))
    monkeypatch.setattr(launching, "_prefer", lambda *given: told.append(given))
    for first in (tensor(), tensor(), tensor(offset=1)):
        launching.launch(preferring, (1,), **USUAL, x=first)
    launching.launch(plain, (1,), **USUAL, x=tensor())
    assert told == [(1, 28), (2, 28)]


def test_devices_do_not_share_kernels(compiled, monkeypatch):
    for device in (0, 1, 1):
        monkeypatch.setattr(launching.driver.active, "get_current_device", lambda device=device: device)
        launching.launch(plain, (1,), **USUAL, x=tensor())
    assert [len(kernel.calls) for kernel in compiled] == [0, 1]


def test_recorded_and_empty_launches_do_not_run(compiled):
    with launching.recorded(HOPPER) as made:
        launching.launch(plain, (1,), **USUAL, x=tensor())
    launching.launch(plain, (4, 0), **USUAL, x=tensor())
    assert len(made) == 1
    assert made[0].options == {"num_warps": 4}
    assert compiled == []


def test_a_launch_names_all_arguments(compiled):
    with pytest.raises(TypeError, match="x: not given to plain"):
        launching.launch(plain, (1,), **USUAL)
