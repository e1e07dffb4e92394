"""Replayed passes on a GPU: the bits of passes that are worked out, by the short way to Triton's launcher."""

from functools import partial

import pytest
import torch
from gdnbench_kernels import replay
from gdnbench_kernels.gated_delta import gated_delta_rule
from gdnbench_kernels.gated_norm import gated_norm
from gdnbench_kernels.short_convolution import short_convolution
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.tapes import Launch, Tape

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]

half = partial(torch.randn, device="cuda", dtype=torch.bfloat16)
single = partial(torch.randn, device="cuda")


def rule(batch=2, time=200, raw=True, lengths=None):
    q, k = (half(batch, time, 2, 64) for _ in range(2))
    gates = (single(4), single(4)) if raw else ()
    ends = None if lengths is None else torch.tensor([0, *lengths], device="cuda").cumsum(0)
    sequences = batch if lengths is None else len(lengths)
    state = 0.1 * single(sequences, 4, 64, 128)
    g, beta = half(batch, time, 4), half(batch, time, 4)
    if not raw:
        q, k, g, beta = (*(torch.nn.functional.normalize(x, dim=-1) for x in (q, k)), -g.abs(), beta.sigmoid())

    def call(q, k, v, g, beta, state, A_log=None, dt_bias=None):
        settings = {"normalize_qk": raw, "beta_range": 1.0 if raw else None, "cu_seqlens": ends}
        settings |= {"A_log": A_log, "dt_bias": dt_bias, "initial_state": state, "output_final_state": True}
        return gated_delta_rule(q, k, v, g, beta, scale=0.5, impl="triton", **settings)

    return call, [q, k, half(batch, time, 4, 128), g, beta, state, *gates]


def convolution():
    x, weight, bias = half(2, 200, 3 * 64)[..., 64:], half(128, 4), half(128)
    return lambda *x: short_convolution(*x, activation="silu", impl="triton")[:1], [x, weight, bias]


def norm():
    return lambda *x: [gated_norm(*x, impl="triton")], [*(half(2, 200, 4, 64) for _ in range(2)), half(64)]


def walk():
    c, b = (half(2, 200, 1, 64) for _ in range(2))
    dt = single(2, 200, 4).sigmoid()
    return lambda *x: [ssd(*x, impl="triton")[0]], [c, b, half(2, 200, 4, 64), -dt, dt]


CALLS = {
    "gated delta rule": rule,
    "as given": partial(rule, raw=False),
    "pieces": partial(rule, batch=1, time=8192),
    "packed": partial(rule, batch=1, lengths=[70, 0, 130]),
    "short convolution": convolution,
    "gated norm": norm,
    "ssd": walk,
}


def results(call, tensors):
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = call(*leaves)
    gradients = torch.autograd.grad(outputs, leaves, [torch.ones_like(x) for x in outputs])
    return [*(x.detach() for x in outputs), *gradients]


@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS)
def test_replays_have_the_bits_of_what_they_replay(make):
    torch.manual_seed(0)
    calls = [make() for _ in range(4)]  # all at once, so that none lies where another did
    found = [results(*each) for each in calls]
    tapes = [tape for kept in replay._kept for tape in kept.values()]
    assert {type(tape) for tape in tapes} == {Tape}
    launches = [step for tape in tapes for step in tape.steps if isinstance(step, Launch)]
    assert all(launch.prepared.stream is not None for launch in launches), "or the short way is not known here"
    for each, replayed in zip(calls, found, strict=True):
        with replay.afresh():
            assert all(map(torch.equal, results(*each), replayed))


def test_a_replay_in_a_cuda_graph_and_on_another_stream():
    call, tensors = norm()
    for _ in range(3):
        expected = call(*tensors)[0]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(*tensors)[0]
    graph.replay()
    assert torch.equal(captured, expected)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        aside = call(*tensors)[0]
        torch.cuda.current_stream().synchronize()
    assert torch.equal(aside, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_replays_on_each_gpu():
    for device in ("cuda:0", "cuda:1"):
        call, tensors = norm()
        tensors = [x.to(device) for x in tensors]
        for _ in range(4):
            assert call(*tensors)[0].device == torch.device(device)
        with replay.afresh():
            assert torch.equal(call(*tensors)[0], call(*[x.clone() for x in tensors])[0])
