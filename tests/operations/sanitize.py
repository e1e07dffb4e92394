"""One small forward, backward and decode step, for NVIDIA's compute-sanitizer:

    PYTHONPATH=kernels compute-sanitizer --tool memcheck python tests/operations/sanitize.py
    PYTHONPATH=kernels compute-sanitizer --tool racecheck python tests/operations/sanitize.py plain

``plain`` leaves out the Gluon kernels: their warps hand shared memory on through mbarriers, which racecheck does not
follow from the warp that writes over the one that arrives to the one that waits, and reports each such handover.
Lengths that are no multiples of the chunk, dims that are no powers of two, packed sequences of which some are empty,
and sequences in pieces: where a mask would be missing. PyTorch's caching allocator is off, since it hides
what is read between tensors.
"""

import os
import sys

os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"

import torch
from gdnbench_kernels.gated_delta import gated_delta_rule, gated_delta_rule_step
from gdnbench_kernels.gated_delta.gpu import choice, segments
from gdnbench_kernels.ssd import ssd

RAW = {"normalize_qk": True, "beta_range": 2.0, "gate_scale": 0.7, "scale": 0.3}
PACKED = [0, 1, 0, 71, 128]


def arguments(batch: int, time: int, key_dim: int, value_dim: int) -> dict[str, torch.Tensor]:
    """Return raw arguments of two key heads with two value heads each."""
    sizes = {
        "q": (batch, time, 2, key_dim),
        "k": (batch, time, 2, key_dim),
        "v": (batch, time, 4, value_dim),
        "g": (batch, time, 4),
        "beta": (batch, time, 4),
        "A_log": (4,),
        "dt_bias": (4,),
    }
    return {
        name: torch.randn(size, device="cuda", dtype=torch.bfloat16 if name in "qkv" else torch.float32)
        for name, size in sizes.items()
    }


def train(x: dict[str, torch.Tensor], lengths: list[int] | None) -> None:
    """Run forward and backward."""
    sequences = x["q"].shape[0] if lengths is None else len(lengths)
    state = torch.randn(sequences, 4, x["q"].shape[-1], x["v"].shape[-1], device="cuda")
    leaves = {name: tensor.requires_grad_() for name, tensor in (x | {"initial_state": state}).items()}
    bounds = None if lengths is None else torch.tensor([0, *lengths], device="cuda").cumsum(0, dtype=torch.int32)
    output, final = gated_delta_rule(**leaves, **RAW, cu_seqlens=bounds, output_final_state=True, impl="triton")
    (output.float().sum() + final.sum()).backward()
    assert all(tensor.grad.isfinite().all() for tensor in leaves.values())


def step(x: dict[str, torch.Tensor]) -> None:
    """Run one decode step on the first tokens."""
    one = {name: tensor[:, 0] if tensor.ndim > 1 else tensor for name, tensor in x.items()}
    state = torch.zeros(len(one["q"]), 4, one["q"].shape[-1], one["v"].shape[-1], device="cuda")
    with torch.no_grad():
        output, _ = gated_delta_rule_step(**one, state=state, **RAW, inplace=True, impl="triton")
    assert output.isfinite().all()


def train_ssd(batch: int, time: int, key_dim: int, value_dim: int) -> None:
    """Run Mamba-2's recurrence forward and backward, six heads in one group."""
    half = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
    c, b = (torch.randn(batch, time, 1, key_dim, **half) for _ in range(2))
    x = torch.randn(batch, time, 6, value_dim, **half)
    dt = torch.rand(batch, time, 6, device="cuda", requires_grad=True)
    state = torch.randn(batch, 6, key_dim, value_dim, device="cuda", requires_grad=True)
    output, final = ssd(c, b, x, -dt, dt, initial_state=state, output_final_state=True, impl="triton")
    (output.float().sum() + final.sum()).backward()
    assert all(tensor.grad.isfinite().all() for tensor in (c, b, x, dt, state))


def every_kernel(key_dim: int, value_dim: int) -> None:
    """Run them dense, packed and in pieces."""
    train(arguments(2, 70, key_dim, value_dim), None)
    train(arguments(1, sum(PACKED), key_dim, value_dim), PACKED)
    if key_dim <= segments.WIDEST_KEYS:
        cut = segments.pieces_per_sequence
        segments.pieces_per_sequence = lambda layout: 2
        train(arguments(1, 200, key_dim, value_dim), None)
        segments.pieces_per_sequence = cut
    step(arguments(3, 1, key_dim, value_dim))
    train_ssd(2, 70, key_dim, value_dim)
    train_ssd(50, 70, key_dim, 64)  # enough for pairs of heads in a program
    torch.cuda.synchronize()


if __name__ == "__main__":
    for dims in ((40, 72), (64, 128), (136, 200)):
        if "plain" not in sys.argv:
            every_kernel(*dims)
        with choice.plain():
            every_kernel(*dims)
    print("done")  # noqa: T201
