"""The generation engine: prompts in parallel, then steps of all rows over static buffers, one CUDA graph on a GPU."""

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from gdnbench_kernels.next_token import append, append_likeliest
from torch import Tensor

from gdnbench.errors import GdnbenchError
from gdnbench.graph import Replayed
from gdnbench.inference import prompts as checked
from gdnbench.inference import saved
from gdnbench.inference.memory import Demand, Memory
from gdnbench.inference.network import Network, backend_of
from gdnbench.inference.rows import Rows
from gdnbench.inference.sampling import Greedy, Sampling, stream_keys
from gdnbench.inference.stream import Piece, Window
from gdnbench.models import Decoder
from gdnbench.models.serving import Slots
from gdnbench.words import plural

PREFILL_TOKENS = 1 << 15
EVERY = 16  # steps between two looks at what a GPU has generated


class Engine:
    """A decoder that continues up to ``batch_size`` rows of tokens at once, each of up to ``capacity``.

    It takes the decoder over (`gdnbench.inference.network`). Rows are numbered from 0; what a row holds is its prompt
    and what was generated, of which all but the last token were fed to the layers.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        batch_size: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        state_dtype: torch.dtype | None = None,
        graph: bool | None = None,
        prefill_tokens: int = PREFILL_TOKENS,
        model_id: str = "",
    ):
        """Set aside all memory that steps need.

        Args:
            model: on the device where it is to run.
            batch_size: number of rows.
            capacity: tokens that a row may come to hold, its prompt among them.
            dtype: type of matrices and caches.
            state_dtype: type of recurrent memories; None: float32, or wider where ``dtype`` is.
            graph: whether steps become a CUDA graph; None: on a GPU.
            prefill_tokens: tokens of prompts that go through the layers at once (a longer prompt in parts, where no
                layer's state grows).
            model_id: what names the weights; a state is refused by a model of another name.

        Raises:
            GdnbenchError: too little memory, or a layer that no graph can hold.
        """
        if batch_size < 1 or capacity < 2 or prefill_tokens < 1:
            raise GdnbenchError(
                f"batch {batch_size}, capacity {capacity}, prefill {prefill_tokens}: expected at least 1, 2 and 1"
            )
        parameter = next(model.parameters())
        device = parameter.device
        wide = torch.promote_types(dtype, torch.float32)
        state_dtype = state_dtype or wide
        demand = Demand(
            batch_size=batch_size,
            capacity=capacity,
            dtype=dtype,
            state_dtype=state_dtype,
            prefill_tokens=prefill_tokens,
        )
        demand.check(model, device, held=sum(p.numel() * p.element_size() for p in model.parameters()))
        self.model, self.device, self.demand, self.model_id = model, device, demand, model_id
        self._backends: dict[str, str] = {}
        self.rows = Rows(batch_size, capacity, model.config.vocab_size, device=device, wide=wide)
        slots = Slots(
            batch_size=batch_size,
            # A full row that waits for others still has a place to feed its token to.
            capacity=capacity + 1,
            lengths=self.rows.lengths,
            dtype=dtype,
            state_dtype=state_dtype,
            impl=self._backend,
        )
        self.network = Network(model, slots, prefill_tokens=prefill_tokens)
        self.graph = device.type == "cuda" if graph is None else graph
        self._check_graph()
        self._steps: dict[Greedy | Sampling | None, Callable[[], None]] = {}
        # What the host knows of each row: tokens fed, whether one waits, the stream of its random numbers.
        self.fed, self.waits, self.streams = [0] * batch_size, [False] * batch_size, list(range(batch_size))
        self._stale: set[int] = set()
        self._names: dict[int, int] = {}
        self._count = 0
        self._before = self.rows.lengths

    @torch.no_grad()
    def prefill(self, tokens: Tensor, rows: slice | None = None) -> Tensor:
        """Begin rows with prompts of one length ``[R, T]`` and return the logits that follow, ``[R, vocabulary]``.

        Args:
            tokens: prompts.
            rows: which rows, R of them; None: the first ones.
        """
        start, stop, _ = (rows or slice(0, len(tokens))).indices(len(self.fed))
        if tokens.ndim != 2 or len(tokens) != stop - start:
            raise GdnbenchError(f"prompts {list(tokens.shape)}: expected [{plural(stop - start, 'row')}, tokens]")
        checked.tokens(tokens, self.model.config.vocab_size, self.demand.capacity)
        self._begin(tokens.to(self.device), slice(start, stop))
        return self.rows.logits[start:stop]

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Feed ``tokens [B]``, one to every row, in place of what waits there (teacher forcing).

        Returns:
            The logits that follow ``[B, vocabulary]``, in a buffer that the next step writes again.

        Raises:
            GdnbenchError: a row is full.
        """
        self._settle()
        self._check_room(range(len(self.fed)), 1)
        self.rows.put(tokens.to(self.device))
        self._run(None)
        self.fed, self.waits = [fed + 1 for fed in self.fed], [False] * len(self.fed)
        return self.rows.logits

    @torch.no_grad()
    def advance(
        self,
        steps: int,
        sampling: Greedy | Sampling | None = None,
        *,
        each: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Generate ``steps`` tokens in every row that was begun, and wait for none of them: for measurements.

        ``each`` is called with the number of a step once it was given to the device. What was generated waits in
        `tokens`.
        """
        self._settle()
        sampling, held = sampling or Greedy(), self._held()
        self._check_room(held, steps)
        self._arm(dict.fromkeys(held, self.demand.capacity + 2), sampling, ())
        self._pick(sampling)
        for step in range(steps):
            self._run(sampling)
            each(step)
        for row in held:
            self.fed[row] += steps

    def generate(
        self,
        prompts: Sequence[Sequence[int]] | Tensor | None,
        max_tokens: int,
        *,
        sampling: Greedy | Sampling | None = None,
        stop: Sequence[int] = (),
        every: int | None = None,
    ) -> Generator[Piece, None, None]:
        """Continue prompts, and yield what follows as it comes.

        What was computed past a stop is cut. Tokens that were generated when the caller stops to listen belong to
        their rows all the same.

        Args:
            prompts: token ids, of any lengths; they take the place of all that rows held. None: go on with the rows
                that were begun, whose numbers then stand for those of prompts.
            max_tokens: tokens that are to follow each.
            sampling: `Greedy` (the default) or `Sampling`.
            stop: tokens after which a row is done.
            every: steps between two looks at the device; None: 1 on a CPU, on a GPU 16.

        Raises:
            GdnbenchError: a prompt or a stop token that does not fit; at once, before anything is computed.
        """
        sampling = sampling or Greedy()
        if max_tokens < 1:
            raise GdnbenchError(f"max tokens {max_tokens}: expected at least 1")
        checked.stops(stop, self.model.config.vocab_size)
        if prompts is None:
            names = {row: row for row in self._held()}
            if not names:
                raise GdnbenchError("nothing to continue: no row was begun; give prompts, or load a state")
            for row in names:
                self._check_room([row], 1 + self.waits[row])
        else:
            names = self._begin_all(checked.prompts(prompts, self.model.config.vocab_size, self.demand))
        self._names = names
        return self._stream(names, max_tokens, sampling, stop, every or (EVERY if self.device.type == "cuda" else 1))

    def complete(
        self,
        prompts: Sequence[Sequence[int]] | Tensor | None,
        max_tokens: int,
        *,
        sampling: Greedy | Sampling | None = None,
        stop: Sequence[int] = (),
    ) -> list[list[int]]:
        """Return what `generate` yields, by prompt."""
        found: dict[int, list[int]] = {}
        for piece in self.generate(prompts, max_tokens, sampling=sampling, stop=stop):
            found.setdefault(piece.prompt, []).extend(piece.tokens)
        return [found[prompt] for prompt in sorted(found)]

    def tokens(self, row: int) -> list[int]:
        """Return all tokens that a row holds."""
        count = self.fed[row] + self.waits[row]
        found: list[int] = self.rows.tokens[row, :count].tolist()
        return found

    def rows_of_prompts(self) -> list[int]:
        """Return the rows of the last `generate`, in the order of its prompts."""
        return sorted(self._names, key=self._names.__getitem__)

    def cut(self, row: int, count: int) -> None:
        """Let a row hold no more than the first ``count`` of its tokens, at least one; what led beyond is forgotten."""
        if count < self.fed[row] + self.waits[row]:
            self.fed[row], self.waits[row] = count, False
            self.rows.lengths[row] = count
            self._stale.add(row)

    @torch.no_grad()
    def save_state(self, path: Path, rows: Sequence[int] | None = None) -> None:
        """Write rows (None: all that were begun) to a file from which `load_state` goes on, here or elsewhere."""
        rows = self._held() if rows is None else rows
        if not rows or not set(rows) <= set(self._held()):
            raise GdnbenchError(f"rows {list(rows)} cannot be saved; those that were begun: {self._held() or 'none'}")
        self._settle()
        found = [
            {
                "tokens": self.rows.tokens[row, : self.fed[row] + self.waits[row]].clone(),
                "fed": self.fed[row],
                "stream": self.streams[row],
                "logits": self.rows.logits[row].clone(),
                "state": self.network.unload(row),
            }
            for row in rows
        ]
        saved.write(path, self.model.config, self.model_id, found)

    @torch.no_grad()
    def load_state(self, path: Path, rows: Sequence[int] | None = None) -> list[int]:
        """Take over the rows of a file, into ``rows`` (None: the first ones), and return their numbers.

        Raises:
            GdnbenchError: the file is of another model, damaged, or does not fit the batch or its capacity.
        """
        found = saved.read(path, self.model.config, self.model_id)
        rows = list(range(len(found)) if rows is None else rows)
        if len(rows) != len(found) or len(set(rows)) < len(rows) or not set(rows) <= set(range(len(self.fed))):
            raise GdnbenchError(
                f"{path}: it holds {plural(len(found), 'row')}, rows {rows} of {len(self.fed)} are to take them"
            )
        for content in found:
            tokens = content["tokens"]
            if len(tokens) > self.demand.capacity:
                raise GdnbenchError(f"{path}: a row holds {len(tokens)} tokens; the capacity is {self.demand.capacity}")
            saved.check_shapes(path, content["state"], self.model.init_state(1))
        for row, content in zip(rows, found, strict=True):
            tokens, self.fed[row] = content["tokens"], content["fed"]
            self.waits[row], self.streams[row] = len(tokens) > content["fed"], content["stream"]
            self.rows.lengths[row] = content["fed"]
            self.network.load(row, content["state"])
            self.rows.tokens[row, : len(tokens)] = tokens.to(self.device)
            self.rows.logits[row] = content["logits"].to(self.device)
            self._stale.discard(row)
        return rows

    def backends(self) -> dict[str, str]:
        """Return the backend of every operation of prompts, and of those of steps that were asked for so far."""
        return {**self.model.backends(), **self._backends}

    def memory(self) -> Memory:
        """Return the bytes of weights, state and workspace as they are.

        The workspace is the buffers of tokens and logits on a CPU; on a GPU all else of the allocator's peak, too.
        """
        weights, state = self.network.weight_bytes(), self.network.state_bytes()
        workspace = self.rows.bytes()
        if self.device.type == "cuda":
            workspace = torch.cuda.max_memory_allocated(self.device) - weights - state
        return Memory(weights=weights, state=state, workspace=workspace)

    def _begin_all(self, prompts: list[Tensor]) -> dict[int, int]:
        """Begin rows with prompts; return the prompt of each row, by row. Prompts of one length go through together."""
        order = sorted(range(len(prompts)), key=lambda prompt: len(prompts[prompt]))
        row = 0
        self.fed = [0] * len(self.fed)
        self._stale.clear()
        with torch.no_grad():
            for _, group in groupby(order, key=lambda prompt: len(prompts[prompt])):
                tokens = torch.stack([prompts[prompt] for prompt in group])
                self._begin(tokens.to(self.device), slice(row, row + len(tokens)))
                row += len(tokens)
        names = dict(enumerate(order))
        for row, prompt in names.items():
            self.streams[row] = prompt
        return names

    def _begin(self, tokens: Tensor, rows: slice) -> None:
        self._feed(tokens, rows)
        for row in range(rows.start, rows.stop):
            self.fed[row], self.waits[row], self.streams[row] = tokens.shape[1], False, row
        self._stale -= set(range(rows.start, rows.stop))

    def _feed(self, tokens: Tensor, rows: slice) -> None:
        self.rows.lengths[rows] = tokens.shape[1]  # first, for servings ask for it when they take states over
        self.rows.logits[rows] = self.network.prefill(tokens, rows)
        self.rows.tokens[rows, : tokens.shape[1]] = tokens.int()

    def _settle(self) -> None:
        """Compute again, from their tokens, the states of rows that went on being fed when they were done."""
        for row in sorted(self._stale):
            self._feed(self.rows.tokens[row : row + 1, : self.fed[row]].long(), slice(row, row + 1))
        self._stale.clear()

    @torch.no_grad()
    def _stream(
        self, names: dict[int, int], max_tokens: int, sampling: Greedy | Sampling, stop: Sequence[int], every: int
    ) -> Generator[Piece, None, None]:
        self._settle()
        asked = {row: self.fed[row] + self.waits[row] + max_tokens for row in names}
        limits = {row: min(limit, self.demand.capacity) for row, limit in asked.items()}
        told = {row: self.fed[row] - (not self.waits[row]) for row in names}
        began, count, open_rows = list(self.fed), self._count, set(names)
        self._arm(limits, sampling, stop)
        self._pick(sampling)
        steps = max(limits[row] - self.fed[row] - 1 for row in names)
        try:
            for window in self._windows(steps, every, sampling):
                for row, (tokens, length, done) in enumerate(window.read()):
                    if row not in open_rows or length == told[row]:
                        continue
                    new, told[row] = tuple(tokens[: length - told[row]]), length
                    reason = None
                    if done:
                        open_rows.discard(row)
                        reason = "capacity" if limits[row] < asked[row] else "length"
                        reason = "stop" if new[-1] in stop else reason
                    yield Piece(names[row], new, reason)
                if not open_rows:
                    return
        except GeneratorExit:
            raise
        except BaseException:
            # Some layers may be a token ahead of others: back to what was told, from where states are computed again.
            for row, place in told.items():
                self.rows.lengths[row] = place
            self._stale |= names.keys()
            raise
        finally:
            self.fed = self.rows.lengths.tolist()
            ran = self._count - count
            self._stale |= {row for row in self._held() if self.fed[row] - began[row] != ran}

    def _windows(self, steps: int, every: int, sampling: Greedy | Sampling) -> Iterator[Window]:
        """Yield the first tokens, then what ``steps`` steps append; a GPU has its next steps before one is read."""
        pending = deque([Window(self.rows, self._before, 1)])
        ahead = 2 if self.device.type == "cuda" else 1
        while True:
            while steps > 0 and len(pending) < ahead:
                before, together = self.rows.lengths.clone(), min(every, steps)
                for _ in range(together):
                    self._run(sampling)
                pending.append(Window(self.rows, before, together))
                steps -= together
            if not pending:
                return
            yield pending.popleft()

    def _pick(self, sampling: Greedy | Sampling) -> None:
        """Choose what waits in the rows that were begun and in which nothing waits."""
        rows = self.rows
        needs = self._on_device([bool(fed) and not waits for fed, waits in zip(self.fed, self.waits, strict=True)])
        chosen = sampling.choose(rows.logits, rows.keys, rows.lengths)
        self._before = rows.lengths - needs.int()
        rows.put(torch.where(needs, chosen.int(), rows.waiting()))
        rows.end(needs, chosen)
        self.waits = [bool(fed) for fed in self.fed]

    def _arm(self, limits: dict[int, int], sampling: Greedy | Sampling, stop: Sequence[int]) -> None:
        """Tell the device which rows go on, how far, and where they stop."""
        rows, count = self.rows, len(self.fed)
        rows.done.copy_(self._on_device([row not in limits for row in range(count)]))
        rows.limits.copy_(self._on_device([limits.get(row, 0) for row in range(count)]))
        rows.keys.copy_(stream_keys(sampling.seed, self.streams))
        rows.stops.zero_()
        if stop:
            rows.stops[self._on_device(list(stop))] = True

    def _run(self, sampling: Greedy | Sampling | None) -> None:
        """Feed what waits in every row; with a sampling, let what is chosen wait next."""
        # The seed is in the rows' keys: a graph serves all seeds.
        kind = None if sampling is None else dataclasses.replace(sampling, seed=0)
        if kind not in self._steps:
            step = partial(self._step, kind)
            self._steps[kind] = Replayed(step) if self.graph else step
        self._steps[kind]()
        self._count += 1

    def _step(self, sampling: Greedy | Sampling | None) -> None:
        rows = self.rows
        held, impl = rows.held, self.network.slots.impl("next_token")
        logits = self.network.step(held)
        if sampling is None:
            rows.logits.copy_(logits)
            rows.lengths += 1
        elif isinstance(sampling, Greedy):
            append_likeliest(logits, held, impl=impl)
        else:
            append(sampling.choose(logits, rows.keys, rows.lengths + 1), held, impl=impl)

    def _backend(self, operation: str) -> str:
        if operation not in self._backends:
            self._backends[operation] = backend_of(self.model.config, operation, self.device)
        return self._backends[operation]

    def _held(self) -> list[int]:
        return [row for row, fed in enumerate(self.fed) if fed]

    def _on_device(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _check_room(self, rows: Iterable[int], steps: int) -> None:
        for row in rows:
            if self.fed[row] + steps > self.demand.capacity:
                raise GdnbenchError(
                    f"row {row} holds {self.fed[row]} of the {self.demand.capacity} tokens that its capacity allows; "
                    f"{steps} more do not fit"
                )

    def _check_graph(self) -> None:
        if self.graph and self.device.type != "cuda":
            raise GdnbenchError(f"graph: a CUDA graph was asked for on {self.device.type}; ask for none, or for cuda")
        for index, (_, layers) in enumerate(self.network.blocks):
            for name, serving in layers.items():
                if self.graph and not serving.captured:
                    raise GdnbenchError(
                        f"block {index}: its {name} grows its state and has no form of its own for generation (a "
                        "layer's serve), so no CUDA graph can hold it; ask for no graph, or generate on a CPU"
                    )
