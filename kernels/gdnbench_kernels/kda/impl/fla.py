"""flash-linear-attention's chunked kernels in Triton, forward and backward, as one operator each way.

Its own call is closed to torch.compile (`torch.compiler.disable`), so its two passes are called by operators here: one
graph, and none of its dispatcher at the outermost call.
"""

from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import fla

what_ran = fla.what_ran

CHUNK_SIZE = 64


def why_unavailable() -> str | None:
    """Return what is missing: the library (of the version whose inner functions are called), or a GPU with bfloat16."""
    return fla.why_unavailable() or fla.beyond_version("0.7")


def refuses(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> str | None:
    """Return what it does not serve: K beyond 256, and what was not checked here (float32)."""
    return fla.beyond("q", q)


def kda(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, *, scale: float, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run its kernels, with q, k, v in the type of q; log decay and strength in float32."""
    q, k, v = (x.to(q.dtype).contiguous() for x in (q, k, v))
    initial = None if initial_state is None else initial_state.float().contiguous()
    output, state, *_ = _forward(q, k, v, g.float().contiguous(), beta.float().contiguous(), initial, scale)
    return output, state


@torch.library.custom_op("gdnbench::fla_kda", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return output and state, and what the backward pass reads: the cumulative decay and two matrices a chunk."""
    from fla.ops.kda.chunk_fwd import chunk_kda_fwd

    fla.pin()
    found = chunk_kda_fwd(
        q=q, k=k, v=v, g=g, beta=beta, scale=scale, initial_state=initial_state, output_final_state=True
    )
    output, state, cumulative, attention, interaction = found[:5]
    return output.to(q.dtype), state, cumulative, attention, interaction


@torch.library.custom_op("gdnbench::fla_kda_backward", mutates_args=())
def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    scale: float,
    cumulative: Tensor,
    attention: Tensor,
    interaction: Tensor,
    d_output: Tensor,
    d_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from fla.ops.kda.chunk_bwd import chunk_kda_bwd

    dq, dk, dv, d_beta, dg, d_initial, *_ = chunk_kda_bwd(
        q=q, k=k, v=v, beta=beta, Aqk=attention, Akk=interaction, scale=scale, initial_state=initial_state,
        do=d_output, dht=d_state, g=cumulative,
    )  # fmt: skip
    initial = q.new_empty(0, dtype=torch.float32) if d_initial is None else d_initial
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), dg.float(), d_beta.float(), initial


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, time, heads, key_dim = q.shape
    state = q.new_empty(batch, heads, key_dim, v.shape[3], dtype=torch.float32)
    matrices = [q.new_empty(batch, time, heads, CHUNK_SIZE) for _ in range(2)]
    return torch.empty_like(v), state, torch.empty_like(g), matrices[0], matrices[1]


@_backward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    scale: float,
    cumulative: Tensor,
    attention: Tensor,
    interaction: Tensor,
    d_output: Tensor,
    d_state: Tensor | None,
) -> tuple[Tensor, ...]:
    d_initial = q.new_empty(0, dtype=torch.float32) if initial_state is None else torch.empty_like(initial_state)
    return *(torch.empty_like(x) for x in (q, k, v, cumulative, beta)), d_initial


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    q, k, v, _, beta, initial_state, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, beta, initial_state, *output[2:])


def _differentiate(ctx: Any, d_output: Tensor | None, d_state: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    q, k, v, beta, initial_state, *kept = ctx.saved_tensors
    d_output = torch.zeros_like(v) if d_output is None else d_output.contiguous()
    d_state = None if d_state is None else d_state.contiguous()
    dq, dk, dv, dg, d_beta, d_initial = _backward(q, k, v, beta, initial_state, ctx.scale, *kept, d_output, d_state)
    return dq, dk, dv, dg, d_beta, None if initial_state is None else d_initial, None


_forward.register_autograd(_differentiate, setup_context=_keep)
