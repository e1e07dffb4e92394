"""The claims ledger: every claim with its figures, what was measured, the verdict and why."""

from gdnbench.claims import catalogue
from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.tables.cells import claimed_text, verdict_cell
from gdnbench.report.verdicts import Verdict

SOURCES = {"article": "the article", "paper": "arXiv 2606.04048 (Liu, Gu)"}


def ledger_table(verdicts: tuple[Verdict, ...], intervals: str = "Student t 95% intervals over n seeds") -> Table:
    """Return a row a verdict, in the catalogue's order; ``intervals`` says what those of the verdicts are."""
    seen: set[str] = set()
    rows = []
    for verdict in verdicts:
        rows.append(_row(verdict, anchored=verdict.claim not in seen))
        seen.add(verdict.claim)
    return Table(
        name="claims",
        caption="Claims ledger",
        columns=(
            "id",
            "source",
            "claim, in our words",
            "the source's figures",
            "measured",
            "verdict",
            "why",
            "measured under, and distance from the claim's budget",
        ),
        rows=tuple(rows),
        note=f"Figures in italics are the source's. Intervals are {intervals}.",
        wide=(1, 2, 3, 4, 6, 7),
    )


def verdict_table(verdicts: tuple[Verdict, ...]) -> Table:
    """Return the summary's short form, of the claims that the set has a card for: claim, verdict, measured."""
    rows = [
        Row(
            cells=(
                Cell(text=verdict.claim, target=f"claim-{verdict.claim}"),
                plain(catalogue().find(verdict.claim).statement),
                verdict_cell(verdict.verdict),
                plain(verdict.measured) if verdict.measured else missing(verdict.reason or numbers.MISSING),
            ),
            runs=verdict.runs,
        )
        for verdict in verdicts
        if verdict.card is not None
    ]
    return Table(
        name="verdicts",
        caption="Verdicts",
        columns=("id", "claim", "verdict", "measured"),
        rows=tuple(rows),
        wide=(1, 3),
    )


def _distance(verdict: Verdict) -> str:
    return f"distance: {verdict.distance}" if verdict.distance else ""


def _row(verdict: Verdict, *, anchored: bool) -> Row:
    claim = catalogue().find(verdict.claim)
    return Row(
        cells=(
            plain(claim.id),
            plain(f"{SOURCES[claim.source]}: {claim.place}"),
            plain(claim.statement),
            claimed_text(claim),
            plain(verdict.measured) if verdict.measured else missing(numbers.MISSING),
            verdict_cell(verdict.verdict),
            plain(verdict.reason),
            plain("; ".join(text for text in (verdict.budget, _distance(verdict)) if text)),
        ),
        runs=verdict.runs,
        anchor=f"claim-{claim.id}" if anchored else "",
    )
