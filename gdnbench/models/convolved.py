"""Generation with a state of two parts, as linear mixers have it: the tail of short convolutions, and a memory."""

from collections.abc import Sequence
from typing import Any

import torch
from gdnbench_kernels.short_convolution import ring as rings
from torch import Tensor, nn

from gdnbench.models.convolution import ShortConvolution
from gdnbench.models.mixer import State, StatefulLayer
from gdnbench.models.serving import Serving, Slots


class ConvolvedServing(Serving):
    """The state ``tail [B, size - 1, C]`` and ``memory``, of which the tail is kept as a ring ``[B, size, C]``.

    A step so writes one slot of the ring, ``Slots.lengths % size``, and moves none (`short_convolution.ring`).
    """

    def __init__(self, layer: StatefulLayer, slots: Slots):
        self.slots = slots
        empty = layer.init_state(1)
        (_, past, channels), (_, *sizes) = empty["tail"].shape, empty["memory"].shape
        ring = empty["tail"].new_zeros(slots.batch_size, past + 1, channels, dtype=slots.dtype)
        memory = empty["memory"].new_zeros(slots.batch_size, *sizes, dtype=slots.state_dtype)
        self.state: State = {"tail": ring, "memory": memory}

    def buffers(self) -> dict[str, Any]:
        """Return what a step reads and writes in place, as an operation of one token takes it.

        They are settled: between two steps of one layer there are kernels that wait for all before them (those that
        choose and embed a token, or copy one), and no other layer writes them.
        """
        buffers = {"ring": self.state["tail"], "memory": self.state["memory"], "lengths": self.slots.lengths}
        return {**buffers, "settled": True}

    def load(self, rows: slice, state: State) -> None:
        """Put the tail where the rows' lengths say."""
        rings.load(self.state["tail"][rows], self.slots.lengths[rows], state["tail"])
        self.state["memory"][rows] = state["memory"]

    def unload(self, rows: slice) -> State:
        """Return the tail in order, and the memory in float32 or wider."""
        memory, dtype = self.state["memory"][rows], torch.promote_types(self.slots.dtype, torch.float32)
        tail = rings.unload(self.state["tail"][rows], self.slots.lengths[rows])
        return {"tail": tail, "memory": memory.to(dtype, copy=True)}


@torch.no_grad()
def pack_taps(convolutions: Sequence[ShortConvolution], dtype: torch.dtype) -> Tensor:
    """Return the taps of convolutions of one size ``[C of all, size]``, channels side by side in memory.

    The convolutions' own become views of it.
    """
    whole = torch.cat([convolution.weight.detach() for convolution in convolutions]).to(dtype).t().contiguous().t()
    parts = whole.split([convolution.channels for convolution in convolutions])
    for convolution, part in zip(convolutions, parts, strict=True):
        convolution.weight = nn.Parameter(part, requires_grad=False)
    return whole
