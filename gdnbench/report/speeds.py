"""Training speeds of a set, as tables and figures ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gdnbench.report.statistics import Interval, ratio_of_means
from gdnbench.results import Record

OURS = "gdnbench"
SAME_WORK = 0.01  # relative difference of parameters up to which two models count as the same
GAP_MS = 2.0  # above its floor, from which a note must say what takes a component's time
FAR = 1.5  # times its floor, likewise


@dataclass(frozen=True)
class Component:
    """A part of a step: milliseconds, least milliseconds (None where it has no floor), and its longest kernels."""

    name: str
    ms: float
    floor_ms: float | None
    kernels: tuple[tuple[str, float], ...]

    @property
    def gap_ms(self) -> float:
        """Milliseconds above the floor."""
        return self.ms - (self.floor_ms or 0.0)


@dataclass(frozen=True, eq=False)
class Speed:
    """One implementation of a model: its record and rows."""

    record: Record
    rows: Sequence[dict[str, Any]]

    @property
    def impl(self) -> str:
        """Who trains: ours, or a peer."""
        return str(self.record.spec["impl"])

    @property
    def name(self) -> str:
        """Architecture, block and who trains, as notes and figures name it."""
        return f"{self.record.spec['arch']} {self.record.spec['block']} {self.impl}"

    @property
    def tokens_per_s(self) -> float | None:
        """Throughput; None where there is a reason in its place."""
        return self.record.metric("tokens_per_s")

    @property
    def of_floor(self) -> float | None:
        """Throughput over that at the floor."""
        rate, floor = self.tokens_per_s, self.record.metric("floor_tokens_per_s")
        return None if rate is None or not floor else rate / floor

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Milliseconds of the timed steps."""
        return tuple(row["ms"] for row in self.rows if row["type"] == "sample")

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The parts of a profiled step; none without a profile."""
        kernels: dict[str, list[tuple[str, float]]] = {}
        for row in self.rows:
            if row["type"] == "kernel":
                kernels.setdefault(row["component"], []).append((row["name"], row["ms"]))
        return tuple(
            Component(row["component"], row["ms"] or 0.0, row["floor_ms"], tuple(kernels.get(row["component"], ())))
            for row in self.rows
            if row["type"] == "component" and self.record.data["profiled"]
        )

    @property
    def far(self) -> tuple[Component, ...]:
        """The parts that are far above their floor, the farthest first."""
        beyond = [c for c in self.components if c.gap_ms > GAP_MS and c.ms > FAR * (c.floor_ms or 0.0)]
        return tuple(sorted(beyond, key=lambda component: -component.gap_ms))


@dataclass(frozen=True, eq=False)
class Group:
    """Implementations of one model at one size: ours, other ways of it, then peers, the fastest first."""

    speeds: tuple[Speed, ...]

    @property
    def title(self) -> str:
        """The model in words: ``gdn (controlled)``."""
        spec = self.speeds[0].record.spec
        return f"{spec['arch']} ({spec['block']})"

    @property
    def size(self) -> str:
        """Sizes in words."""
        spec = self.speeds[0].record.spec
        width, depth = (spec["model"][key] for key in ("width", "depth"))
        return f"width {width}, depth {depth}, batch {spec['batch']} x {spec['seq_len']}, {spec['dtype']}"

    @property
    def ours(self) -> Speed | None:
        """Our own step, where it has a time."""
        return next((speed for speed in self.speeds if speed.impl == OURS and speed.tokens_per_s), None)

    @property
    def others(self) -> list[Speed]:
        """All that have a time and do the same work as ours."""
        return [s for s in self.speeds if s.impl != OURS and s.tokens_per_s and self.difference(s) is not None]

    @property
    def peers(self) -> list[Speed]:
        """Those of other libraries, the fastest first."""
        return [speed for speed in self.others if not speed.impl.startswith(OURS)]

    def difference(self, speed: Speed) -> float | None:
        """Return the relative difference of parameters to ours; None without ours, or beyond what is the same work."""
        ours = None if self.ours is None else self.ours.record.metric("params_total")
        theirs = speed.record.metric("params_total")
        if ours is None or theirs is None or abs(theirs / ours - 1) > SAME_WORK:
            return None
        return theirs / ours - 1

    def ratio(self, other: Speed) -> Interval | None:
        """Return how many times as many tokens a second ours trains as another of the same work."""
        if self.ours is None or other not in self.others:
            return None
        return ratio_of_means(other.times, self.ours.times)

    def memory(self, other: Speed) -> float | None:
        """Return our peak memory over that of another of the same work."""
        if self.ours is None or other not in self.others:
            return None
        ours, theirs = (speed.record.metric("peak_gib") for speed in (self.ours, other))
        return ours / theirs if ours and theirs else None


def groups(records: Sequence[Record], rows: Callable[[str], Sequence[dict[str, Any]]] = lambda run: ()) -> list[Group]:
    """Return training speeds by model and size, those with peers first.

    Args:
        records: of training speeds.
        rows: run id -> the run's rows; without it there are no components, and no ratio has an interval.
    """
    found: dict[tuple[str, ...], list[Speed]] = {}
    for record in records:
        found.setdefault(_model(record), []).append(Speed(record, rows(record.run_id)))
    made = [Group(tuple(sorted(speeds, key=_rank))) for speeds in found.values()]
    return sorted(made, key=lambda group: (len(group.speeds) == 1, group.title, group.size))


def _model(record: Record) -> tuple[str, ...]:
    spec, model = record.spec, record.spec["model"]
    fields = [spec[key] for key in ("arch", "block", "batch", "seq_len", "dtype")]
    sizes = [model[key] for key in ("width", "depth", "vocab_size")]
    return tuple(map(str, (*fields, *sizes, record.environment.get("device"))))


def _rank(speed: Speed) -> tuple[bool, bool, float, str]:
    return speed.impl != OURS, not speed.impl.startswith(OURS), -(speed.tokens_per_s or 0.0), speed.impl
