"""The claims ledger: every id."""

from gdnbench.claims import catalogue
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Bullets, Section, Text
from gdnbench.report.tables.ledger import ledger_table


def ledger(analysis: Analysis) -> Section:
    """Return section 5."""
    sources = tuple(f"{source.title}: {source.note}." for source in catalogue().sources.values())
    rule = Text(
        text=(
            "Rules were fixed before the runs. Reproduced: the arm's whole interval is inside its bound and the "
            "control behaves as claimed. Partly: one part holds, another does not. Not reproduced: the whole interval "
            "is outside. Undecided: an interval crosses its bound. Pending: too few seeds, or no experiment."
        )
    )
    return Section(
        anchor="ledger",
        title="5. Claims ledger",
        blocks=(rule, Bullets(items=sources), ledger_table(analysis.verdicts)),
    )
