"""Programmatic dependent launch: what is compiled of it, and that chains of kernels that overlap compute the same."""

import pytest
import torch
import triton
import triton.language as tl
from gdnbench_kernels import launching, resources
from gdnbench_kernels.gpu import pdl
from gdnbench_kernels.launching import launch

WIDTH = 1024


@triton.jit
def weigh_kernel(x, weight, y, WIDTH: tl.constexpr, PDL: tl.constexpr):
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    pdl.launch_dependents(PDL)
    w = tl.load(weight + column)
    pdl.wait(PDL)
    # Backwards, so that each program reads what another one has written.
    mirrored = tl.num_programs(0) * WIDTH - 1 - column
    tl.store(y + column, tl.load(x + mirrored) * w)


def weigh(x, weight, y):
    arguments = {"x": x, "weight": weight, "y": y, "WIDTH": WIDTH}
    launch(weigh_kernel, (x.numel() // WIDTH,), **arguments, **pdl.overlapping(x.device))


def compiled(arch):
    with launching.recorded(arch) as made:
        weigh(*(torch.empty(WIDTH, device="meta") for _ in range(3)))
    with resources._architecture(arch):
        return resources._warm_up(made[0])


def test_hopper_reads_weights_before_it_waits_and_the_rest_after():
    kernel = compiled(90)
    assert kernel.metadata.launch_pdl
    steps = [word for line in kernel.asm["ptx"].splitlines() for word in MARKS if word in line]
    loads = WIDTH // (4 * 32 * kernel.metadata.num_warps)
    first = ["launch_dependents", *["ld.global"] * loads, "griddepcontrol.wait"]
    assert steps[: len(first)] == first
    assert "ld.global" in steps[len(first) :] and steps[-1] == "st.global"


MARKS = ("launch_dependents", "griddepcontrol.wait", "ld.global", "st.global")


def test_older_gpus_do_without():
    kernel = compiled(80)
    assert not kernel.metadata.launch_pdl
    assert "griddepcontrol" not in kernel.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
class TestOnGpu:
    def test_a_chain_computes_what_its_kernels_do_one_by_one(self):
        length, size = 50, 256 * WIDTH
        weights = torch.randint(1, 3, (length, size), device="cuda").float()  # products are exact
        x = torch.randint(1, 5, (size,), device="cuda").float()
        buffers = torch.zeros(length, size, device="cuda")

        def chain():
            for i in range(length):
                weigh(x if i == 0 else buffers[i - 1], weights[i], buffers[i])

        chain()  # compiled, then by the kept kernel
        expected = x
        for weight in weights:
            expected = expected.flip(0) * weight
        assert torch.equal(buffers[-1], expected)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            chain()
        for _ in range(20):
            buffers.zero_()
            graph.replay()
            assert torch.equal(buffers[-1], expected)
