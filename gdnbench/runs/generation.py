"""Text from a trained model: prompts in the tokens of its training, and what follows them, as it comes."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gdnbench import environment
from gdnbench.data import Tokenizer
from gdnbench.errors import GdnbenchError
from gdnbench.inference import Engine, Greedy, Sampling, saved
from gdnbench.inference.engine import PREFILL_TOKENS
from gdnbench.inference.memory import Demand
from gdnbench.inference.text import TextStream
from gdnbench.measure import memory
from gdnbench.models.decoder import Decoder, on_meta
from gdnbench.runs.trained import Backend, find_run, load_trained, read_trained, tokenizer_of
from gdnbench.words import plural


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be generated.

    Attributes:
        model: a run (`gdnbench.runs.trained.find_run`).
        prompts: texts; none: go on with ``load_state``.
        max_tokens: tokens that are to follow each.
        sampling: how they are chosen.
        stop: texts before which a continuation ends; it ends at the token that separates documents, too.
        device: ``cpu`` or ``cuda``.
        backend: None: the run's, or the device's own.
        dtype: type of matrices and caches; None: bfloat16 on a GPU, else float32.
        state_dtype: type of recurrent memories.
        graph: whether steps become a CUDA graph; None: on a GPU.
        load_state: file to go on from.
        save_state: file to write the state to in the end.
        training_corpus: the corpus of the training with the place of its files, which a trained tokenizer needs.
        results: folder of the result sets.
    """

    model: str
    prompts: tuple[str, ...]
    max_tokens: int
    sampling: Greedy | Sampling
    stop: tuple[str, ...] = ()
    device: str = "cpu"
    backend: Backend | None = None
    dtype: str | None = None
    state_dtype: str = "float32"
    graph: bool | None = None
    load_state: Path | None = None
    save_state: Path | None = None
    training_corpus: str | None = None
    results: Path = Path("results")


@dataclass
class Continuation:
    """What followed a prompt: its text before any stop text, all tokens, and why it ended.

    Why: ``stop``, ``length``, ``capacity`` (`gdnbench.inference.Piece`), or ``interrupted`` by Ctrl-C.
    """

    prompt: str | None
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finished: str = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Continuations by prompt, and what they took.

    Attributes:
        run_id: the model.
        backends: operation -> backend.
        continuations: one for each prompt.
        first_token_ms: from the prompts to their first tokens.
        tokens_per_s: of all rows, after their first tokens; None where there were no more.
        weights: bytes.
        state: bytes of all rows' states or caches.
        workspace: bytes (`gdnbench.inference.Engine.memory`).
    """

    run_id: str
    backends: dict[str, str]
    continuations: list[Continuation]
    first_token_ms: float
    tokens_per_s: float | None
    weights: int
    state: int
    workspace: int

    def line(self) -> str:
        """Return speed and memory in a line."""
        count = plural(sum(len(one.tokens) for one in self.continuations), "token")
        speed = "" if self.tokens_per_s is None else f", then {self.tokens_per_s:,.1f} tokens/s"
        sizes = {"weights": self.weights, "state": self.state, "workspace": self.workspace}
        memory = ", ".join(f"{name} {size / 2**20:,.4g} MiB" for name, size in sizes.items())
        ended = " (interrupted)" if any(one.finished == "interrupted" for one in self.continuations) else ""
        first = f"first after {self.first_token_ms:,.1f} ms{speed}"
        return f"{self.run_id}: {count}{ended}; {first}; {memory}"


def generate(asked: Asked, show: Callable[[str], None] = lambda text: None) -> Generated:
    """Generate; where one text is continued, ``show`` gets what follows as it comes.

    Raises:
        GdnbenchError: the run, a prompt, the state or the machine does not allow it.
    """
    if bool(asked.prompts) == bool(asked.load_state):
        raise GdnbenchError("expected either a prompt or a state to go on from")
    if asked.save_state is not None and asked.save_state.is_dir():
        raise GdnbenchError(f"{asked.save_state}: a folder; expected a file to write the state to")
    there: dict[str, Any] = {
        "device": asked.device,
        "dtype": asked.dtype or ("bfloat16" if asked.device == "cuda" else "float32"),
        "backend": asked.backend,
    }
    environment.check_device(asked.device, there["dtype"])
    store, run_id = find_run(asked.model, asked.results)
    record, spec = read_trained(store, run_id, **there)
    tokenizer = tokenizer_of(record, asked.training_corpus)
    prompts = [tokenizer.encode(text).tolist() for text in asked.prompts]
    if asked.load_state is not None:
        lengths = [len(row["tokens"]) for row in saved.read(asked.load_state, spec.model, run_id)]
    else:
        lengths = [len(prompt) for prompt in prompts]
    demand = Demand(
        batch_size=len(lengths),
        capacity=max(2, max(lengths) + asked.max_tokens),
        dtype=_type(spec.dtype),
        state_dtype=_type(asked.state_dtype),
        prefill_tokens=PREFILL_TOKENS,
    )
    demand.check(on_meta(spec.model), torch.device(asked.device))
    try:
        *_, model = load_trained(store, run_id, **there)
        engine = _engine(model, demand, asked, run_id)
        found = _run(run_id, engine, tokenizer, prompts, asked, show)
        if asked.save_state is not None:
            engine.save_state(asked.save_state, engine.rows_of_prompts())
    except torch.OutOfMemoryError as error:
        raise GdnbenchError(f"the GPU ran out of memory; ask for fewer prompts or tokens ({error})") from error
    return found


def _engine(model: Decoder, demand: Demand, asked: Asked, run_id: str) -> Engine:
    """Return an engine with what it is to go on from."""
    engine = Engine(
        model,
        batch_size=demand.batch_size,
        capacity=demand.capacity,
        dtype=demand.dtype,
        state_dtype=demand.state_dtype,
        graph=asked.graph,
        model_id=run_id,
    )
    # What putting the weights into their type took is no part of what generation takes.
    memory.reset_peak(asked.device)
    if asked.load_state is not None:
        engine.load_state(asked.load_state)
    return engine


def _run(
    run_id: str,
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    asked: Asked,
    show: Callable[[str], None],
) -> Generated:
    count = engine.demand.batch_size
    found = [Continuation(prompt) for prompt in asked.prompts or [None] * count]
    texts = [TextStream(tokenizer, asked.stop) for _ in range(count)]
    began = [len(engine.tokens(row)) for row in range(count)] if not prompts else [len(prompt) for prompt in prompts]
    started = time.perf_counter()
    pieces = engine.generate(prompts or None, asked.max_tokens, sampling=asked.sampling, stop=[tokenizer.separator])
    first, more, waiting = None, 0, set(range(count))
    # Who stops listening by Ctrl-C keeps what came, and the state.
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
        for piece in pieces:
            now = time.perf_counter()
            more += 0 if first is None else len(piece.tokens)
            first = first or now
            one, text = found[piece.prompt], texts[piece.prompt]
            if text.over:
                continue
            one.tokens += piece.tokens
            shown = text.add(_said(piece.tokens, tokenizer), final=piece.finished is not None)
            one.text += shown
            if count == 1:
                show(shown)
            if text.over or piece.finished is not None:
                one.finished = "stop" if text.over else str(piece.finished)
                waiting.discard(piece.prompt)
            if not waiting:
                break
    ended, taken = time.perf_counter(), engine.memory()
    # What a row got behind a stop text, or while nobody listened any more, was not said.
    for row, length, one in zip(engine.rows_of_prompts(), began, found, strict=True):
        engine.cut(row, length + len(one.tokens))
    first = first or ended
    return Generated(
        run_id=run_id,
        backends=engine.backends(),
        continuations=found,
        first_token_ms=1e3 * (first - started),
        tokens_per_s=more / (ended - first) if more else None,
        weights=taken.weights,
        state=taken.state,
        workspace=taken.workspace,
    )


def prompts(texts: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """Return texts, and that of a file (``-``: standard input) behind them; raise for what is no text in UTF-8."""
    found = [*texts]
    try:
        if file is not None:
            found.append(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GdnbenchError(f"{file}: not readable as text: {error}") from error
    for number, text in enumerate(found):
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # what other bytes become, of arguments
            raise GdnbenchError(f"prompt {number}: not readable as text: expected UTF-8")
    return tuple(found)


def sampling(
    *, temperature: float | None, top_k: int | None, top_p: float | None, seed: int | None
) -> Greedy | Sampling:
    """Return how tokens are chosen: the likeliest, unless something is said that goes with drawing them.

    A temperature of 0 is the likeliest, too, whatever else is said; it must still be right.
    """
    given = {"temperature": temperature or None, "top_k": top_k, "top_p": top_p, "seed": seed}
    said = {name: value for name, value in given.items() if value is not None}
    drawn = Sampling(**said)  # type: ignore[arg-type]
    return drawn if said and temperature != 0 else Greedy()


def _said(tokens: tuple[int, ...], tokenizer: Tokenizer) -> list[int]:
    return [token for token in tokens if token != tokenizer.separator]


def _type(name: str) -> torch.dtype:
    known = ("float32", "bfloat16", "float64")
    if name not in known:
        raise GdnbenchError(f"type {name!r}: expected one of {', '.join(known)}")
    found: torch.dtype = getattr(torch, name)
    return found


def to_json(found: Generated, asked: Asked) -> dict[str, Any]:
    """Return everything as plain data."""
    sampling = {"method": type(asked.sampling).__name__.lower(), **vars(asked.sampling)}
    return {
        "model": found.run_id,
        "device": environment.device_name(asked.device),
        "backends": found.backends,
        "sampling": sampling,
        "continuations": [vars(one) for one in found.continuations],
        "first_token_ms": found.first_token_ms,
        "tokens_per_s": found.tokens_per_s,
        "weights_bytes": found.weights,
        "state_bytes": found.state,
        "workspace_bytes": found.workspace,
    }
