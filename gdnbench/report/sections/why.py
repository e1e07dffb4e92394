"""Why a learning rate transfers or does not: arms that take one part of μP, or leave one; numbers choose the words."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.activations import START, CoordinateCheck, SiteSlope, site_name
from gdnbench.report.statistics import position
from gdnbench.report.transfer import Transfer
from gdnbench.report.verdicts.activations import BOUND
from gdnbench.report.verdicts.transfer import DRIFT_BOUND, DRIFT_UNIT

PARTS = {
    "sp_fanin": "the start by fan-in (one rate for all weights)",
    "sp_emb": "the embedding's rate in proportion to width (all else standard)",
}
# What may make an arm under μP drift -> the arms without it: their table (None: the same one) and their switch.
SUSPECTS = {
    "weight decay coupled to a rate that falls with width": (None, "decay_mode"),
    "a rule of convolution, norms or decay that the derived table changes": ("mup_derived", None),
}


def why_sentences(transfers: Sequence[Transfer], checks: Sequence[CoordinateCheck] = ()) -> list[str]:
    """Return what arms that take a part of μP say of one experiment's architectures, and why one under μP drifts.

    Args:
        transfers: the fitted arms of one experiment.
        checks: coordinate checks of the set.
    """
    found = []
    for arch in dict.fromkeys(fitted.runs.arch for fitted in transfers):
        same = [fitted for fitted in transfers if fitted.runs.arch == arch]
        by_table = {fitted.runs.table: fitted for fitted in same if not fitted.runs.switches}
        if any(table in by_table for table in PARTS):
            found += _of_arch(by_table)
        for table, fitted in by_table.items():
            if table.startswith("mup") and _place(fitted) in ("below", "above"):
                found += [*_suspects(fitted, same), *_updates(fitted, checks)]
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
        keep = f"{numbers.names([fitted.runs.arm for fitted in full])} {'keeps' if len(full) == 1 else 'keep'}"
        parts.append(f"Neither part alone is enough, and {keep} the rate: the hidden rates of μP are needed.")
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


def _suspects(drifting: Transfer, arms: Sequence[Transfer]) -> list[str]:
    """Return, for each suspect that some arms are without, whether these keep the rate."""
    found = []
    for words, (table, switch) in SUSPECTS.items():
        tables, switches = (table or drifting.runs.table), ({switch} if switch else set())
        without = [f for f in arms if f.runs.table == tables and set(f.runs.switches) == switches and f is not drifting]
        if without and (table is None or drifting.runs.table == "mup_gdn"):
            found.append(_suspect(words, drifting.runs.arm, without))
    return found


def _suspect(words: str, drifting: str, without: Sequence[Transfer]) -> str:
    places = {_place(fitted) for fitted in without}
    if "inside" in places:
        without = [fitted for fitted in without if _place(fitted) == "inside"]
    shown = "; ".join(f"{numbers.quoted(fitted.runs.arm)}, {_drift(fitted)}" for fitted in without)
    if "inside" in places:
        return f"What makes {drifting} drift is {words}; the rate is kept without: {shown}."
    if places <= {"below", "above"}:
        return f"What makes {drifting} drift is not, or not only, {words}; the rate drifts without, too: {shown}."
    place = "pending" if "pending" in places else "undecided"
    return f"Whether {words} makes {drifting} drift is {place}: {shown}."


def _updates(drifting: Transfer, checks: Sequence[CoordinateCheck]) -> list[str]:
    """Return whether updates of activations grow or shrink with width, as the drift would have it."""
    same = [c for c in checks if c.runs.arch == drifting.runs.arch and c.runs.table == drifting.runs.table]
    check = next((check for check in same if not check.runs.switches), None)
    updates = [] if check is None else [slope for slope in check.counted if slope.after_steps != START]
    places = [position(slope.slope, -BOUND, BOUND) for slope in updates]
    judged = [place for place in places if place != "pending"]
    if not judged:
        return []
    sides = [[slope for slope, at in zip(updates, places) if at == side] for side in ("above", "below")]
    lower = _place(drifting) == "below"
    asking, other = sides if lower else sides[::-1]
    does, rates, opposite = ("grow", "lower", "shrink") if lower else ("shrink", "higher", "grow")
    explains = "may explain" if asking else "does not explain"
    return [
        f"Of {len(judged)} judged updates of activations of {drifting.runs.arm}, {_sites(asking)} {does} with width "
        f"beyond ±{BOUND}, which would ask for {rates} rates, and {_sites(other)} {opposite}: the coordinate check, to "
        f"{numbers.plural(max(slope.after_steps for slope in updates), 'step')}, {explains} the drift."
    ]


def _sites(slopes: Sequence[SiteSlope]) -> str:
    """Return how many slopes there are, and of which modules of the blocks."""
    sites = dict.fromkeys(site_name(slope.site, "", block=False) for slope in slopes)
    return f"{len(slopes)} ({numbers.listed(list(sites))})" if slopes else "none"


def _place(fitted: Transfer) -> str:
    return position(fitted.drift, -DRIFT_BOUND, DRIFT_BOUND)


def _drift(fitted: Transfer) -> str:
    return "no drift fitted" if fitted.drift is None else f"drift {numbers.limits(fitted.drift, 3, DRIFT_UNIT)}"
