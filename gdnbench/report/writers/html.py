"""The report as one HTML file that opens from disk: style and figures inside, no script, nothing loaded."""

from collections.abc import Mapping

import jinja2
from markupsafe import Markup

from gdnbench.report.content import Block, Page, by_prefix

EMBEDDED = jinja2.Environment(
    loader=jinja2.PackageLoader("gdnbench.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def html(page: Page, drawings: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        page: its content.
        drawings: name of a figure -> its SVG element.
    """
    evidence = page.evidence()

    def reference(runs: tuple[str, ...]) -> Mapping[str, str]:
        if len(runs) == 1:
            return {"text": "1 run", "target": f"run-{runs[0]}"}
        return {"text": f"{len(runs)} runs", "target": f"evidence-{evidence[tuple(sorted(runs))]}"}

    template = EMBEDDED.get_template("page.html")
    safe = {name: Markup(drawing) for name, drawing in drawings.items()}
    return template.render(
        page=page, evidence=evidence, drawings=safe, reference=reference, kind=_kind, by_prefix=by_prefix
    )


def _kind(block: Block) -> str:
    return type(block).__name__.lower()
