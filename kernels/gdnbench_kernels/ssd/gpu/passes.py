"""The two passes: which kernels run, in which order, and what lies between them."""

import importlib
from types import ModuleType

import torch
from torch import Tensor

from gdnbench_kernels.gated_delta.gpu import prepare
from gdnbench_kernels.gated_delta.gpu.choice import GLUON, HOPPER, movable, reverse, scan
from gdnbench_kernels.gated_delta.gpu.layout import CHUNK, ROWS, Layout
from gdnbench_kernels.launching import arch_of
from gdnbench_kernels.ssd.gpu import gradients

_FACTORS = len(ROWS) - 2  # c and b come as they are: no norms


def forward(
    c: Tensor, b: Tensor, x: Tensor, g: Tensor, dt: Tensor, initial_state: Tensor | None, output_final_state: bool
) -> tuple[Tensor, Tensor]:
    """Return the output and the final state in float32, empty where it is not asked for; see `ssd.api.ssd`."""
    c, b, x = movable(c, b, x)
    layout = Layout.of(c, x, None)
    output, final = results(x, layout, output_final_state)
    attention, rows = _prepared(layout, c, b, g, dt)
    scan(
        layout,
        1,
        q=c,
        k=b,
        v=x,
        rows=rows,
        attention=attention,
        initial=initial_state,
        output=output,
        final=final if output_final_state else None,
    )
    return output, final


def backward(
    c: Tensor,
    b: Tensor,
    x: Tensor,
    g: Tensor,
    dt: Tensor,
    initial_state: Tensor | None,
    do: Tensor,
    d_final: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of c, b, x, g, dt and of the initial state, empty where there is none.

    What the forward pass made is made again: kept, the states and P would outweigh the arguments many times.
    """
    c, b, x, do = movable(c, b, x, do)
    layout = Layout.of(c, x, None)
    attention, rows = _prepared(layout, c, b, g, dt)
    states = c.new_empty(layout.chunks, layout.value_heads, layout.key_dim, layout.value_dim)
    scan(layout, 1, k=b, v=x, rows=rows, initial=initial_state, states=states)

    d_initial = g.new_empty(0 if initial_state is None else initial_state.shape, dtype=torch.float32)
    dstates, dx = torch.empty_like(states), x.new_empty(x.shape)
    reverse(
        layout,
        1,
        q=c,
        k=b,
        do=do,
        rows=rows,
        attention=attention,
        dstates=dstates,
        dx=dx,
        final_grad=d_final,
        initial_grad=None if initial_state is None else d_initial,
    )

    chosen = _gradients(layout, c.device)
    parts, (key_tiles, value_tiles) = gradients.parts(layout), chosen.tiles(layout, c.device)
    by_part = layout.batch, layout.time, layout.heads * parts, layout.key_dim
    dc, db = (c.new_empty(by_part) for _ in range(2))
    dg, ddt = (g.new_empty(n, *g.shape, dtype=torch.float32) for n in (key_tiles * value_tiles, value_tiles))
    chosen.run(
        layout,
        q=c,
        k=b,
        v=x,
        do=do,
        dx=dx,
        states=states,
        dstates=dstates,
        rows=rows,
        dq=dc,
        dk=db,
        dv=dx,
        dg=dg,
        dbeta=ddt,
    )
    if parts > 1:
        dc, db = (d.unflatten(2, (layout.heads, parts)).sum(3, dtype=torch.float32).to(c.dtype) for d in (dc, db))
    dg, ddt = (d[0] if len(d) == 1 else d.sum(0) for d in (dg, ddt))
    return dc, db, dx, dg.to(g.dtype), ddt.to(dt.dtype), d_initial


def _gradients(layout: Layout, device: torch.device) -> ModuleType:
    """Return the version of `gradients` that runs."""
    if "gradients" in GLUON and arch_of(device) == HOPPER:
        hopper = importlib.import_module("gdnbench_kernels.ssd.gpu.hopper")
        if layout.key_dim <= hopper.WIDEST_KEYS:
            return hopper
    return gradients


def results(x: Tensor, layout: Layout, output_final_state: bool) -> tuple[Tensor, Tensor]:
    """Return what `forward` fills."""
    sequences = layout.batch if output_final_state else 0
    final = x.new_empty(sequences, layout.value_heads, layout.key_dim, layout.value_dim, dtype=torch.float32)
    return x.new_empty(x.shape), final


def _prepared(layout: Layout, c: Tensor, b: Tensor, g: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Return P and the row factors."""
    attention = c.new_empty(layout.chunks, layout.value_heads, CHUNK, CHUNK)
    rows = c.new_empty(layout.chunks, layout.value_heads, _FACTORS, CHUNK, dtype=torch.float32)
    prepare.run(layout, q=c, k=b, g=g, beta=dt, scale=1.0, attention=attention, rows=rows)
    return attention, rows
