"""The clocks of the bench on a GPU: a graph, an eager call and the profiler agree on work whose time is known."""

import json

import pytest
import torch

from gdnbench.measure.kernels.calibration import calibrate
from gdnbench.measure.kernels.timing import EventSampler, GraphSampler, KernelSampler, in_turn, on_side_stream, sampler
from tests.runs.tiny import gdnbench

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"),
]


def matmuls(size=4096):
    pairs = [[torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2)] for _ in range(2)]
    return [lambda a=a, b=b: a @ b for a, b in pairs]


def median(times):
    return sorted(times)[len(times) // 2]


def test_three_clocks_agree_on_a_large_matmul():
    with on_side_stream("cuda"):
        calls = matmuls()
        graph, eager, kernels = in_turn([GraphSampler(calls), EventSampler(calls), KernelSampler(calls, "test")], 11)
    assert median(graph) == pytest.approx(median(kernels), rel=0.15)
    assert median(graph) <= 1.1 * median(eager)
    assert median(eager) < median(graph) + 0.1, "a launch takes microseconds"


def test_a_graph_leaves_out_the_launches_of_many_small_kernels():
    x = torch.randn(1024, device="cuda")

    def many():
        y = x
        for _ in range(100):
            y = y + 1
        return y

    with on_side_stream("cuda"):
        graph, eager = in_turn([GraphSampler([many]), EventSampler([many])], 11)
    assert median(graph) < 0.7 * median(eager)


def test_forward_and_backward_are_captured_in_one_graph():
    weight = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    x = torch.randn(4096, 2048, device="cuda", dtype=torch.bfloat16)

    def call():
        return torch.autograd.grad((x @ weight).square().sum(), weight)

    with on_side_stream("cuda"):
        assert sampler([call], "device", "cuda").how == "graph"


def test_what_synchronizes_is_timed_by_its_kernels_and_the_device_still_works():
    x = torch.randn(2048, 2048, device="cuda")

    def call():
        y = x @ x
        return y * float(y[0, 0].item())

    with on_side_stream("cuda"):
        used = sampler([call], "device", "cuda")
        assert used.how == "kernels"
        assert "cannot be captured" in used.note
        assert used.sample() > 0
        assert sampler([lambda: x @ x], "device", "cuda").how == "graph"


def test_ceilings_are_plausible():
    found = calibrate("cuda")
    assert 100 < found.copy_gb_s < 20_000
    assert 10 < found.matmul_tflop_s < 5_000


def test_the_command_on_a_small_shape(tmp_path):
    done = gdnbench(
        "bench", "kernels", "--shapes", "2,200,2,32,64", "--backends", "torch", "--repeats", "3", "--set", "mine",
        "--json", "out.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())
    timed = [row for row in rows if row["impl"] == "torch" and row["op"] == "gated_delta"]
    assert timed
    assert {row["how"] for row in timed if row["timing"] == "device"} == {"graph"}
    assert all(row["ms"] > 0 and row["peak_extra_gib"] > 0 and row["correct"] for row in timed)
