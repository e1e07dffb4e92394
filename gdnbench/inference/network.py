"""A decoder as generation runs it: prompts in chunked forms, then a token a call through the layers' servings."""

import torch
from gdnbench_kernels import backends
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.fused_linear.api import whole
from gdnbench_kernels.next_token import RowsOfTokens, embed
from torch import Tensor, nn

from gdnbench.models import Decoder, ModelConfig
from gdnbench.models.norm import as_arguments
from gdnbench.models.projection import Projection
from gdnbench.models.serving import Serving, Slots, pack, precision


class Network:
    """The layers of a decoder over one batch's state. It takes the decoder over: matrices are put into another type.

    Norms, gates' scalars and convolutions stay in the type that they have; sums are in float32 or wider throughout.
    """

    def __init__(self, model: Decoder, slots: Slots, *, prefill_tokens: int):
        self.model, self.slots, self.prefill_tokens = model, slots, prefill_tokens
        self.wide = torch.promote_types(slots.dtype, torch.float32)
        self.grows = model.state_bytes(2, 1) > model.state_bytes(1, 1)
        model.requires_grad_(False)
        model.run(model.running, residual=self.wide)
        matrices_in(model, slots.dtype)
        self.blocks = [
            (
                block.input_norm,
                {
                    name: layer.serve(norm, slots, factor=block.mixer_output.value if name == "mixer" else 1.0)
                    for name, (norm, layer) in block.layers().items()
                },
            )
            for block in model.block_list()
        ]

    def servings(self) -> list[Serving]:
        """Return the servings of all layers, first to last."""
        return [serving for _, layers in self.blocks for serving in layers.values()]

    def step(self, rows: RowsOfTokens) -> Tensor:
        """Feed what waits in every row and return logits ``[B, vocabulary]``; the state moves on in place."""
        shared: dict[str, Tensor] = {}
        x = embed(self.model.embedding.weight, rows, dtype=self.wide, impl=self.slots.impl("next_token"))
        y: Tensor | None = None
        for input_norm, layers in self.blocks:
            x = x if input_norm is None else input_norm(x)
            for serving in layers.values():
                given = y if y is None or serving.takes_parts else whole(y)
                x, y = serving.step(x, given, shared)
        return self._logits(x, y)

    def prefill(self, tokens: Tensor, rows: slice) -> Tensor:
        """Put some rows into the state after ``tokens [R, T]`` and return the logits that follow ``[R, vocabulary]``.

        The rows go through in parts of at most ``prefill_tokens`` tokens; where the state does not grow, a longer row
        does, too.
        """
        together, found = max(1, self.prefill_tokens // tokens.shape[1]), []
        for start in range(0, len(tokens), together):
            part = tokens[start : start + together]
            found.append(self._prefill(part, slice(rows.start + start, rows.start + start + len(part))))
        return torch.cat(found)

    def _prefill(self, tokens: Tensor, rows: slice) -> Tensor:
        state = self._begin(rows)
        for part in [tokens] if self.grows else tokens.split(self.prefill_tokens, 1):
            with precision(tokens.device.type, self.slots.dtype):
                x, y, state = self.model.prefill(part, state)
        for (_, layers), carried in zip(self.blocks, state, strict=True):
            for name, serving in layers.items():
                serving.load(rows, carried.pop(name))
        return self._logits(x, y)

    def _begin(self, rows: slice) -> list[dict[str, dict[str, Tensor]]]:
        """Return the state of some rows before their first token, in buffers where they have them."""
        found = []
        for (_, layers), block in zip(self.blocks, self.model.block_list(), strict=True):
            states = {name: layers[name].begin(rows) for name in layers}
            own = {name: layer for name, (_, layer) in block.layers().items()}
            found.append(
                {
                    name: own[name].init_state(rows.stop - rows.start) if state is None else state
                    for name, state in states.items()
                }
            )
        return found

    def unload(self, row: int) -> list[dict[str, dict[str, Tensor]]]:
        """Return a copy of a row's state in the decoder's own form."""
        rows = slice(row, row + 1)
        return [{name: serving.unload(rows) for name, serving in layers.items()} for _, layers in self.blocks]

    def load(self, row: int, state: list[dict[str, dict[str, Tensor]]]) -> None:
        """Take over what `unload` returned, whatever the device."""
        for (_, layers), carried in zip(self.blocks, state, strict=True):
            for name, serving in layers.items():
                serving.load(slice(row, row + 1), carried[name])

    def weight_bytes(self) -> int:
        """Return the bytes of all weights; what is a view of another counts once."""
        whole = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in self.model.parameters()}
        return sum(whole.values())

    def state_bytes(self) -> int:
        """Return the bytes of all layers' states."""
        return sum(serving.state_bytes() for serving in self.servings())

    def _logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        weight, scale = self.model.head_matrix()
        impl, norm = self.slots.impl("fused_linear"), as_arguments(self.model.norm)
        return fused_linear(x, weight, add=y, **norm, scale=scale, out_dtype=self.wide, impl=impl).y


def matrices_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Put the matrices of a model, its factors among them, and its embedding into a type."""
    for module in model.modules():
        if isinstance(module, Projection) and (module.weight.dtype != dtype or module.factor != 1.0):
            pack([module], dtype)
    if isinstance(model, Decoder):
        model.embedding.to(dtype)


def backend_of(config: ModelConfig, operation: str, device: torch.device) -> str:
    """Return the backend of an operation of a step: the configured one that serves it, else the device's own.

    Configurations name the backends of training's operations; those of a step that they do not name run on our
    kernels on a GPU and on PyTorch's elsewhere.
    """
    chosen = config.backend if isinstance(config.backend, str) else config.backend.get(operation)
    known = backends.names(operation)
    if chosen in known:
        return str(chosen)
    return "triton" if device.type == "cuda" and "triton" in known else "torch"
