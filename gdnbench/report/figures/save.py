"""Figures as files and as SVG text that is the same, byte for byte, for the same records."""

import io
import re
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gdnbench.report.figures.style import STYLE

PNG_DPI = 160


def svg_text(figure: Figure, name: str) -> str:
    """Return a figure as an SVG document without date, with ids that start with ``name``."""
    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return _prefixed(buffer.getvalue(), name)


def inline_svg(document: str, label: str) -> str:
    """Return an SVG document as an element to put into a page: sized by its container, with an accessible name."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    head, rest = element.split(">", 1)
    head = re.sub(r'\s(width|height|xmlns:xlink|version)="[^"]*"', "", head)
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    # HTML parsers know xlink:href in SVG without the declaration.
    return f'{head} role="img" aria-label="{escaped}">{rest}'.strip()


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at 160 dots per inch, without software version or date."""
    with rc_context(STYLE):
        figure.savefig(path, dpi=PNG_DPI, format="png", metadata={"Software": None})


def _prefixed(document: str, name: str) -> str:
    """Return an SVG document whose ids cannot meet those of another in the same page."""
    document = re.sub(r'\bid="', f'id="{name}-', document)
    document = re.sub(r"url\(#", f"url(#{name}-", document)
    return re.sub(r'href="#', f'href="#{name}-', document)
