"""One token's product with its norm, gate and activation: its definition, PyTorch's form, the GPU kernels."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.fused_linear import fused_linear
from torch.nn import functional as F

F64 = torch.float64
forms = pytest.mark.parametrize("impl", ["reference", "torch"])


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call: sizes, which tensors are given, and settings."""

    batch: int = 1
    width: int = 48
    rows: int = 24
    tensors: tuple[str, ...] = ()
    norm_size: int | None = None
    mix_rows: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


CALLS = {
    "plain": Call(),
    "residual and norm": Call(tensors=("add", "norm")),
    "swiglu": Call(tensors=("add", "norm"), settings={"activation": "swiglu", "eps": 0.5}),
    "grouped norm, then gate": Call(tensors=("norm", "gate"), norm_size=16, settings={"group_size": 16}),
    "gate, then norm": Call(tensors=("norm", "gate"), settings={"gate_first": True, "scale": -0.7}),
    "gate alone": Call(tensors=("gate",)),
    "layer norms of groups": Call(tensors=("add", "norm", "norm_bias"), settings={"group_size": 24}),
    "token shift": Call(
        tensors=("add", "norm", "norm_bias", "previous", "mix"), mix_rows=(8, 3, 13), settings={"scale": 1.5}
    ),
    "channel mix": Call(
        tensors=("norm", "previous", "mix"), mix_rows=(24,), settings={"activation": "relu2", "scale": 2.0}
    ),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def arguments(call, dtype, *, stream=None, device="cpu"):
    """Return tensors of bfloat16's numbers; x, if nothing else, in the type of the residual stream."""
    rng = torch.Generator().manual_seed(0)

    def drawn(*size):
        return torch.randn(size, generator=rng, dtype=F64).bfloat16().to(device, dtype)

    sizes = dict.fromkeys(("x", "add", "gate", "previous"), (call.batch, call.width))
    sizes |= dict.fromkeys(("norm", "norm_bias"), (call.norm_size or call.width,))
    sizes["mix"] = (len(call.mix_rows), call.width)
    made = {name: drawn(*sizes[name]) for name in ("x", *call.tensors)}
    made["x"] = made["x"].to(stream or dtype)
    return made | {"weight": drawn(call.rows, call.width) * call.width**-0.5, "mix_rows": call.mix_rows}


def mismatches(call, dtype, impl, *, device="cpu", stream=None, **more):
    """Return what is over budget, by name, of what backend ``impl`` computes."""
    given = arguments(call, dtype, stream=stream, device=device)
    exact = {name: x.to(F64) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
    expected = fused_linear(**exact, **call.settings, impl="reference")
    actual = fused_linear(**given, **call.settings, **more, impl=impl)
    assert actual.y.dtype == more.get("out_dtype", dtype)
    assert actual.total.dtype == given["x"].dtype
    assert (actual.normed is None) == ("previous" not in given)
    of = {name: x for name, x in actual._asdict().items() if x is not None}
    return testing.over_budget(of, {name: getattr(expected, name) for name in of}, dtype)


def test_definition():
    """Written out for one channel group, against PyTorch's modules."""
    x, y, z, previous = torch.randn(4, 2, 6, dtype=F64)
    weight, mix, norm = torch.randn(10, 6, dtype=F64), torch.rand(2, 6, dtype=F64), torch.rand(6, dtype=F64)
    given = {"add": y, "norm": norm, "previous": previous, "mix": mix, "mix_rows": (4, 6), "impl": "reference"}
    found = fused_linear(x, weight, **given, scale=3.0)
    u = F.rms_norm(x + y, (6,), norm, 1e-6)
    mixed = [u + (previous - u) * m for m in mix]
    assert torch.equal(found.total, x + y)
    torch.testing.assert_close(found.normed, u)
    torch.testing.assert_close(found.y, 3 * torch.cat([mixed[0] @ weight[:4].T, mixed[1] @ weight[4:].T], -1))
    gated = fused_linear(x, weight, norm=norm[:3], group_size=3, gate=z, activation="swiglu", impl="reference").y
    u = (F.rms_norm(x.unflatten(-1, (2, 3)), (3,), norm[:3], 1e-6)).flatten(-2) * F.silu(z)
    torch.testing.assert_close(gated, F.silu(u @ weight[:5].T) * (u @ weight[5:].T))
    first = fused_linear(x, weight, norm=norm, norm_bias=mix[0], gate=z, gate_first=True, impl="reference").y
    torch.testing.assert_close(first, F.layer_norm(x * F.silu(z), (6,), norm, mix[0], 1e-6) @ weight.T)


@every_call
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_forms_agree(call, dtype):
    assert mismatches(call, dtype, "torch", stream=None if dtype == F64 else torch.float32) == {}


@forms
def test_types(impl):
    given = arguments(Call(batch=2, tensors=("add", "norm")), torch.bfloat16, stream=torch.float32)
    found = fused_linear(**given, out_dtype=torch.float32, impl=impl)
    assert (found.y.dtype, found.total.dtype) == (torch.float32, torch.float32)
    assert torch.equal(found.total, given["x"] + given["add"])
    exact = fused_linear(**{name: x.double() if name != "mix_rows" else x for name, x in given.items()}).y
    assert testing.relative_error(found.y, exact) < 4e-3, "one rounding of the input, none of the sums"


@forms
def test_a_sum_in_parts_is_added_up(impl):
    given, parts = arguments(Call(batch=2, tensors=("norm",)), F64), torch.randn(3, 2, 48, dtype=F64)
    found, once = (fused_linear(**given, add=add, impl=impl) for add in (parts, parts.sum(0)))
    assert torch.equal(found.total, once.total)
    assert torch.equal(found.y, once.y)


@forms
def test_carries_along(impl):
    source, target = torch.randn(2, 3, 5)
    given = arguments(Call(), torch.float32)
    fused_linear(**given, carry=(source, target), impl=impl)
    assert torch.equal(target, source)


WRONG = {
    "x: expected shape [B, K]": {"x": torch.ones(48)},
    "weight: expected shape [N, 48]": {"weight": torch.ones(24, 47)},
    "add: expected shape [1, 48]": {"add": torch.ones(2, 48)},
    "add: torch.float64, but": {"add": torch.ones(1, 48, dtype=F64)},
    "gate: expected a contiguous last dimension": {"gate": torch.ones(48, 2).T[:1]},
    "norm: expected shape [48], got [24]": {"norm": torch.ones(24)},
    "norm_bias: belongs to a norm": {"norm_bias": torch.ones(48)},
    "group_size: 48 is not a positive multiple of group_size = 7": {"group_size": 7},
    "previous: comes with mix": {"previous": torch.ones(1, 48)},
    "mix_rows: expected 1 numbers of rows that add up to 24, got (23,)": {
        "previous": torch.ones(1, 48), "mix": torch.ones(1, 48), "mix_rows": (23,),
    },
    "mix_rows: expected 0 numbers": {"mix_rows": (24,)},
    "add: expected shape [any, 1, 48]": {"add": torch.ones(2, 2, 48)},
    "add: strides [0, 48, 1], expected contiguous parts": {"add": torch.ones(1, 1, 48).expand(2, 1, 48)},
    "add: torch.float16, expected parts in float32": {"add": torch.ones(2, 1, 48, dtype=torch.float16)},
    "parts: what relu2 makes of y is no sum of parts": {"parts": True, "activation": "relu2"},
    "activation: 'relu', expected one of none, swiglu, relu2": {"activation": "relu"},
    "weight: swiglu takes an even number of rows": {"weight": torch.ones(23, 48), "activation": "swiglu"},
    "carry: expected shape [3], got [4]": {"carry": (torch.ones(3), torch.ones(4))},
}  # fmt: skip


@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=WRONG)
def test_what_does_not_fit_is_refused(message, change):
    with pytest.raises(ValueError) as refused:
        fused_linear(**(arguments(Call(), torch.float32) | change))
    assert str(refused.value).startswith(message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_kernels_say_that_they_need_a_gpu():
    with pytest.raises(BackendUnavailable, match=r"'triton' of fused_linear cannot run here: it needs an NVIDIA GPU"):
        fused_linear(**arguments(Call(), torch.float32), impl="triton")


WHOLE = {
    "1.3B in": Call(width=2048, rows=9228, tensors=("add", "norm")),
    "1.3B out": Call(width=3072, rows=2048, tensors=("norm", "gate"), norm_size=512, settings={"group_size": 512}),
    "1.3B up": Call(width=2048, rows=11264, tensors=("add", "norm"), settings={"activation": "swiglu"}),
    "1.3B down": Call(width=5632, rows=2048),
    "125M out": Call(width=1152, rows=768, tensors=("norm", "gate"), norm_size=192, settings={"group_size": 192}),
    "a token shift": Call(
        width=768, rows=2500, tensors=("add", "norm", "norm_bias", "previous", "mix"),
        mix_rows=(768, 768, 768, 64, 64, 68),
    ),
}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
class TestOnGpu:
    @every_call
    @pytest.mark.parametrize("batch", [1, 4, 5, 64])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_equals_the_definition(self, call, batch, dtype, monkeypatch):
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
        call = replace(call, batch=batch)
        assert mismatches(call, dtype, "triton", device="cuda", stream=torch.float32) == {}

    @pytest.mark.parametrize("call", WHOLE.values(), ids=WHOLE)
    @pytest.mark.parametrize("batch", [1, 4, 8, 64])
    def test_whole_layers(self, call, batch):
        call = replace(call, batch=batch)
        assert mismatches(call, torch.bfloat16, "triton", device="cuda", stream=torch.float32) == {}
        more = {"out_dtype": torch.float32}
        assert mismatches(call, torch.bfloat16, "triton", device="cuda", stream=torch.float32, **more) == {}

    @every_call
    @pytest.mark.parametrize("batch", [3, 17, 64])
    @pytest.mark.parametrize(("width", "rows", "mix_rows"), [(1160, 200, (130, 3, 67)), (16, 1, (1,))])
    def test_widths_and_rows_that_no_tile_fits(self, call, batch, width, rows, mix_rows):
        swiglu = call.settings.get("activation") == "swiglu"
        sizes: dict[str, Any] = {"norm_size": None, "mix_rows": mix_rows if len(call.mix_rows) > 1 else call.mix_rows}
        if len(call.mix_rows) == 1:
            sizes["mix_rows"] = (rows,)
        settings = call.settings | ({"group_size": 8} if "group_size" in call.settings else {})
        call = replace(call, batch=batch, width=width, rows=rows * (1 + swiglu), settings=settings, **sizes)
        assert mismatches(call, torch.bfloat16, "triton", device="cuda", stream=torch.float32) == {}

    @pytest.mark.parametrize("batch", [3, 64])
    def test_y_in_parts_where_it_may_be(self, batch):
        given = arguments(Call(batch=batch, width=1160, rows=200), torch.bfloat16, device="cuda")
        parts = fused_linear(**given, scale=1.5, parts=True, impl="triton").y
        assert (parts.shape[1:], parts.dtype) == ((batch, 200), torch.float32)
        assert len(parts) > 1, "a matrix of few rows"
        exact = fused_linear(**{n: v.double() if torch.is_tensor(v) else v for n, v in given.items()}, scale=1.5).y
        assert testing.relative_error(parts.sum(0), exact) < 1e-4, "no rounding to bfloat16"

    def test_a_captured_chain_is_bitwise_that_of_its_calls_one_by_one(self):
        given = arguments(Call(width=1024, rows=1024, tensors=("add", "norm")), torch.bfloat16, device="cuda")
        weights = torch.stack([given["weight"].roll(i, 0) for i in range(24)])
        carried = torch.zeros(24, 1, 1024, dtype=torch.bfloat16, device="cuda")

        def chain(between):
            x, y = given["x"].float(), given["add"]
            for i, weight in enumerate(weights):
                y, x, _ = fused_linear(x, weight, add=y, norm=given["norm"], carry=(y, carried[i]), impl="triton")
                between()
            return x, y

        one_by_one = *chain(torch.cuda.synchronize), carried.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = *chain(lambda: None), carried
        for _ in range(50):
            carried.zero_()
            graph.replay()
            assert all(torch.equal(one, other) for one, other in zip(captured, one_by_one, strict=True))
