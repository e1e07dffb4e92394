"""The README's tables, rendered from stored records between two marks each, so that no number is typed by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.report import numbers
from gdnbench.report.generation import Generation, grid
from gdnbench.report.kernels import OURS, Timed, Timings, shape_text
from gdnbench.report.speeds import OURS as OURS_SPEED
from gdnbench.report.speeds import Group, Speed, groups
from gdnbench.report.tables.kernels import ratio_text
from gdnbench.results import Record

PEER = "fla"
SHOWN = (("forward", "forward"), ("forward_backward", "forward and backward"))


EMPTY = "No timing is stored yet."


@dataclass(frozen=True)
class Part:
    """A table of the README: its name, the set that it is made from, and how its text is made of that set's records."""

    name: str
    set: str
    block: Callable[[Sequence[Record]], str]

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- {self.name} table: begin (written by `gdnbench report {self.set} --readme README.md`) -->"

    @property
    def end(self) -> str:
        """The line after it."""
        return f"<!-- {self.name} table: end -->"

    def replaced(self, text: str, records: Sequence[Record], where: str) -> str:
        """Return ``text`` with the table between its marks; raise where they are not."""
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end:
            raise GdnbenchError(f"{where}: expected the lines {self.begin!r} and {self.end!r}, with the table between")
        return f"{before}{begin}\n{self.block(records)}\n{end}{after}"


def kernel_block(records: Sequence[Record]) -> str:
    """Return what stands between the marks: device times at default gates, by shape."""
    timings = Timings(tuple(record for record in records if record.kind == "kernel"))
    parts = [_table(timings, qk) for qk in ("given", "raw")]
    return "\n\n".join(part for part in parts if part) or EMPTY


def training_block(records: Sequence[Record]) -> str:
    """Return what stands between the marks: a row for each implementation that has a time, ours first by model."""
    timed = [record for record in records if record.metric("tokens_per_s") is not None]
    found = groups([record for record in timed if record.kind == "train_throughput"])
    if not found:
        return EMPTY
    devices = numbers.listed(sorted({str(record.environment.get("device")) for record in timed}))
    head = (
        "model",
        "implementation",
        "tokens/s",
        "ours over it",
        "of floor",
        "peak memory (GiB)",
        "first step (s)",
        "commit",
    )
    lines = [_line(_speed_cells(group, speed)) for group in found for speed in group.speeds]
    sizes = numbers.listed(list(dict.fromkeys(group.size for group in found)))
    return "\n".join([f"Training on {devices}, {sizes}:", "", _line(head), _line("---" for _ in head), *lines])


def generation_block(records: Sequence[Record]) -> str:
    """Return what stands between the marks: the largest models at the ends of the grid that peers have.

    A row is there for each implementation that has a time, ours first by model.
    """
    found = grid(records)
    if found.stated is None:
        return EMPTY
    size, (_, context) = found.stated
    here = [g for g in found.found if g.model[2] == size and g.rate is not None]
    others = {g.place for g in here if not g.impl.startswith(OURS_SPEED)}
    ends = {context, max((place[1] for place in others), default=context)}
    batches = {place[0] for place in others} or {found.stated[1][0]}
    shown = [g for g in here if g.place[0] in batches and g.place[1] in ends]
    head = (
        "model", "implementation", "batch", "context", "tokens/s", "of floor", "median (ms/token)",
        "first token (ms)", "peak memory (GiB)", "commit",
    )  # fmt: skip
    devices = numbers.listed(sorted({str(g.record.environment.get("device")) for g in shown}))
    dtypes = numbers.listed(sorted({str(g.record.spec["dtype"]) for g in shown}))
    lines = [_line(_generation_cells(g)) for g in shown]
    about = f"Generation on {devices}, models of {size} with random weights, {dtypes}:"
    return "\n".join([about, "", _line(head), _line("---" for _ in head), *lines])


KERNELS = Part("kernel", "h200-kernels", kernel_block)
TRAINING = Part("training", "h200-train", training_block)
GENERATION = Part("generation", "h200-decode", generation_block)
PARTS = {"train_throughput": TRAINING, "decode": GENERATION}  # by the records' kind; all others: kernels


def update_readme(path: Path, records: Sequence[Record]) -> None:
    """Write the table of ``records``, by their kind, between its marks of a file; raise where it has none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    part = next((PARTS[record.kind] for record in records if record.timing and record.kind in PARTS), KERNELS)
    write_text(path, part.replaced(text, records, str(path)))


def _speed_cells(group: Group, speed: Speed) -> list[str]:
    record, ours = speed.record, group.ours
    rate, memory, first = (record.metric(name) or 0.0 for name in ("tokens_per_s", "peak_gib", "first_step_s"))
    beside = ours is not None and speed in group.others
    return [
        group.title,
        speed.impl,
        numbers.number(rate, 0),
        numbers.number((ours.tokens_per_s or 0.0) / rate, 2) if ours is not None and beside else "–",
        "–" if speed.of_floor is None else f"{numbers.number(100 * speed.of_floor, 0)}%",
        numbers.number(memory, 1),
        numbers.number(first, 1),
        record.commit,
    ]


def _generation_cells(g: Generation) -> list[str]:
    median, first, peak = (g.record.metric(name) or 0.0 for name in ("ms_per_token_p50", "ttft_ms", "peak_gib"))
    return [
        f"{g.arch} ({g.model[1]})",
        g.impl,
        str(g.place[0]),
        f"{g.place[1]:,}",
        numbers.number(g.rate or 0.0, 0),
        "–" if g.of_floor is None else f"{numbers.number(100 * g.of_floor, 0)}%",
        numbers.number(median, 3),
        numbers.number(first, 1),
        numbers.number(peak, 2),
        g.record.commit,
    ]


def _table(timings: Timings, qk: str) -> str:
    """Return the Markdown table of one treatment of q and k; empty without records."""
    by_direction = {
        direction: timings.select("gated_delta", direction=direction, qk_norm=qk, gates="default")
        for direction, _ in SHOWN
    }
    ours = {
        direction: {row.shape: row for row in rows if row.impl == OURS and row.ms is not None}
        for direction, rows in by_direction.items()
    }
    shapes = list(dict.fromkeys(row.shape for rows in by_direction.values() for row in rows))
    others = sorted({row.impl for rows in by_direction.values() for row in rows if row.ms is not None} - {OURS})
    if not any(ours.values()):
        return ""
    head = ["B, T, H, K, V"]
    for _, words in SHOWN:
        head += [f"{words}: {OURS} (ms)", *(f"{impl} (ms)" for impl in others), f"{PEER} / {OURS}", "over floor"]
    lines = [_line(head), _line("---" for _ in head)]
    for shape in shapes:
        cells = [shape_text(shape)]
        for direction, _ in SHOWN:
            found = {row.impl: row for row in by_direction[direction] if row.shape == shape}
            cells += [_ms(found.get(impl)) for impl in (OURS, *others)]
            cells += _ratio_and_floor(found.get(OURS))
        lines.append(_line(cells))
    return "\n".join([_caption(timings, by_direction, qk), "", *lines])


def _caption(timings: Timings, by_direction: dict[str, list[Timed]], qk: str) -> str:
    records = [row.any for rows in by_direction.values() for row in rows]
    devices = numbers.listed(sorted({str(record.environment.get("device")) for record in records}))
    dtypes = numbers.listed(sorted({record.spec["dtype"] for record in records}))
    words = "normalized beforehand" if qk == "given" else "normalized by the call"
    commits = numbers.listed(sorted({record.commit for record in records}))
    return f"Device time on {devices}, {dtypes}, gates as models start, q and k {words} (gdnbench at {commits}):"


def _ms(row: Timed | None) -> str:
    return "–" if row is None or row.ms is None else numbers.significant(row.ms)


def _ratio_and_floor(row: Timed | None) -> list[str]:
    if row is None:
        return ["–", "–"]
    known = row.ratio is not None and row.any.data["peer"] == PEER
    ratio = ratio_text(row.ratio) if known and row.ratio is not None else "–"
    return [ratio, "–" if row.over_floor is None else numbers.number(row.over_floor, 1)]


def _line(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]
