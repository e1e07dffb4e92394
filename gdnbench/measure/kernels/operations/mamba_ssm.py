"""Mamba-2's recurrence by the kernels of mamba-ssm, with one group of b and c for all heads, as the model has it."""

import torch
from gdnbench_kernels import testing
from gdnbench_kernels.ssd import ssd as definition
from torch import Tensor

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

CHUNK_SIZE = 256  # the model's default
NAMES = ("c", "b", "x", "dt")


def why_unavailable(impl: str) -> str | None:
    """Return why mamba-ssm cannot run here, or None."""
    try:
        import mamba_ssm.ops.triton.ssd_combined  # noqa: F401
    except Exception as error:  # compiled parts that do not fit this torch fail in many ways
        return f"mamba-ssm cannot be imported ({' '.join(str(error).split())})"
    return None


def _inputs(case: KernelCase, seed: int) -> Tensors:
    """Draw c, b ``[B, T, 1, K]``, x ``[B, T, H, V]``, dt ``[B, T, H]`` and A ``[H]`` (float32, as the gates)."""
    shape = case.shape
    sizes = testing.Case(
        batch=shape.B, time=shape.T, heads=1, group=shape.H, key_dim=shape.K, value_dim=shape.V, state=False
    )
    drawn = testing.inputs("ssd", sizes, dtype=torch.float32, device=case.device, draw_on=case.device, seed=seed)
    half = {name: drawn[name].to(getattr(torch, case.dtype)) for name in ("c", "b", "x")}
    # The default regime's log decay is A dt, with A by head.
    return {**half, "dt": drawn["dt"], "A": (drawn["g"] / drawn["dt"])[0, 0].contiguous()}


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    x, dt, b, c = (tensors[name] for name in ("x", "dt", "b", "c"))
    return (mamba_chunk_scan_combined(x, dt, tensors["A"], b, c, chunk_size=CHUNK_SIZE),)


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    c, b, x, dt = (tensors[name] for name in NAMES)
    return (definition(c, b, x, dt * tensors["A"], dt)[0],)


ssd = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.ssd,
    gradients=(*NAMES, "A"),
    tokens=NAMES,
    like="x",
    check_tokens=32768,
    why_unavailable=why_unavailable,
    foreign=True,
)
