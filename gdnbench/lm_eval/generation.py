"""What lm-eval asks to be generated, in the engine's terms."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from gdnbench.data import Tokenizer
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.inference import Engine, Greedy, Sampling
from gdnbench.inference.text import TextStream

SAMPLING = ("temperature", "top_k", "top_p")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One request: a context's tokens, what ends its continuation, its most tokens, and how they are chosen."""

    prompt: tuple[int, ...]
    until: tuple[str, ...]
    max_tokens: int
    sampling: Greedy | Sampling

    @property
    def way(self) -> tuple[Any, ...]:
        """What requests of one batch share."""
        return self.max_tokens, repr(self.sampling)


def wanted(
    context: str, settings: Mapping[str, Any], tokenizer: Tokenizer, *, max_length: int, max_tokens: int
) -> Wanted:
    """Return a request as the harness reads its settings; a long context loses its beginning, to leave room.

    Args:
        context: what the text begins with; empty: the separator alone.
        settings: ``until``, ``max_gen_toks``, ``do_sample``, ``temperature``, ``top_k``, ``top_p``.
        tokenizer: the model's.
        max_length: tokens of context and continuation together.
        max_tokens: of the continuation, where the settings do not say.

    Raises:
        GdnbenchError: a setting that the engine does not have, or no room for any context.
    """
    given: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), max_tokens))
    until, count = handle_stop_sequences(given.pop("until", None), eos=None), given.pop("max_gen_toks")
    drawn = given.pop("do_sample")
    options = {name: given.pop(name) for name in SAMPLING if name in given}
    if given:
        raise unknown("generation setting", next(iter(given)), ["until", "max_gen_toks", "do_sample", *SAMPLING])
    room = max_length - count
    if room < 1:
        raise GdnbenchError(
            f"{count} tokens to generate leave no room for a context in a window of {max_length}; "
            "set max_gen_toks of the task or --gen_kwargs lower, or max_length of the model higher"
        )
    tokens = tokenizer.encode(context).tolist() or [tokenizer.separator]
    return Wanted(
        prompt=tuple(tokens[-room:]),
        until=tuple(until),
        max_tokens=count,
        sampling=Sampling(**options, seed=torch.initial_seed() % 2**31) if drawn else Greedy(),
    )


def in_batches(asked: Sequence[Wanted], size: int) -> Iterator[list[int]]:
    """Yield the numbers of requests that go through together: of one way, and of like length."""
    order = sorted(range(len(asked)), key=lambda number: (asked[number].way, -len(asked[number].prompt)))
    for _, group in groupby(order, key=lambda number: asked[number].way):
        numbers = list(group)
        yield from (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


def complete(engine: Engine, tokenizer: Tokenizer, batch: Sequence[Wanted]) -> list[str]:
    """Return what follows each prompt of a batch of one way, up to its first stop or the separator."""
    texts, found = [TextStream(tokenizer, one.until) for one in batch], [""] * len(batch)
    running = set(range(len(batch)))
    pieces = engine.generate(
        [one.prompt for one in batch], batch[0].max_tokens, sampling=batch[0].sampling, stop=[tokenizer.separator]
    )
    with contextlib.closing(pieces):
        for piece in pieces:
            said = [token for token in piece.tokens if token != tokenizer.separator]
            ended = piece.finished is not None
            found[piece.prompt] += texts[piece.prompt].add(said, final=ended)
            if ended or texts[piece.prompt].over:
                running.discard(piece.prompt)
            if not running:
                break
    return found
