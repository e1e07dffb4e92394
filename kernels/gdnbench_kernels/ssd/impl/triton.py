"""Our own kernels, as operators of PyTorch: the chunked walk of the gated delta rule, without the delta."""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta import arguments
from gdnbench_kernels.gated_delta.gpu.layout import Layout
from gdnbench_kernels.gpu import hardware
from gdnbench_kernels.operators import Operator
from gdnbench_kernels.ssd.gpu import passes

why_unavailable = hardware.why_unavailable


def refuses(c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor) -> str | None:
    """Return what the kernels do not serve: head dims out of range, or other than half precision on a GPU."""
    where = None if hardware.INTERPRETED else arguments.beyond_half_on_gpu(c, b, x, names=("c", "b", "x"))
    return where or arguments.beyond_head_dims(c, x, names=("c", "x"))


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
    """Run the kernels; see `ssd.api.ssd`."""
    if initial_state is not None:
        initial_state = initial_state.float().contiguous()
    output, final = _forward(c, b, x, g, dt, initial_state, output_final_state)
    return output, final if output_final_state else None


def _forward_fake(
    c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, initial_state: Tensor | None, output_final_state: bool
) -> tuple[Tensor, Tensor]:
    return passes.results(x, Layout.of(c, x, None), output_final_state)


def _backward_fake(
    c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, initial_state: Tensor | None, *rest: object
) -> tuple[Tensor, ...]:
    d_initial = g.new_empty(0 if initial_state is None else initial_state.shape, dtype=torch.float32)
    return *(like.new_empty(like.shape) for like in (c, b, x, g, dt)), d_initial


def _save(ctx: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*arguments[:6])


def _differentiate(ctx: Any, do: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: what is computed again for a gradient may be asked for a single time
    x, initial_state = saved[2], saved[5]
    if do is None:
        do = x.new_zeros(x.shape)
    *found, d_initial = _backward(*saved, do, None if d_final is None else d_final.contiguous())
    return *found, None if initial_state is None else d_initial, None


_backward = Operator("ssd_backward", passes.backward, fake=_backward_fake)
_forward = Operator("ssd", passes.forward, fake=_forward_fake, save=_save, differentiate=_differentiate)
