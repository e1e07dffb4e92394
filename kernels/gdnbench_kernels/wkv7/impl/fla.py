"""flash-linear-attention's chunked kernels in Triton, forward and backward, as one operator each way.

Its own call is closed to torch.compile (`torch.compiler.disable`). Its autograd function has two halves that talk
through the context they are given, so each half is called by an operator here, with a context of ours: one graph, no
second forward pass, and none of its dispatcher (the Triton kernels always run).
"""

import functools
import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels import fla

# As its own RWKV-7 layer calls it: chunks of 64 tokens by tensor cores, with decays taken from the middle of a chunk.
# That holds in float32 while 33 tokens' decay is within 2^124, so for log decays of a token down to -2.6.
CHUNK_SIZE = 64
# What both halves are told and the first one leaves for the second, besides tensors; by its names.
SETTINGS: dict[str, Any] = {
    "cu_seqlens": None,
    "scale": 1.0,
    "chunk_size": CHUNK_SIZE,
    "chunk_indices": None,
    "safe_gate": True,
    "disable_recompute": False,  # the backward pass computes everything inside a chunk again
    "cp_context": None,
}
# Those that run list some 300 configurations; to compile and time all took five minutes of a first step on an H200.
DPLR = "fla.ops.generalized_delta_rule.dplr"
PASSES = ("A_fwd", "A_bwd", "h_fwd", "h_bwd", "o_fwd", "o_bwd")
MODULES = (
    "fla.ops.rwkv6.chunk",
    *(f"{DPLR}.chunk_{name}" for name in PASSES),
    *(f"{DPLR}.wy_fast_{name}" for name in ("fwd", "bwd")),
)


@functools.cache
def _narrowed() -> str:
    """Narrow what its kernels are tuned over, once in a process, and say to how much."""
    counts = [fla.narrow(vars(importlib.import_module(name))) for name in MODULES]
    left, listed = (sum(column) for column in zip(*counts, strict=True))
    return f"{left} of {listed}"


def what_ran() -> dict[str, str]:
    """Return what `gdnbench_kernels.fla.what_ran` does, and how many configurations its kernels were tuned over."""
    return {**fla.what_ran(), "configurations": _narrowed()}


def why_unavailable() -> str | None:
    """Return what is missing: the library (of the version whose inner functions are called), or a GPU with bfloat16."""
    return fla.why_unavailable() or fla.beyond_version("0.7")


def refuses(r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor) -> str | None:
    """Return what it does not serve: K beyond 256, and what was not checked here (float32)."""
    return fla.beyond("r", r)


def wkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, *, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run its kernels, with all that is multiplied in the type of r; the log decay keeps its own, at least -2.6."""
    k, v, a, b = (x.to(r.dtype) for x in (k, v, a, b))
    initial = None if initial_state is None else initial_state.float().contiguous()
    output, state = _forward(*(x.contiguous() for x in (r, w, k, v, a, b)), initial)
    return output, state


@torch.library.custom_op("gdnbench::fla_wkv7", mutates_args=())
def _forward(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    from fla.ops.generalized_delta_rule.dplr.chunk import ChunkDPLRDeltaRuleFunction

    fla.pin()
    _narrowed()
    output, state = ChunkDPLRDeltaRuleFunction.forward(
        SimpleNamespace(save_for_backward=lambda *tensors: None),
        *(r, k, v, a, b, w),
        SETTINGS["scale"],
        initial_state,
        True,
        safe_gate=SETTINGS["safe_gate"],
        chunk_size=SETTINGS["chunk_size"],
        disable_recompute=SETTINGS["disable_recompute"],
    )
    return output, state


@torch.library.custom_op("gdnbench::fla_wkv7_backward", mutates_args=())
def _backward(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None,
    d_output: Tensor,
    d_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from fla.ops.generalized_delta_rule.dplr.chunk import ChunkDPLRDeltaRuleFunction

    # The last two are what PyTorch's wrapper of a backward under autocast reads.
    context = SimpleNamespace(
        saved_tensors=(r, k, v, a, b, w, initial_state), **SETTINGS, _fwd_used_autocast=False, _dtype=r.dtype
    )
    found = ChunkDPLRDeltaRuleFunction.backward(context, d_output, d_state)
    dr, dk, dv, da, db, dw, _, d_initial = found[:8]
    return dr, dw, dk, dv, da, db, r.new_empty(0) if d_initial is None else d_initial


@_forward.register_fake
def _(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    state = r.new_empty(r.shape[0], *r.shape[2:], v.shape[3], dtype=torch.float32)
    return torch.empty_like(v), state


@_backward.register_fake
def _(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None,
    d_output: Tensor,
    d_state: Tensor | None,
) -> tuple[Tensor, ...]:
    d_initial = r.new_empty(0) if initial_state is None else torch.empty_like(initial_state)
    return *(torch.empty_like(x) for x in (r, w, k, v, a, b)), d_initial


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, d_output: Tensor | None, d_state: Tensor | None) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    if d_output is None:
        d_output = torch.zeros_like(inputs[3])
    found = _backward(*inputs, d_output.contiguous(), None if d_state is None else d_state.contiguous())
    return *found[:6], None if inputs[6] is None else found[6]


_forward.register_autograd(_differentiate, setup_context=_keep)
