"""The report as Markdown that GitHub shows."""

import re

from gdnbench.report.content import (
    Block,
    Bullets,
    Cell,
    Code,
    Figures,
    Heading,
    Notice,
    Page,
    Section,
    Table,
    Text,
    by_prefix,
)


def markdown(page: Page) -> str:
    """Return the report as one Markdown document; figures are linked from ``figures/``."""
    evidence = page.evidence()
    parts = [f"# {page.title}", page.subtitle]
    for section in page.sections:
        parts += _section(section, evidence)
    parts += ["## Appendix: evidence", *_evidence(evidence)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, evidence: dict[tuple[str, ...], int]) -> list[str]:
    return [f"## {section.title}", *(_block(block, evidence) for block in section.blocks)]


def _block(block: Block, evidence: dict[tuple[str, ...], int]) -> str:
    match block:
        case Text():
            return _escape(block.text) + _reference(block.runs, evidence)
        case Notice():
            return f"> **Note.** {_escape(block.text)}"
        case Bullets():
            return "\n".join(f"- {_escape(item)}" for item in block.items)
        case Code():
            return f"```sh\n{block.text}\n```"
        case Heading():
            return f"### {block.text}"
        case Figures():
            return "\n\n".join(
                f"![{_escape(f.caption)}](figures/{f.name}.png)\n\n*{_escape(f.caption)}*{_reference(f.runs, evidence)}"
                for f in block.figures
            )
        case Table():
            return _table(block, evidence)


def _table(table: Table, evidence: dict[tuple[str, ...], int]) -> str:
    columns = [*table.columns, "runs"] if table.runs_column else list(table.columns)
    lines = [f"**{_escape(table.caption)}** ([csv](tables/{table.name}.csv))", ""]
    lines += [_line(map(_escape, columns)), _line("---" for _ in columns)]
    for row in table.rows:
        cells = [_cell(cell) for cell in row.cells]
        anchor = f'<a id="{row.anchor}"></a>' if row.anchor else ""
        cells[0] = anchor + cells[0]
        lines.append(_line([*cells, _reference(row.runs, evidence).strip()] if table.runs_column else cells))
    return "\n".join(lines) + (f"\n\n{_escape(table.note)}" if table.note else "")


def _line(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    if cell.tone in ("source", "missing") and text:
        text = f"*{text}*"
    elif cell.tone in ("good", "bad", "mixed"):
        text = f"**{text}**"
    return f"[{text}](#{cell.target})" if cell.target else text


def _reference(runs: tuple[str, ...], evidence: dict[tuple[str, ...], int]) -> str:
    if not runs:
        return ""
    if len(runs) == 1:
        return f" [1 run](#run-{runs[0]})"
    return f" [{len(runs)} runs](#evidence-{evidence[tuple(sorted(runs))]})"


def _evidence(evidence: dict[tuple[str, ...], int]) -> list[str]:
    return [f'<a id="evidence-{number}"></a>E{number}: {_groups(runs)}' for runs, number in evidence.items()]


def _groups(runs: tuple[str, ...]) -> str:
    return "; ".join(
        f"{prefix}: {', '.join(f'[{rest}](#run-{run})' for rest, run in members)}"
        for prefix, members in by_prefix(runs).items()
    )


def _escape(text: str) -> str:
    return re.sub(r"([\\*_`|<>\[\]])", r"\\\1", text)
