"""Rendering: a set's records become a folder with a page, tables, figures and a manifest."""

from collections.abc import Sequence
from pathlib import Path

from gdnbench.report.analysis import analyse
from gdnbench.report.content import Page
from gdnbench.report.figures.save import inline_svg, svg_text, write_png
from gdnbench.report.manifest import manifest_text
from gdnbench.report.page import build_page
from gdnbench.report.study import read_study
from gdnbench.report.swap import MANIFEST, replaced_folder
from gdnbench.report.writers.html import html
from gdnbench.report.writers.markdown import markdown
from gdnbench.report.writers.tabular import csv_text, latex_text
from gdnbench.results import Store


def render(store: Store, out: Path, *, command: str, others: Sequence[Store] = (), name: str = "") -> Path:
    """Write the report of a set, or of several on one page, to ``out`` and return the path of its page.

    The folder holds ``index.html`` (one file, nothing loaded), ``report.md``, ``tables/*.csv`` and ``.tex``,
    ``figures/*.png`` and ``.svg``, and ``manifest.json``. It appears as a whole: a process killed on the way leaves
    the earlier report. Equal records give equal bytes.

    Args:
        store: the set.
        out: folder of the report; replaced if it holds one.
        command: the command that makes this page, as the page shows it.
        others: sets beside it on the page.
        name: the page's name; that of the first set where none is given.

    Raises:
        GdnbenchError: a preset snapshot cannot be read, a claim card names an unknown claim, ``out`` is something
            else, or the disk is full.
    """
    study = read_study(store, *others, name=name)
    page = build_page(analyse(study), command)
    with replaced_folder(out) as folder:
        drawings = _write_figures(page, folder / "figures")
        _write_tables(page, folder / "tables")
        (folder / "index.html").write_text(html(page, drawings), encoding="utf-8")
        (folder / "report.md").write_text(markdown(page), encoding="utf-8")
        (folder / MANIFEST).write_text(manifest_text(study, command), encoding="utf-8")
    return out / "index.html"


def _write_figures(page: Page, folder: Path) -> dict[str, str]:
    """Write every figure as PNG and SVG; return the SVG elements, by name, for the page."""
    folder.mkdir()
    drawings = {}
    for figure in page.figures():
        document = svg_text(figure.plot, figure.name)
        (folder / f"{figure.name}.svg").write_text(document, encoding="utf-8")
        write_png(figure.plot, folder / f"{figure.name}.png")
        drawings[figure.name] = inline_svg(document, figure.caption)
    return drawings


def _write_tables(page: Page, folder: Path) -> None:
    folder.mkdir()
    for table in page.tables():
        (folder / f"{table.name}.csv").write_text(csv_text(table), encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(latex_text(table), encoding="utf-8")
