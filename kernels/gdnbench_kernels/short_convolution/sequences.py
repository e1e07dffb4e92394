"""What the plain PyTorch forms of the short convolution share: packed sequences, and sums in float32 or wider."""

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# (x, weight, initial state) -> (sum over taps, final state)
Form = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def by_sequence(form: Form) -> Callable[..., tuple[Tensor, Tensor]]:
    """Wrap a form of the bare convolution of one batch into a backend's ``short_convolution``.

    An empty sequence leaves its state as it was. Reads ``cu_seqlens`` on the host, which waits for a GPU.
    """

    @functools.wraps(form)
    def run(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *,
        initial_state: Tensor | None,
        cu_seqlens: Tensor | None,
        silu: bool,
        output_final_state: bool,
    ) -> tuple[Tensor, Tensor]:
        kind, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
        sequences = x.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
        if initial_state is None:
            initial_state = x.new_zeros(sequences, weight.shape[1] - 1, x.shape[2])
        x, weight, state = x.to(wide), weight.to(wide), initial_state.to(wide)
        with torch.autocast(x.device.type, enabled=False):
            y, state = form(x, weight, state) if cu_seqlens is None else _packed(form, x, weight, state, cu_seqlens)
        y = y if bias is None else y + bias.to(wide)
        return (F.silu(y) if silu else y).to(kind), state.to(kind)

    return run


def _packed(form: Form, x: Tensor, weight: Tensor, state: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    outputs, states = [], list(state.split(1))
    for i, (start, end) in enumerate(itertools.pairwise(cu_seqlens.tolist())):
        if start < end:
            output, states[i] = form(x[:, start:end], weight, states[i])
            outputs.append(output)
    return torch.cat(outputs, 1), torch.cat(states)
