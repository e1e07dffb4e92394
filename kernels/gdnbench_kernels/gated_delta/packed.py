"""Sequences of several lengths, packed one after another into a batch of 1."""

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

Form = Callable[..., tuple[Tensor, Tensor]]


def by_sequence(form: Form) -> Form:
    """Wrap ``form(q, k, v, g, beta, *, scale, initial_state)`` to run once for each sequence of ``cu_seqlens``.

    An empty sequence leaves its state as it was. Reads ``cu_seqlens`` on the host, which waits for a GPU.
    """

    @functools.wraps(form)
    def run(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor,
        beta: Tensor,
        *,
        scale: float,
        initial_state: Tensor | None,
        cu_seqlens: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if cu_seqlens is None:
            return form(q, k, v, g, beta, scale=scale, initial_state=initial_state)
        if initial_state is None:
            initial_state = v.new_zeros(len(cu_seqlens) - 1, v.shape[2], q.shape[3], v.shape[3])
        outputs, states = [], list(initial_state.split(1))
        for i, (start, end) in enumerate(itertools.pairwise(cu_seqlens.tolist())):
            if start < end:
                own = (x[:, start:end] for x in (q, k, v, g, beta))
                output, states[i] = form(*own, scale=scale, initial_state=states[i])
                outputs.append(output)
        return torch.cat(outputs, 1), torch.cat(states)

    return run
