"""What a decoder of ours and a peer with the same weights must agree on, and how closely."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gdnbench_kernels.backends import BackendUnavailable
from torch import Tensor

from gdnbench.errors import GdnbenchError
from gdnbench.measure.parity.peer import Peer
from gdnbench.measure.parity.weights import Pair, gradients
from gdnbench.models.decoder import Decoder

QUANTITIES = ("logits", "loss", "gradients", "state", "next logits")

# Largest relative error by type: of activations and the loss, and of gradients, which pass through twice as many
# products. float64: peers compute norms, recurrences and losses in float32 whatever the type of their weights.
# bfloat16: both sides round every activation to 8 bits, and a few tens of them follow each other.
TOLERANCES = {"float64": (2e-6, 1e-5), "float32": (2e-5, 1e-4), "bfloat16": (5e-2, 1e-1)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One quantity: the largest relative error (by the Euclidean norm of a tensor or of a position), and where.

    ``failure`` says why there is none, where a library broke.
    """

    quantity: str
    error: float
    where: str
    tolerance: float
    failure: str = ""

    @property
    def same(self) -> bool:
        """Whether the error is within the tolerance; what is not finite is not."""
        return self.error <= self.tolerance


class Comparison:
    """A peer and our decoder with its weights, on the same tokens.

    Args:
        peer: what is known of the peer.
        theirs: its model.
        decoder: ours.
        pairs: which parameters of both belong together.
        tokens: ``[B, T]``.
        prefix: how many of them go in at once before the state is compared; the rest follow one by one.
        dtype: ``bfloat16`` runs both under autocast; the other types are those of the weights.
    """

    def __init__(
        self,
        peer: Peer,
        theirs: Any,
        decoder: Decoder,
        pairs: Sequence[Pair],
        *,
        tokens: Tensor,
        prefix: int,
        dtype: str,
    ):
        self.peer, self.theirs, self.decoder, self.pairs = peer, theirs, decoder, pairs
        self.tokens, self.prefix, self.dtype = tokens, prefix, dtype

    def findings(self) -> list[Finding]:
        """Return one finding for each of `QUANTITIES`; a library that breaks at one leaves the others.

        Raises:
            GdnbenchError: the states do not have the same parts.
            BackendUnavailable: a backend of ours does not serve this.
        """
        found: dict[str, Finding] = {}
        for group, quantities in self._groups().items():
            try:
                found |= {finding.quantity: finding for finding in group()}
            except (GdnbenchError, BackendUnavailable):
                raise
            except Exception as error:  # kernels of others may not compile, in many ways
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                found |= {name: self._failed(name, reason) for name in quantities if name not in found}
        return list(found.values())

    def _groups(self) -> dict[Callable[[], Iterator[Finding]], tuple[str, ...]]:
        return {
            self._whole: ("logits",),
            self._trained: ("loss", "gradients"),
            self._continued: ("state", "next logits"),
        }

    @torch.no_grad()
    def _whole(self) -> Iterator[Finding]:
        self._mode(training=False)
        with self._types():
            theirs = self._theirs(self.tokens, use_cache=False).logits
            ours, _ = self.decoder(self.tokens)
        yield self._finding("logits", [("", ours, theirs)], by_position=True)

    def _trained(self) -> Iterator[Finding]:
        """Take each side's own loss, as it is trained with."""
        self._mode(training=True)
        with self._types():
            theirs = self._theirs(self.tokens, labels=self.tokens, use_cache=False).loss
            ours = self.decoder.loss(self.tokens[:, :-1].contiguous(), self.tokens[:, 1:].contiguous())
        yield self._finding("loss", [("", ours.detach(), theirs.detach())])
        theirs.backward()
        ours.backward()
        yield self._finding("gradients", list(gradients(self.pairs, self.theirs, self.decoder)))

    @torch.no_grad()
    def _continued(self) -> Iterator[Finding]:
        self._mode(training=False)
        start = self.tokens[:, : self.prefix]
        with self._types():
            theirs = self._theirs(start, use_cache=True)
            _, state = self.decoder(start, self.decoder.init_state(len(start)))
            cache = theirs[self.peer.cache]
            yield self._finding("state", list(self._states(cache, state)))
            found = []
            for position in range(self.prefix, self.tokens.shape[1]):
                token = self.tokens[:, position]
                theirs = self._theirs(token[:, None], use_cache=True, **{self.peer.cache: cache})
                logits, state = self.decoder.step(token, state)
                found.append((f"after token {position}", logits[:, None], theirs.logits))
                cache = theirs[self.peer.cache]
        yield self._finding("next logits", found, by_position=True)

    def _states(self, cache: Any, state: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
        for number, block in enumerate(state or []):
            expected = self.peer.state(cache, number)
            for layer in block.keys() | expected.keys():
                mine, others = block.get(layer, {}), expected.get(layer, {})
                if mine.keys() != others.keys():
                    raise GdnbenchError(f"block {number} {layer}: ours carries {sorted(mine)}, theirs {sorted(others)}")
                for name, x in mine.items():
                    yield f"block {number} {layer}.{name}", x, others[name]

    def _theirs(self, tokens: Tensor, **options: Any) -> Any:
        return self.theirs(input_ids=tokens, **self.peer.arguments, **options)

    def _mode(self, *, training: bool) -> None:
        self.theirs.train(training)
        self.decoder.train(training)

    def _types(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.tokens.device.type, dtype=torch.bfloat16)

    def _finding(
        self, quantity: str, tensors: Sequence[tuple[str, Tensor, Tensor]], *, by_position: bool = False
    ) -> Finding:
        worst, where = 0.0, ""
        for name, ours, theirs in tensors:
            error, place = _by_position(ours, theirs) if by_position else (_relative(ours, theirs), "")
            if not error <= worst:
                worst, where = error, " ".join(part for part in (name, place) if part)
        return Finding(quantity=quantity, error=worst, where=where, tolerance=self._tolerance(quantity))

    def _failed(self, quantity: str, reason: str) -> Finding:
        return Finding(quantity=quantity, error=math.inf, where="", tolerance=self._tolerance(quantity), failure=reason)

    def _tolerance(self, quantity: str) -> float:
        tolerances = self.peer.tolerances.get(self.dtype, TOLERANCES[self.dtype])
        return tolerances[1 if quantity == "gradients" else 0]


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """Return ``|ours - theirs| / |theirs|``; infinite where shapes differ, something is not finite, or theirs is 0."""
    if ours.shape != theirs.shape:
        return math.inf
    ours, theirs = ours.double().cpu(), theirs.double().cpu()
    difference = float((ours - theirs).norm())
    if difference == 0.0:
        return 0.0
    error = difference / max(float(theirs.norm()), torch.finfo(torch.float32).tiny)
    return error if math.isfinite(error) else math.inf


def _by_position(ours: Tensor, theirs: Tensor) -> tuple[float, str]:
    """Return the largest relative error of a position of ``[B, T, V]``, and which one it is."""
    if ours.shape != theirs.shape:
        return math.inf, f"{list(ours.shape)} and {list(theirs.shape)}"
    ours, theirs = ours.double(), theirs.double()
    errors = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    errors = errors.nan_to_num(math.inf, math.inf)
    place = int(errors.argmax())
    sequence, token = divmod(place, errors.shape[1])
    return float(errors.flatten()[place]), f"sequence {sequence}" + (f", token {token}" if errors.shape[1] > 1 else "")
