"""The page of a set: its sections in order, as content."""

from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Page
from gdnbench.report.sections.article import article
from gdnbench.report.sections.ledger import ledger
from gdnbench.report.sections.measures import measures
from gdnbench.report.sections.reproduce import appendix, reproduce
from gdnbench.report.sections.summary import summary
from gdnbench.report.sections.transfer import transfer


def build_page(analysis: Analysis, command: str) -> Page:
    """Return the content of the report of an analysed set."""
    study = analysis.study
    title = " and ".join(dict.fromkeys(preset.title for preset in study.presets)) or f"Report of the set {study.name}"
    return Page(
        title=title,
        subtitle=f"Claims of arXiv 2606.04048 (Liu, Gu) and of the article on it, tested in the set {study.name}",
        sections=(
            summary(analysis),
            article(analysis),
            transfer(analysis),
            measures(analysis),
            ledger(analysis),
            reproduce(analysis, command),
            appendix(analysis),
        ),
    )
