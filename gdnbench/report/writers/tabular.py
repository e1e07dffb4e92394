"""Tables as files: CSV for programs, LaTeX for papers."""

import csv
import io

from gdnbench.report.content import Cell, Row, Table

# LaTeX's own characters, and those that its text font lacks.
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "μ": r"$\mu$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "√": r"$\surd$",
    "Θ": r"$\Theta$",
    **{raised: rf"$^{{{plain}}}$" for raised, plain in zip("⁻·⁰¹²³⁴⁵⁶⁷⁸⁹", "-.0123456789")},
    "<": r"$<$",
    ">": r"$>$",
}


def csv_text(table: Table) -> str:
    """Return a table as CSV: numbers in full, an interval as four columns, run ids in the last column."""
    with_interval = _interval_columns(table)
    header: list[str] = []
    for index, name in enumerate(table.columns):
        header += [name, f"{name}: low", f"{name}: high", f"{name}: n"] if index in with_interval else [name]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*header, "runs"])
    for row in (*table.rows, *table.more):
        writer.writerow([*_values(row, with_interval), " ".join(row.runs)])
    return buffer.getvalue()


def latex_text(table: Table) -> str:
    """Return a table as a LaTeX ``tabular`` with its caption; wide text columns are paragraphs."""
    shape = "".join("p{3cm}" if index in table.wide else "l" for index in range(len(table.columns)))
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(table.caption)}. {_latex(table.note)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{shape}}}",
        r"\hline",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\hline",
    ]
    lines += [" & ".join(_latex_cell(cell) for cell in row.cells) + r" \\" for row in (*table.rows, *table.more)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}", ""])


def _interval_columns(table: Table) -> set[int]:
    rows = (*table.rows, *table.more)
    return {index for row in rows for index, cell in enumerate(row.cells) if cell.interval is not None}


def _values(row: Row, with_interval: set[int]) -> list[object]:
    values: list[object] = []
    for index, cell in enumerate(row.cells):
        values.append(_value(cell))
        if index in with_interval:
            interval = cell.interval
            values += ["", "", ""] if interval is None else [_blank(interval.low), _blank(interval.high), interval.n]
    return values


def _value(cell: Cell) -> object:
    return cell.text if cell.value is None else cell.value


def _blank(value: float | None) -> object:
    return "" if value is None else value


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text)
    return rf"\emph{{{text}}}" if cell.tone in ("source", "missing") and text else text


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
