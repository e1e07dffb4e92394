"""What a report says, apart from how it is written down: sections of text, notices, tables and figures.

HTML, Markdown, CSV and LaTeX are written from these; no writer computes a number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure as Plot

from gdnbench.report.statistics import Interval

Tone = Literal["", "good", "bad", "mixed", "missing", "source"]
Raw = float | int | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as people read it, with unit and n where it has them.
        value: as programs read it; the text where there is none.
        interval: mean and limits, which become columns of their own in CSV.
        tone: ``good``, ``bad``, ``mixed`` for verdicts, ``missing`` for a reason in place of a number, ``source`` for a
            figure that is the source's and not measured.
        target: anchor in the page that the text links to.
    """

    text: str
    value: Raw = None
    interval: Interval | None = None
    tone: Tone = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row, with the runs that its numbers come from."""

    cells: tuple[Cell, ...]
    runs: tuple[str, ...] = ()
    anchor: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: file name without suffix, and anchor.
        caption: what it shows.
        columns: headings, with units.
        rows: the rows.
        note: what its words mean, below it.
        wide: columns of running text, by number, which may wrap.
        runs_column: whether a last column links each row's runs.
        more: rows that only the files have.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    wide: tuple[int, ...] = ()
    runs_column: bool = True
    more: tuple[Row, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with the runs behind it."""

    name: str
    caption: str
    plot: Plot
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures that are shown side by side where there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph, with the runs that its numbers come from."""

    text: str
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A paragraph that a reader must not miss."""

    text: str
    tone: Tone = "mixed"


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading inside a section."""

    text: str


Block = Table | Figures | Text | Notice | Bullets | Code | Heading


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section with its anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def tables(self) -> list[Table]:
        """Return all tables, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

    def figures(self) -> list[Figure]:
        """Return all figures, in order."""
        groups = [block for section in self.sections for block in section.blocks if isinstance(block, Figures)]
        return [figure for group in groups for figure in group.figures]

    def evidence(self) -> dict[tuple[str, ...], int]:
        """Return every distinct group of two runs or more that a number comes from, numbered from 1."""
        groups: dict[tuple[str, ...], int] = {}
        for runs in self._run_groups():
            if len(runs) > 1:
                groups.setdefault(tuple(sorted(runs)), len(groups) + 1)
        return groups

    def _run_groups(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Text):
                    found.append(block.runs)
                elif isinstance(block, Table) and block.runs_column:
                    found += [row.runs for row in block.rows]
                elif isinstance(block, Figures):
                    found += [figure.runs for figure in block.figures]
        return found


def by_prefix(runs: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return run ids grouped by what they share: experiment, architecture, table -> (rest of the id, id) pairs."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for run in runs:
        match = re.match(r"(.+)-(w\d+-.+)", run)
        prefix, rest = match.groups() if match else ("", run)
        groups.setdefault(prefix, []).append((rest, run))
    return groups


def missing(reason: str) -> Cell:
    """Return the cell of a number that is not there, with its reason."""
    return Cell(text=reason, tone="missing")


def plain(text: object, value: Raw = None) -> Cell:
    """Return a cell of text, or of a number with the text for it."""
    return Cell(text=str(text), value=value)
