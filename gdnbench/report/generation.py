"""Speeds of generation of a set, as tables, figures and verdicts ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gdnbench.report.speeds import OURS, SAME_WORK
from gdnbench.report.statistics import Interval, ratio_of_means
from gdnbench.results import Record

GB = 1024**3 / 1e9  # the article's unit, of records in GiB
REFERENCE = "transformer"


@dataclass(frozen=True, eq=False)
class Generation:
    """One implementation of a model at one batch and context: its record and rows."""

    record: Record
    rows: Sequence[dict[str, Any]]

    @property
    def model(self) -> tuple[str, str, str]:
        """Architecture, block and name of the size."""
        spec = self.record.spec
        return str(spec["arch"]), str(spec["block"]), str(spec["size"])

    @property
    def arch(self) -> str:
        """Architecture."""
        return self.model[0]

    @property
    def impl(self) -> str:
        """Who generates: ours, or a peer."""
        return str(self.record.spec["impl"])

    @property
    def place(self) -> tuple[int, int]:
        """Batch and context."""
        return int(self.record.spec["batch"]), int(self.record.spec["context"])

    @property
    def rate(self) -> float | None:
        """Tokens per second of all rows together; None where there is a reason in its place."""
        return self.record.metric("tokens_per_s")

    @property
    def of_floor(self) -> float | None:
        """Throughput over that at the floor."""
        return _share(self.record, "tokens_per_s", "floor_tokens_per_s")

    @property
    def of_prefill_floor(self) -> float | None:
        """Throughput of prompts over that at their floor."""
        return _share(self.record, "prefill_tokens_per_s", "prefill_floor_tokens_per_s")

    @property
    def memory_gb(self) -> float | None:
        """Peak memory while tokens are generated, in 10^9 bytes."""
        peak = self.record.metric("decode_peak_gib")
        return None if peak is None else peak * GB

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Milliseconds of a token, one a timed stretch."""
        return tuple(row["ms"] for row in self.rows if row["type"] == "sample")

    @property
    def where(self) -> str:
        """The place in words."""
        return f"batch {self.place[0]}, context {self.place[1]:,}"


@dataclass(frozen=True, eq=False)
class Grid:
    """All speeds of generation of a set, ours before peers at each place."""

    found: tuple[Generation, ...]

    def ours(self, arch: str, size: str) -> list[Generation]:
        """Return our own speeds of an architecture at a size: in its authors' form where that was measured."""
        own = [g for g in self.found if g.impl == OURS and (g.arch, g.model[2]) == (arch, size)]
        blocks = {g.model[1] for g in own}
        return [g for g in own if g.model[1] == ("native" if "native" in blocks else min(blocks, default=""))]

    def at(self, arch: str, size: str, place: tuple[int, int]) -> Generation | None:
        """Return our own speed at a place; None where there is none with a time."""
        return next((g for g in self.ours(arch, size) if g.place == place and g.rate is not None), None)

    @cached_property
    def sizes(self) -> list[str]:
        """Names of sizes, the largest models first."""
        most: dict[str, float] = {}
        for g in self.found:
            params = g.record.metric("params_total") or 0.0
            most[g.model[2]] = max(most.get(g.model[2], 0.0), params)
        return sorted(most, key=lambda size: -most[size])

    @cached_property
    def archs(self) -> list[str]:
        """Architectures in the order of the records, the reference first."""
        names = dict.fromkeys(g.arch for g in self.found)
        return sorted(names, key=lambda arch: arch != REFERENCE)

    @cached_property
    def stated(self) -> tuple[str, tuple[int, int]] | None:
        """The size and place that a claim without any is set beside: the largest models, least batch, least context."""
        timed = [g for g in self.found if g.impl == OURS and g.rate is not None]
        if not timed:
            return None
        size = next(size for size in self.sizes if any(g.model[2] == size for g in timed))
        return size, min(g.place for g in timed if g.model[2] == size)

    def same_work(self, other: Generation) -> Generation | None:
        """Return ours at a peer's place, if the parameters agree."""
        for g in self.found:
            if g.impl == OURS and (g.model, g.place) == (other.model, other.place) and g.rate is not None:
                mine, theirs = (one.record.metric("params_total") for one in (g, other))
                if mine and theirs and abs(theirs / mine - 1) <= SAME_WORK:
                    return g
        return None


def ratio(first: Generation, second: Generation) -> Interval | None:
    """Return the tokens per second of ``first`` over those of ``second``, at equal batches, with its interval.

    Stretches are resampled on each side by itself; the interval says nothing of other processes or days.
    """
    return ratio_of_means(second.times, first.times)


def grid(records: Sequence[Record], rows: Callable[[str], Sequence[dict[str, Any]]] = lambda run: ()) -> Grid:
    """Return the speeds of generation among records, by size, model, implementation and place.

    Args:
        records: of any kind.
        rows: run id -> the run's rows; without it no ratio has an interval.
    """
    found = [Generation(r, rows(r.run_id)) for r in records if r.kind == "decode" and r.timing]
    order = {model: index for index, model in enumerate(dict.fromkeys(g.model for g in found))}
    sizes = Grid(tuple(found)).sizes

    def rank(g: Generation) -> tuple[Any, ...]:
        reference = g.arch != REFERENCE
        return sizes.index(g.model[2]), reference, order[g.model], g.impl != OURS, g.impl, g.place

    return Grid(tuple(sorted(found, key=rank)))


def _share(record: Record, measured: str, floor: str) -> float | None:
    rate, least = record.metric(measured), record.metric(floor)
    return None if rate is None or not least else rate / least
