"""The article's tables, claimed beside measured."""

from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Section, Text
from gdnbench.report.tables.article import inference_table, perplexity_table


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
            inference_table(analysis.study, analysis.verdicts)
            if analysis.decodes
            else Text(text="Its table A2, on inference, is left out: this study measures no generation."),
        ),
    )
