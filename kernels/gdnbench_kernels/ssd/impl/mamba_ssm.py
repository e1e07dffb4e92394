"""mamba-ssm's chunked kernels in Triton, forward and backward, as one operator each way.

They take a rate by head in place of a log decay by token: ``g = A dt``, as Mamba-2 makes it. So A is taken from the
first token, and that the others agree is asserted on the device. The gradient that reaches A goes back the same way:
g's and dt's are right together, wherever g was computed from dt and A, and are not each by itself those of `ssd`.

The two halves of its autograd function are called by operators here, so that torch.compile sees one graph.
"""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import requirements
from gdnbench_kernels.gated_delta import arguments

CHUNK_SIZE = 256  # its model's default
AGREEMENT = 1e-4  # largest difference of g to A dt, relative to it
NEXT = "2.4"  # its inner functions are called, and may have changed by then


def why_unavailable() -> str | None:
    """Return what is missing: the library of a known version, einops, or a GPU with bfloat16."""
    missing = requirements.missing("mamba-ssm", oldest="2.3.2", capability=(8, 0))
    if missing is not None:
        return missing
    if requirements.version("einops") is None:
        return "einops is not installed, which mamba-ssm needs"
    found = str(requirements.version("mamba-ssm"))
    return None if requirements.older(found, NEXT) else f"mamba-ssm {found} is not older than {NEXT}"


def refuses(c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor) -> str | None:
    """Return what it does not serve: other than half precision on a GPU, and gates too coarse to find A in."""
    for name, gate in (("g", g), ("dt", dt)):
        if gate.dtype != torch.float32:
            return f"{name}: {gate.dtype}, wants torch.float32"
    return arguments.beyond_half_on_gpu(c, b, x, names=("c", "b", "x"))


def what_ran() -> dict[str, str]:
    """Return versions and the length of its chunks."""
    names = ("mamba-ssm", "einops")
    return {name: str(requirements.version(name)) for name in names} | {"chunk_size": str(CHUNK_SIZE)}


def ssd(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    g: Tensor,
    dt: Tensor,
    *,
    initial_state: Tensor | None,
    output_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run its kernels; see `ssd.api.ssd`. Where g is not A dt, a device-side assertion ends the process's CUDA work."""
    A = g[0, 0] / dt[0, 0]
    with torch.no_grad():
        agree = (g - A * dt).abs() <= AGREEMENT * (A * dt).abs()
        torch._assert_async(agree.all(), "ssd: backend 'mamba_ssm' wants g = A dt with one A a head")
    return scan(c, b, x, A, dt, initial_state=initial_state, output_final_state=output_final_state)


def scan(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    A: Tensor,
    dt: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Run its kernels with the log decay ``A dt``, A ``[H]``, in its own form: what there is to time."""
    initial = None if initial_state is None else initial_state.float().mT.contiguous()
    output, final = _forward(c, b, x, A.float(), dt.float(), initial)
    return output, final.mT if output_final_state else None


@torch.library.custom_op("gdnbench::mamba_ssm", mutates_args=())
def _forward(
    c: Tensor, b: Tensor, x: Tensor, A: Tensor, dt: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    made = _library()._mamba_chunk_scan_combined_fwd(x, dt, A, b, c, CHUNK_SIZE, initial_states=initial_state)
    return made[0], made[5]


@torch.library.custom_op("gdnbench::mamba_ssm_backward", mutates_args=())
def _backward(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    A: Tensor,
    dt: Tensor,
    initial_state: Tensor | None,
    output: Tensor,
    d_output: Tensor,
    d_final: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    found = _library()._mamba_chunk_scan_combined_bwd(
        d_output, x, dt, A, b, c, output, CHUNK_SIZE, initial_states=initial_state, dfinal_states=d_final
    )
    dx, ddt, dA, db, dc = found[:5]
    d_initial = found[8]
    return dc, db, dx, dA, ddt, A.new_empty(0) if d_initial is None else d_initial


@_forward.register_fake
def _(c: Tensor, b: Tensor, x: Tensor, A: Tensor, dt: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, _, heads, value_dim = x.shape
    return x.new_empty(x.shape), A.new_empty(batch, heads, value_dim, c.shape[3])


@_backward.register_fake
def _(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    A: Tensor,
    dt: Tensor,
    initial_state: Tensor | None,
    output: Tensor,
    d_output: Tensor,
    d_final: Tensor | None,
) -> tuple[Tensor, ...]:
    d_initial = A.new_empty(0 if initial_state is None else initial_state.shape)
    return *(like.new_empty(like.shape) for like in (c, b, x, A, dt)), d_initial


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[0])


def _differentiate(ctx: Any, d_output: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, output = ctx.saved_tensors
    if d_output is None:
        d_output = torch.zeros_like(output)
    found = _backward(*inputs, output, d_output.contiguous(), None if d_final is None else d_final.contiguous())
    return *found[:5], None if inputs[5] is None else found[5]


_forward.register_autograd(_differentiate, setup_context=_keep)


@contextlib.contextmanager
def bare_package() -> Iterator[None]:
    """Let its operators be imported by themselves: the package's own import wants parts that they do not.

    Meanwhile an empty module stands for the package.
    """
    name = "mamba_ssm"
    before, spec = sys.modules.get(name), importlib.util.find_spec(name)
    assert spec is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


@functools.cache
def _library() -> ModuleType:
    with bare_package():
        return importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
