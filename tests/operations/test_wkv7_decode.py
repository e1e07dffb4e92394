"""One token of RWKV-7's time mixing: bad arguments, and the kernel on a GPU; `interpreted` has it for the CPU.

The definition is held to the layer's own form in the tests of models.
"""

import dataclasses

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.wkv7_decode import Maps, wkv7_decode

# B, H, K, and the ranks of value, decay, rate and gate (0: a first layer).
SIZES = [(2, 2, 16, (4, 3, 5, 7)), (1, 3, 24, (0, 16, 16, 32)), (3, 1, 40, (16, 16, 20, 16))]
MODELS = [
    (1, 32, 64, (32, 32, 32, 64)),
    (64, 32, 64, (32, 64, 64, 128)),
    (3, 16, 128, (32, 32, 32, 64)),
    (2, 4, 512, (32, 64, 64, 128)),
]
LARGE = [(1, 2, 136, (16, 8, 16, 16)), (2, 1, 144, (0, 4, 4, 4))]


def draw(size, dtype=torch.float64, state_dtype=None, *, device="cpu", seed=0):
    """Return the tensor arguments of a call, and the layer's parameters."""
    batch, heads, dim, (value, decay, rate, gate) = size
    width, rng = heads * dim, torch.Generator(device).manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=rng, device=device, dtype=torch.float64)

    def up(rank):
        return normal(width, rank, scale=rank**-0.5) if rank else None

    vectors = ("decay_bias", "rate_bias", "removal", "replacement", "bonus", "norm_weight", "norm_bias")
    given = {name: normal(width) for name in vectors}
    ups = {"decay_up": up(decay), "rate_up": up(rate), "gate_up": up(gate), "value_up": up(value)}
    given |= ups | {"value_bias": normal(width) if value else None}
    maps = Maps(**{name: None if x is None else x.to(dtype) for name, x in given.items()})
    x = {
        "inputs": normal(batch, 3 * width + value + decay + rate + gate + 8).to(dtype),
        "first": normal(batch, 2 * width).to(dtype)[:, width:] if value else None,
        "memory": normal(batch, heads, dim, dim).to(state_dtype or dtype),
    }
    return x, maps


def differences(x, maps, **settings):
    """Return what is over budget, with the error: of the output and the memory, against float64."""
    exact = {name: None if t is None else t.double() for name, t in x.items()}
    exact["memory"] = exact["memory"].clone()
    wide = Maps(**{name: None if t is None else t.double() for name, t in vars(maps).items()})
    expected = wkv7_decode(**exact, maps=wide, eps=1e-3, impl="reference")
    found = wkv7_decode(**x, maps=maps, eps=1e-3, impl="triton", **settings)
    errors = {
        "output": (testing.relative_error(found, expected), x["inputs"].dtype),
        "memory": (testing.relative_error(x["memory"], exact["memory"]), x["memory"].dtype),
    }
    return {name: error for name, (error, dtype) in errors.items() if not error <= testing.BUDGETS[dtype].output}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("memory", lambda m: m[0], r"^memory: expected \[B, H, K, K\]"),
        ("memory", lambda m: m[..., :-1], r"^memory: expected \[B, H, K, K\]"),
        ("memory", lambda m: m.transpose(2, 3), r"^memory: expected a contiguous"),
        ("memory", lambda m: m.to("meta"), r"^memory: on meta"),
        ("inputs", lambda x: x[:, :-9], r"^inputs: expected shape \[2, 115 or more\]"),
        ("inputs", lambda x: x.float(), r"^\w+: torch.float64, but"),
        ("first", lambda x: None, r"^first, maps.value_up and maps.value_bias"),
        ("first", lambda x: x[:1], r"^first: expected shape \[2, 32\]"),
    ],
)
def test_what_does_not_fit_is_named(name, change, message):
    x, maps = draw(SIZES[0])
    with pytest.raises(ValueError, match=message):
        wkv7_decode(**x | {name: change(x[name])}, maps=maps, eps=1e-3)


def test_parameters_that_do_not_fit_are_named():
    x, maps = draw(SIZES[0])
    for name in ("decay_up", "bonus"):
        with pytest.raises(ValueError, match=rf"^maps.{name}: expected shape"):
            wkv7_decode(**x, maps=dataclasses.replace(maps, **{name: getattr(maps, name)[1:]}), eps=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
class TestOnGPU:
    """What only a GPU shows."""

    @pytest.mark.parametrize("settled", [False, True])
    @pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("size", SIZES + LARGE + MODELS, ids=str)
    def test_equals_the_definition(self, size, dtype, state_dtype, settled):
        assert differences(*draw(size, dtype, state_dtype, device="cuda"), settled=settled) == {}

    @pytest.mark.parametrize("size", MODELS, ids=str)
    def test_every_run_gives_the_same_bits(self, size):
        x, maps = draw(size, torch.bfloat16, torch.float32, device="cuda")
        arrived = torch.zeros(size[:2], dtype=torch.int32, device="cuda")
        start, found = x["memory"].clone(), []
        for _ in range(50):
            x["memory"].copy_(start)
            found.append((wkv7_decode(**x, maps=maps, eps=1e-3, arrived=arrived, impl="triton"), x["memory"].clone()))
        assert all(torch.equal(a, b) for each in found for a, b in zip(each, found[0], strict=True))
        assert not arrived.any()
