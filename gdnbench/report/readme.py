"""The README's kernel table, rendered from stored records between two marks, so that no number is typed by hand."""

from collections.abc import Sequence
from pathlib import Path

from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.report import numbers
from gdnbench.report.kernels import OURS, Timed, Timings, shape_text
from gdnbench.report.tables.kernels import ratio_text
from gdnbench.results import Record

BEGIN = "<!-- kernel table: begin (written by `gdnbench report h200-kernels --readme README.md`) -->"
END = "<!-- kernel table: end -->"
SET = "h200-kernels"
PEER = "fla"
SHOWN = (("forward", "forward"), ("forward_backward", "forward and backward"))


def kernel_block(records: Sequence[Record]) -> str:
    """Return what stands between the marks: device times at default gates, by shape."""
    timings = Timings(tuple(record for record in records if record.kind == "kernel"))
    parts = [_table(timings, qk) for qk in ("given", "raw")]
    return "\n\n".join(part for part in parts if part) or "No timing is stored yet."


def update_readme(path: Path, records: Sequence[Record]) -> None:
    """Write the block of ``records`` between the marks of a file; raise where it has none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, replaced(text, kernel_block(records), str(path)))


def replaced(text: str, block: str, where: str) -> str:
    """Return ``text`` with ``block`` between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise GdnbenchError(f"{where}: expected the lines {BEGIN!r} and {END!r}, with the table between them")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


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
    return f"Device time on {devices}, {dtypes}, gates as models start, q and k {words}:"


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
