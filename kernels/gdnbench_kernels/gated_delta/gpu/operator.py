"""The operator as PyTorch sees it: two passes with their fakes and autograd, and the order of the kernels inside."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import segments
from gdnbench_kernels.gated_delta.gpu.choice import gradients, key_tiles, movable, prepare, reverse, scan
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, GROWTH_ROWS, ROWS, Layout
from gdnbench_kernels.operators import Operator

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: float,
    gate_scale: float,
    beta_range: float | None,
    normalize: bool,
    output_final_state: bool,
) -> Results:
    """Run the forward pass; arguments as in `gated_delta.api.gated_delta_rule`.

    Returns:
        The output, the final state, and what the backward pass needs: inverse, attention, rows (see the package), and
        where sequences are cut into pieces the state that each piece starts from, its transition, and how much of it
        reaches its ends (`segments.reach`). What does not exist in a call is an empty tensor.
    """
    q, k, v = movable(q, k, v)
    layout = Layout.of(q, v, cu_seqlens)
    pieces = segments.pieces_per_sequence(layout)
    results = _results(q, v, layout, pieces, normalize, output_final_state)
    output, final, inverse, attention, rows, starts, transition, lengths = results
    prepare(
        layout,
        q=q,
        k=k,
        g=g,
        beta=beta,
        A_log=A_log,
        dt_bias=dt_bias,
        scale=scale,
        gate_scale=gate_scale,
        beta_range=beta_range,
        normalize=normalize,
        inverse=inverse,
        attention=attention,
        rows=rows,
    )
    walk = dict(k=k, v=v, inverse=inverse, rows=rows)
    if pieces > 1:
        ends = torch.empty_like(starts)
        segments.reach(layout, pieces, rows=rows, lengths=lengths)
        scan(layout, pieces, **walk, final=ends, transition=transition, lengths=lengths[0])
        segments.chain(layout, pieces, transition=transition, ends=ends, carried=starts, boundary=initial_state)
        final = ends  # done with: it takes each piece's true end
    scan(
        layout,
        pieces,
        **walk,
        initial=starts if pieces > 1 else initial_state,
        q=q,
        attention=attention,
        output=output,
        final=final if output_final_state else None,
    )
    if pieces > 1 and output_final_state:
        results[1].copy_(final.unflatten(0, (layout.sequences, pieces))[:, -1])
    return results


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    inverse: Tensor,
    attention: Tensor,
    rows: Tensor,
    starts: Tensor,
    transition: Tensor,
    lengths: Tensor,
    do: Tensor,
    d_final: Tensor | None,
    scale: float,
    gate_scale: float,
    beta_range: float | None,
    normalize: bool,
) -> Gradients:
    """Return the gradients of q, k, v, g, beta, of A_log and dt_bias (one tensor ``[2, HV]``) and of the initial state.

    What there is no argument for is empty. No result is a view of another: an operator's may not be.

    The states and Delta are computed again: kept from the forward pass, they would weigh more than its inputs.
    """
    q, k, v, do = movable(q, k, v, do)
    layout = Layout.of(q, v, cu_seqlens)
    pieces = segments.pieces_per_sequence(layout)
    dq, dk, dv, dg, dbeta, d_gate, d_initial = _gradients(q, k, v, g, beta, A_log, initial_state, layout)

    states = q.new_empty(layout.chunks, layout.value_heads, layout.key_dim, layout.value_dim)
    delta = v.new_empty(v.shape)
    initial = starts if pieces > 1 else initial_state
    scan(layout, pieces, k=k, v=v, inverse=inverse, rows=rows, initial=initial, states=states, delta=delta)

    walk = dict(q=q, k=k, do=do, inverse=inverse, attention=attention, rows=rows)
    ends, begins = d_final, None if initial_state is None else d_initial
    if pieces > 1:
        own, ends, begins = (torch.empty_like(starts) for _ in range(3))
        reverse(layout, pieces, **walk, initial_grad=own, lengths=lengths[1])
        segments.chain(layout, pieces, transition=transition, ends=own, carried=ends, boundary=d_final, backward=True)
    dstates = torch.empty_like(states)
    dx = dv if key_tiles(layout, q.device) == 1 else torch.empty_like(dv)
    reverse(layout, pieces, **walk, final_grad=ends, initial_grad=begins, dstates=dstates, dx=dx)
    if pieces > 1 and initial_state is not None:
        assert begins is not None
        d_initial.copy_(begins.unflatten(0, (layout.sequences, pieces))[:, 0])

    gradients(
        layout,
        q=q,
        k=k,
        v=v,
        g=g,
        beta=beta,
        do=do,
        dx=dx,
        delta=delta,
        states=states,
        dstates=dstates,
        rows=rows,
        dq=dq,
        dk=dk,
        dv=dv,
        dg=dg,
        dbeta=dbeta,
        scale=scale,
        A_log=A_log,
        dt_bias=dt_bias,
        d_gate=None if A_log is None else d_gate,
        gate_scale=gate_scale,
        beta_range=beta_range,
        normalize=normalize,
    )
    group = layout.value_heads // layout.heads
    if group > 1:
        dq, dk = (x.unflatten(2, (layout.heads, group)).sum(3, dtype=torch.float32).to(q.dtype) for x in (dq, dk))
    return dq, dk, dv, dg, dbeta, d_gate if A_log is None else d_gate.sum(1), d_initial


def _results(q: Tensor, v: Tensor, layout: Layout, pieces: int, normalize: bool, output_final_state: bool) -> Results:
    blocks = layout.chunks, layout.value_heads
    state = layout.value_heads, layout.key_dim, layout.value_dim
    cut = layout.sequences * pieces if pieces > 1 else 0
    names = ROWS if normalize else GROWTH_ROWS if cut else ROWS[:5]
    single = partial(q.new_empty, dtype=torch.float32)
    return (
        v.new_empty(v.shape),
        single((layout.sequences if output_final_state else 0, *state)),
        q.new_empty((*blocks, CHUNK, CHUNK)),
        q.new_empty((*blocks, CHUNK, CHUNK)),
        single((*blocks, len(names), CHUNK)),
        single((cut, *state)),
        single((cut, layout.value_heads, layout.key_dim, layout.key_dim)),
        q.new_empty((2, cut, layout.value_heads), dtype=torch.int32),
    )


def _gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None,
    initial_state: Tensor | None,
    layout: Layout,
) -> Gradients:
    by_value_head = layout.batch, layout.time, layout.value_heads, layout.key_dim
    none = q.new_empty(0, dtype=torch.float32)
    # Unused slots of packed sequences write nothing and count zero.
    by_slot = none.new_empty if layout.cu_seqlens is None else none.new_zeros
    d_gate = none if A_log is None else by_slot(2, layout.chunks, layout.value_heads)
    return (
        q.new_empty(by_value_head),
        k.new_empty(by_value_head),
        v.new_empty(v.shape),
        g.new_empty(g.shape),
        beta.new_empty(beta.shape),
        d_gate,
        none.new_empty(0) if initial_state is None else none.new_empty(initial_state.shape),
    )


def _forward_fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: float,
    gate_scale: float,
    beta_range: float | None,
    normalize: bool,
    output_final_state: bool,
) -> Results:
    layout = Layout.of(q, v, cu_seqlens)
    return _results(q, v, layout, segments.pieces_per_sequence(layout), normalize, output_final_state)


def _backward_fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    A_log: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    *rest: object,
) -> tuple[Tensor, ...]:
    def like(x: Tensor | None, *outer: int) -> Tensor:
        return q.new_empty(0, dtype=torch.float32) if x is None else x.new_empty(*outer, *x.shape)

    return *(like(x) for x in (q, k, v, g, beta)), like(A_log, 2), like(initial_state)


def _save(ctx: Any, arguments: tuple[Any, ...], results: Results) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*results[2:])
    ctx.save_for_backward(*arguments[:9], *results[2:])  # all tensors, and what `forward` made for `backward`
    ctx.options = arguments[9:13]


def _differentiate(ctx: Any, do: Tensor | None, d_final: Tensor | None, *rest: None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    arguments = saved[:9]
    if do is None:
        do = arguments[2].new_zeros(arguments[2].shape)
    if d_final is not None:
        d_final = d_final.contiguous()
    found = gated_delta_backward(*saved, do, d_final, *ctx.options)
    d_gate = (None, None) if arguments[5] is None else found[5].unbind()
    by_argument = (*found[:5], *d_gate, found[6], None)
    gradients = [None if x is None else d for x, d in zip(arguments, by_argument)]
    return *gradients, *(None,) * 5


gated_delta_backward = Operator("gated_delta_backward", backward, fake=_backward_fake)
gated_delta_forward = Operator(
    "gated_delta_forward", forward, fake=_forward_fake, save=_save, differentiate=_differentiate
)
