"""The article's tables, claimed beside measured."""

from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Section, Table, Text
from gdnbench.report.generation import grid
from gdnbench.report.tables.article import inference_table, perplexity_table
from gdnbench.report.tables.generation import inference_claims_table


def article(analysis: Analysis) -> Section:
    """Return section 2."""
    return Section(
        anchor="article",
        title="2. The article's tables, claimed beside measured",
        blocks=(
            Text(
                text=(
                    "The article (AI news page, June 2026) retells arXiv 2606.04048 (Liu, Gu); its two tables are "
                    "not in that paper. Its figures are shown in italics, as claims."
                )
            ),
            perplexity_table(analysis.study, analysis.verdicts),
            _inference(analysis),
        ),
    )


def _inference(analysis: Analysis) -> Table | Text:
    """Return table A2 from this study's generation, else from the set that the claims' cards name."""
    if analysis.decodes:
        return inference_table(analysis.study, analysis.verdicts)
    names = {card.set for card in analysis.study.cards if card.test == "inference"}
    for other in filter(None, map(analysis.study.beside, sorted(names))):
        found = grid(other.generations, other.rows)
        if found.stated is not None:
            return inference_claims_table(found, analysis.verdicts)
    where = f", and there is no set {numbers.listed(sorted(names))} beside it" if names else ""
    return Text(text=f"Its table A2, on inference, is left out: this study measures no generation{where}.")
