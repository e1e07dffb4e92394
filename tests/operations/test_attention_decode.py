"""One token of attention: backends against the definition, and the definition against attention over sequences.

The kernel's own cases are here for a GPU; `interpreted` has a file of this name for the CPU.
"""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.attention import attention
from gdnbench_kernels.attention_decode import attention_decode

# (B, H, HKV, D, S), lengths: one head and many, grouped heads, head dims that are no powers of two.
SIZES = [
    ((1, 2, 2, 16, 40), [39]),
    ((3, 4, 2, 24, 70), [0, 69, 33]),
    ((2, 3, 1, 32, 100), [3, 90]),
    ((2, 1, 1, 96, 64), [17, 1]),
]
OPTIONS = [{}, {"norm": True}, {"norm": True, "conv": 4}, {"conv": 3}]


def draw(size, lengths, dtype=torch.float64, *, norm=False, conv=0, device="cpu", seed=0):
    """Return the tensor arguments of a call on caches that are filled up to the lengths, and with numbers behind."""
    batch, heads, key_heads, dim, capacity = size
    rng = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=rng, device=device, dtype=torch.float64).to(dtype)

    channels = (heads + 2 * key_heads) * dim
    half = dim // 2
    x = {
        "inputs": normal(batch, channels + 16),
        "keys": normal(batch, capacity, key_heads, dim),
        "values": normal(batch, capacity, key_heads, dim),
        "lengths": torch.tensor(lengths, dtype=torch.int32, device=device),
        "frequencies": 1e4 ** (-torch.arange(half, device=device, dtype=torch.float64) / half) / (2 * torch.pi),
    }
    if norm:
        x |= {"q_norm": 1 + 0.3 * normal(dim), "k_norm": 1 + 0.3 * normal(dim)}
    if conv:
        x |= {"conv_weight": normal(channels, conv), "ring": normal(batch, conv, channels)}
    return x


def differences(x, *, impl, heads, **settings):
    """Return what is over budget, with the error: of the output, the caches and the ring, against float64."""
    exact = {name: t.double() if t.is_floating_point() else t for name, t in x.items()}
    exact = {name: t.clone() for name, t in exact.items()}
    expected = attention_decode(**exact, heads=heads, scale=0.3, impl="reference")
    found = attention_decode(**x, heads=heads, scale=0.3, impl=impl, **settings)
    pairs = {"output": (found, expected)} | {
        name: (x[name], exact[name]) for name in ("keys", "values", "ring") if name in x
    }
    errors = {name: testing.relative_error(*pair) for name, pair in pairs.items()}
    return {name: error for name, error in errors.items() if not error <= testing.BUDGETS[x["keys"].dtype].output}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("size", "lengths"), SIZES, ids=str)
def test_torch_equals_the_definition(size, lengths, options):
    assert differences(draw(size, lengths, **options), impl="torch", heads=size[1]) == {}


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_tokens_one_by_one_equal_a_sequence(impl):
    """Without norm, convolution or rotation; those are held to a layer's own form in the tests of models."""
    batch, heads, key_heads, dim, time = 2, 4, 2, 8, 9
    x = draw((batch, heads, key_heads, dim, time), [0, 0])
    x["frequencies"].zero_()
    steps = torch.randn(batch, time, (heads + 2 * key_heads) * dim, dtype=torch.float64)
    outputs = []
    for t in range(time):
        outputs.append(attention_decode(**x | {"inputs": steps[:, t]}, heads=heads, scale=0.3, impl=impl))
        x["lengths"] += 1
    q, k, v = steps.unflatten(2, (-1, dim)).split([heads, key_heads, key_heads], 2)
    torch.testing.assert_close(torch.stack(outputs, 1), attention(q, k, v, scale=0.3).flatten(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": torch.zeros(2, 8, 16)}, r"^keys: expected 4 dimensions"),
        ({"inputs": torch.zeros(2, 63)}, r"^inputs: expected shape \[2, 64 or more\]"),
        ({"heads": 3}, r"^heads: 3 is not a positive multiple of heads of keys = 2"),
        ({"values": torch.zeros(2, 7, 2, 8)}, r"^values: expected shape \[2, 8, 2, 8\]"),
        ({"lengths": torch.zeros(2)}, r"^lengths: expected int32"),
        ({"frequencies": torch.zeros(8)}, r"^frequencies: expected shape \[4\]"),
        ({"q_norm": torch.ones(8)}, r"^q_norm and k_norm: expected both or neither"),
        ({"ring": torch.ones(2, 4, 64)}, r"^conv_weight and ring: expected both or neither"),
        ({"keys": torch.zeros(2, 8, 2, 8, dtype=torch.float64)}, r"^\w+: torch.float"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    x = draw((2, 4, 2, 8, 8), [0, 3], torch.float32)
    with pytest.raises(ValueError, match=message):
        attention_decode(**{**x, "heads": 4, **change}, scale=1.0)


GPU_SIZES = [
    ((1, 16, 16, 128, 8192), [8000]),
    ((8, 16, 16, 128, 2048), [0, 1, 63, 64, 1000, 2047, 500, 31]),
    ((64, 4, 4, 64, 300), list(range(5, 261, 4))),
    ((2, 4, 4, 512, 1500), [1499, 700]),
    ((2, 32, 4, 128, 1500), [1499, 700]),
    ((3, 6, 2, 80, 1500), [1499, 700, 2]),
    ((1, 4, 4, 256, 40000), [33000]),
]
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]


class TestOnGPU:
    pytestmark = gpu

    @pytest.mark.parametrize("settled", [False, True])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
    @pytest.mark.parametrize(("size", "lengths"), SIZES + GPU_SIZES, ids=lambda x: str(x)[:24])
    def test_equals_the_definition(self, size, lengths, options, dtype, settled):
        x = draw(size, lengths, dtype, device="cuda", **options)
        assert differences(x, impl="triton", heads=size[1], settled=settled) == {}

    def test_every_run_gives_the_same_bits_and_counters_end_at_zero(self):
        x = draw((1, 16, 16, 128, 8192), [8000], torch.bfloat16, device="cuda")
        arrived = torch.zeros(1, 16, dtype=torch.int32, device="cuda")
        runs = [attention_decode(**x, heads=16, scale=0.1, arrived=arrived, impl="triton") for _ in range(50)]
        assert all(torch.equal(each, runs[0]) for each in runs)
        assert not arrived.any()

    def test_in_a_cuda_graph_lengths_are_read_on_the_device(self):
        x = draw((2, 4, 2, 64, 600), [0, 290], torch.bfloat16, device="cuda")
        arrived = torch.zeros(2, 2, dtype=torch.int32, device="cuda")

        def step():
            y = attention_decode(**x, heads=4, scale=0.3, arrived=arrived, settled=True, impl="triton")
            x["lengths"] += 1
            return y

        start = x["lengths"].clone()
        expected = [step().clone() for _ in range(300)]
        x["lengths"].copy_(start)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step()
        x["lengths"].copy_(start)
        for each in expected:
            graph.replay()
            assert torch.equal(found, each)
