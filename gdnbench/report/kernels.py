"""Kernel timings of a set, as tables and figures ask for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from gdnbench.report.statistics import Interval
from gdnbench.results import Record

OURS = "triton"
DIRECTIONS = {"forward": "forward", "forward_backward": "forward and backward", "backward": "backward"}
GATES = {"default": "as models start", "strong": "strong decay", "none": "no decay"}
QK_NORMS = {"given": "q and k normalized beforehand", "raw": "q and k normalized by the call"}
SCALED = "gate_scale="  # in the variant of a call with the gating normalization
MIXERS = ("attention", "ssd", "wkv7", "kda", "gated_delta_negative")  # of others, and examples of variants
FUSED = ("short_convolution", "gated_norm", "linear_cross_entropy")  # around the recurrence
FAR = 3.0  # times the floor, beyond which a note must say what eats the time

Place = tuple[int, int, int, int, int]


@dataclass(frozen=True, eq=False)
class Timed:
    """A kernel at one shape and regime: the records of its clocks, which differ in nothing else."""

    records: tuple[Record, ...]

    @property
    def any(self) -> Record:
        """The record for what its clocks have in common; device time before eager time."""
        return self.of("device") or self.records[0]

    def of(self, timing: str) -> Record | None:
        """Return the record of a clock."""
        return next((record for record in self.records if record.spec["timing"] == timing), None)

    @property
    def impl(self) -> str:
        """The backend."""
        return self.any.spec["impl"]

    @property
    def shape(self) -> Place:
        """B, T, H, K, V."""
        return place(self.any)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Run ids, sorted."""
        return tuple(sorted(record.run_id for record in self.records))

    @property
    def ms(self) -> float | None:
        """Device time, or eager time on a machine without it."""
        return self.any.metric("ms")

    @property
    def over_floor(self) -> float | None:
        """Time over the floor."""
        ms, floor = self.ms, self.any.metric("floor_ms")
        return None if ms is None or not floor else ms / floor

    @property
    def ratio(self) -> Interval | None:
        """How many times longer the peer took."""
        return peer_ratio(self.any)


@dataclass(frozen=True, eq=False)
class Timings:
    """All kernel records of a set."""

    records: tuple[Record, ...]

    @cached_property
    def timed(self) -> tuple[Timed, ...]:
        """Kernels by operation, shape and regime, without first calls; in the order of tables."""
        groups: dict[tuple[object, ...], list[Record]] = {}
        for record in self.records:
            if record.spec["timing"] != "first_call":
                key = tuple(value for name, value in sorted(record.spec.items()) if name not in ("timing", "seed"))
                groups.setdefault(key, []).append(record)
        return tuple(sorted((Timed(tuple(group)) for group in groups.values()), key=_order))

    def select(self, op: str, **wanted: str) -> list[Timed]:
        """Return the kernels of an operation with these fields of the specification, plain calls only."""
        return [
            timed
            for timed in self.timed
            if (spec := timed.any.spec)["op"] == op
            and not spec["variant"]
            and all(spec[key] == value for key, value in wanted.items())
        ]

    def gating(self) -> list[tuple[Timed, Timed]]:
        """Return calls with raw gates, without and with the gating normalization."""
        raw = [timed for timed in self.timed if timed.any.spec["variant"]]
        scaled = [timed for timed in raw if SCALED in timed.any.spec["variant"]]
        pairs = []
        for timed in scaled:
            plain = [other for other in raw if other not in scaled and _same_call(other, timed)]
            pairs += [(other, timed) for other in plain]
        return pairs

    def first_calls(self) -> list[Record]:
        """Return the records of first calls by shape and backend."""
        found = [record for record in self.records if record.spec["timing"] == "first_call"]
        return sorted(found, key=lambda record: (by_size(place(record)), _rank(record.spec["impl"])))


def place(record: Record) -> Place:
    """Return B, T, H, K, V of a record."""
    spec = record.spec
    return spec["B"], spec["T"], spec["H"], spec["K"], spec["V"]


def shape_text(shape: Iterable[int]) -> str:
    """Return ``8, 4096, 16, 128, 128``."""
    return ", ".join(map(str, shape))


def peer_ratio(record: Record) -> Interval | None:
    """Return how many times longer a record's peer took, with its interval over rounds."""
    value, low, high = (record.metric(f"peer_ratio{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return Interval(mean=value, low=low, high=high, n=int(record.metric("repeats") or 0))


def roofs(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the median calibrated copy bandwidth (GB/s) and matmul rate (TFLOP/s); None without any."""
    copies = sorted(value for record in records if (value := record.metric("copy_gb_s")) is not None)
    rates = sorted(value for record in records if (value := record.metric("matmul_tflop_s")) is not None)
    return (copies[len(copies) // 2], rates[len(rates) // 2]) if copies and rates else None


def _same_call(first: Timed, second: Timed) -> bool:
    ignored = ("variant", "timing", "seed")
    a, b = first.any.spec, second.any.spec
    return all(a[key] == b[key] for key in a if key not in ignored)


def _order(timed: Timed) -> tuple[object, ...]:
    spec = timed.any.spec
    return spec["op"], by_size(timed.shape), list(GATES).index(spec["gates"]), spec["direction"], _rank(spec["impl"])


def by_size(shape: Place) -> tuple[int, ...]:
    """Order shapes by head dims, then by batch and time."""
    batch, time, heads, key_dim, value_dim = shape
    return key_dim, value_dim, batch, time, heads


def _rank(impl: str) -> tuple[bool, str]:
    """Order our own backend before all others."""
    return impl != OURS, impl
