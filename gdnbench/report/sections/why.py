"""Which part of μP makes a learning rate transfer, by the arms that take one part each; sentences chosen by numbers."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.statistics import position
from gdnbench.report.transfer import Transfer
from gdnbench.report.verdicts.transfer import DRIFT_BOUND, DRIFT_UNIT

PARTS = {
    "sp_fanin": "the start by fan-in (one rate for all weights)",
    "sp_emb": "the embedding's rate in proportion to width (all else standard)",
}


def why_sentences(transfers: Sequence[Transfer]) -> list[str]:
    """Return what the arms under ``sp``, ``sp_fanin`` and ``sp_emb`` say of one experiment's architectures.

    Args:
        transfers: the fitted arms of one experiment.
    """
    found = []
    for arch in dict.fromkeys(fitted.runs.arch for fitted in transfers):
        plain = [fitted for fitted in transfers if fitted.runs.arch == arch and not fitted.runs.switches]
        by_table = {fitted.runs.table: fitted for fitted in plain}
        if any(table in by_table for table in PARTS):
            found += _of_arch(by_table)
    return found


def _of_arch(by_table: dict[str, Transfer]) -> list[str]:
    standard = by_table.get("sp")
    place = "pending" if standard is None else _place(standard)
    if standard is None or place in ("pending", "undecided"):
        name = "no arm under sp" if standard is None else f"the drift of {standard.runs.arm} is {place}"
        return [f"What makes the rate transfer cannot be told here: {name}."]
    if place == "inside":
        return [
            f"{standard.runs.arm} keeps its rate by itself ({_drift(standard)}): there is no drift that a part of μP "
            "could take away."
        ]
    parts = [_part(words, by_table[table], standard) for table, words in PARTS.items() if table in by_table]
    places = {table: _place(by_table[table]) for table in PARTS if table in by_table}
    full = [fitted for table, fitted in by_table.items() if table.startswith("mup") and _place(fitted) == "inside"]
    if full and set(places) == set(PARTS) and not {"inside", "undecided", "pending"} & set(places.values()):
        arms = numbers.listed([fitted.runs.arm for fitted in full])
        parts.append(f"Neither part alone is enough, and {arms} keep the rate: the hidden rates of μP are needed.")
    return parts


def _part(words: str, fitted: Transfer, standard: Transfer) -> str:
    place, arm = _place(fitted), fitted.runs.arm
    if place == "inside":
        return (
            f"{words[0].upper()}{words[1:]} is enough: {arm} keeps its rate ({_drift(fitted)}), {standard.runs.arm} "
            f"does not ({_drift(standard)})."
        )
    if place in ("below", "above"):
        return f"{words[0].upper()}{words[1:]} is not enough: {arm} drifts, too ({_drift(fitted)})."
    return f"Whether {words} is enough is {place}: {arm}, {_drift(fitted)}."


def _place(fitted: Transfer) -> str:
    return position(fitted.drift, -DRIFT_BOUND, DRIFT_BOUND)


def _drift(fitted: Transfer) -> str:
    return "no drift fitted" if fitted.drift is None else f"drift {numbers.limits(fitted.drift, 3, DRIFT_UNIT)}"
