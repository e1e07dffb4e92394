"""The memory that generation takes, from shapes alone: known before anything is set aside."""

import contextlib
import dataclasses
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import torch

from gdnbench import environment
from gdnbench.errors import GdnbenchError
from gdnbench.models import Decoder
from gdnbench.models.mixer import StatefulLayer
from gdnbench.models.projection import Projection


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes: of weights, of all rows' states or caches, and of what computing needs beside them."""

    weights: int
    state: int
    workspace: int


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is to be generated at once.

    Attributes:
        batch_size: rows.
        capacity: tokens that a row may come to hold.
        dtype: type of matrices and caches.
        state_dtype: type of recurrent memories.
        prefill_tokens: tokens of prompts that go through the layers at once.
    """

    batch_size: int
    capacity: int
    dtype: torch.dtype
    state_dtype: torch.dtype
    prefill_tokens: int

    def memory(self, model: Decoder) -> Memory:
        """Return what a model takes, which may be without memory itself (`gdnbench.models.decoder.on_meta`).

        Weights and state are exact but for what layers pad; the workspace is an estimate: what a prefill keeps at once
        of the widest layer and of the residual stream, and the logits of a step three times. Where a state grows, a
        prompt goes through whole.
        """
        matrices = {m.weight for m in model.modules() if isinstance(m, Projection)} | {model.embedding.weight}
        weights = sum(p.numel() * (self.dtype if p in matrices else p.dtype).itemsize for p in model.parameters())
        state = self.batch_size * self.row_bytes(model, self.capacity)
        return Memory(weights=weights, state=state, workspace=self._workspace(model))

    def row_bytes(self, model: Decoder, context: int) -> int:
        """Return the bytes of a row's state after ``context`` tokens, of all layers."""
        return sum(self._state(layer, context) for layer in _layers(model))

    def _state(self, layer: StatefulLayer, context: int) -> int:
        memory = layer.init_state(1).get("memory", torch.empty(0)).numel()
        rest = layer.state_bytes(context, 1) - memory
        return memory * self.state_dtype.itemsize + rest * self.dtype.itemsize

    def _workspace(self, model: Decoder) -> int:
        config, wide = model.config, torch.promote_types(self.dtype, torch.float32).itemsize
        outputs = max(sum(len(p.weight) for p in m.modules() if isinstance(p, Projection)) for m in _layers(model))
        token = 4 * config.width * wide + 2 * outputs * self.dtype.itemsize
        tokens = min(self.prefill_tokens, self.batch_size * self.capacity)
        if self.row_bytes(model, 2) > self.row_bytes(model, 1):
            tokens = max(tokens, self.capacity)
        return tokens * token + 3 * self.batch_size * config.vocab_size * wide + 4 * self.batch_size * self.capacity

    def check(self, model: Decoder, device: torch.device, *, held: int = 0) -> None:
        """Raise where a device does not have the memory, ``held`` bytes of weights being there already."""
        free = free_bytes(device) + held
        if self.total(model) <= free:
            return
        wanted = self.memory(model)
        batch = self._largest(model, free, "batch_size", self.batch_size)
        capacity = self._largest(model, free, "capacity", self.capacity)
        fitting = [f"batch {batch} with this capacity"] if batch else []
        fitting += [f"capacity {capacity} in this batch"] if capacity else []
        raise GdnbenchError(
            f"batch {self.batch_size} with capacity {self.capacity} needs {_gib(wanted.state)} of state, about "
            f"{_gib(wanted.workspace)} of workspace and {_gib(wanted.weights)} of weights; {_gib(free)} of "
            f"{device.type} are there for them; what would fit: {' or '.join(fitting) or 'no batch of this capacity'}"
        )

    def total(self, model: Decoder) -> int:
        """Return the bytes of all together."""
        return sum(dataclasses.astuple(self.memory(model)))

    def _largest(self, model: Decoder, free: int, name: str, given: int) -> int:
        """Return the largest value of a field, below the one that was given, that leaves enough; 0: none does."""

        def too_much(value: int) -> bool:
            return dataclasses.replace(self, **{name: value}).total(model) > free  # type: ignore[arg-type]

        return bisect_left(range(1, given), True, key=too_much)


def _layers(model: Decoder) -> list[StatefulLayer]:
    return [layer for block in model.block_list() for _, layer in block.layers().values()]


def free_bytes(device: torch.device) -> int:
    """Return the bytes that a device still has, those that PyTorch holds unused among them."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 2**10
    return int(environment.memory_gib() * 2**30)


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
