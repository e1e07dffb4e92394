"""Verdicts on coordinate checks: do sizes and updates of activations stay the same over width?"""

from collections.abc import Callable, Sequence

from gdnbench.claims import ClaimCard
from gdnbench.report.activations import (
    READOUT,
    START,
    CoordinateCheck,
    SiteSlope,
    analyse,
    is_gate_input,
    is_gate_output,
    site_name,
)
from gdnbench.report.numbers import limits, number, plural
from gdnbench.report.statistics import position
from gdnbench.report.study import Study
from gdnbench.report.verdicts.verdict import Part, Verdict, no_run, pending, rule

BOUND = 0.2
CONTROL_BOUND = 0.3
Select = Callable[[CoordinateCheck], Sequence[SiteSlope]]


def coordinate_check(card: ClaimCard, study: Study) -> Verdict:
    """Judge all slopes that count: the arm's inside ± ``bound`` (0.2), the control exceeds ``control_bound`` (0.3)."""
    return _judge(card, study, lambda check: check.counted)


def gate_variance(card: ClaimCard, study: Study) -> Verdict:
    """Judge the gates' pre-activations at the start: inside ± ``bound``, the control exceeds ``control_bound``."""

    def gates(check: CoordinateCheck) -> list[SiteSlope]:
        return [s for s in check.counted if s.after_steps == START and is_gate_input(s.site, check.runs.arch)]

    return _judge(card, study, gates)


def gate_outputs(card: ClaimCard, study: Study) -> Verdict:
    """Judge alpha and beta at the start: slopes inside ± ``bound`` (0.2)."""

    def outputs(check: CoordinateCheck) -> list[SiteSlope]:
        return [s for s in check.counted if s.after_steps == START and is_gate_output(s.site)]

    return _judge(card, study, outputs)


def readout_scale(card: ClaimCard, study: Study) -> Verdict:
    """Judge the readout before its norm, at the start: slope inside ``expected`` ± ``bound`` (0.2)."""

    def readout(check: CoordinateCheck) -> list[SiteSlope]:
        return [s for s in check.slopes if s.after_steps == START and s.site.endswith(READOUT)]

    return _judge(card, study, readout, expected=card.bounds.get("expected", -0.5))


def arm_part(
    name: str, check: CoordinateCheck, slopes: Sequence[SiteSlope], bound: float, min_seeds: int, expected: float = 0.0
) -> Part:
    """Return whether all of an arm's slopes lie inside ``expected`` ± ``bound``; the furthest one is shown."""
    runs, arch = check.runs.run_ids, check.runs.arch
    if problem := _unusable(check, slopes, min_seeds):
        return pending(name, problem, _furthest(slopes, arch, expected), runs)
    places = [position(s.slope, expected - bound, expected + bound) for s in slopes]
    range_text = f"{number(expected, 2)} ± {bound}" if expected else f"±{bound}"
    measured = _furthest(slopes, arch, expected)
    outside = [s for s, place in zip(slopes, places) if place in ("below", "above")]
    crossing = [s for s, place in zip(slopes, places) if place == "undecided"]
    if outside:
        finding = f"has {_of(outside, slopes)} wholly outside {range_text}: {_names(outside, arch)}"
        return Part(arm=name, behaviour="otherwise", measured=measured, finding=finding, runs=runs)
    if crossing:
        finding = f"has {_of(crossing, slopes)} across the bound of {range_text}: {_names(crossing, arch)}"
        return Part(arm=name, behaviour="undecided", measured=measured, finding=finding, runs=runs)
    finding = f"has all of its {plural(len(slopes), 'slope')} inside {range_text}"
    return Part(arm=name, behaviour="as claimed", measured=measured, finding=finding, runs=runs)


def control_part(name: str, check: CoordinateCheck, slopes: Sequence[SiteSlope], bound: float, min_seeds: int) -> Part:
    """Return whether some slope of the control lies wholly above ``bound``: a check that all pass is none."""
    runs, arch = check.runs.run_ids, check.runs.arch
    if problem := _unusable(check, slopes, min_seeds):
        return pending(name, problem, _furthest(slopes, arch, 0.0), runs)
    above = [s for s in slopes if position(s.slope, high=bound) == "above"]
    below = all(position(s.slope, high=bound) == "inside" for s in slopes)
    measured = _furthest(slopes, arch, 0.0)
    if above:
        finding = f"grows with width in {_of(above, slopes)} (lower limit above {bound})"
        return Part(arm=name, behaviour="as claimed", measured=measured, finding=finding, runs=runs)
    finding = f"has no slope above {bound}" if below else f"has no slope clearly above {bound}"
    return Part(
        arm=name, behaviour="otherwise" if below else "undecided", measured=measured, finding=finding, runs=runs
    )


def _judge(card: ClaimCard, study: Study, select: Select, expected: float = 0.0) -> Verdict:
    check = analyse(study.arm(card.experiment, card.arm), study)
    bound = card.bounds.get("bound", BOUND)
    arm = arm_part(card.arm, check, select(check), bound, card.min_seeds, expected)
    control, records = None, list(check.runs.records)
    if card.control:
        other = analyse(study.arm(card.experiment, card.control), study)
        control_bound = card.bounds.get("control_bound", CONTROL_BOUND)
        control = control_part(card.control, other, select(other), control_bound, card.min_seeds)
        records += other.runs.records
    return rule(card, arm, control, records)


def _unusable(check: CoordinateCheck, slopes: Sequence[SiteSlope], min_seeds: int) -> str:
    if problem := no_run(check.runs):
        return problem
    if not slopes:
        return "has no row of these activations"
    fewest = min(0 if s.slope is None else s.slope.n for s in slopes)
    if fewest < min_seeds:
        return f"has a slope from {plural(fewest, 'seed')} of the {min_seeds} that the card asks for"
    return "has too few seeds for an interval" if fewest < 3 else ""


def _furthest(slopes: Sequence[SiteSlope], arch: str, expected: float) -> str:
    fitted = [s for s in slopes if s.slope is not None]
    if not fitted:
        return ""
    worst = max(fitted, key=lambda s: abs(s.slope.mean - expected) if s.slope else 0.0)
    assert worst.slope is not None
    label = "slope" if len(slopes) == 1 else f"furthest of {len(slopes)} slopes"
    return f"{label}, {_name(worst, arch)}: {limits(worst.slope, 2)}"


def _name(slope: SiteSlope, arch: str) -> str:
    when = "at the start" if slope.after_steps == START else f"update after {plural(slope.after_steps, 'step')}"
    return f"{site_name(slope.site, arch)} {when}"


def _names(slopes: Sequence[SiteSlope], arch: str, most: int = 3) -> str:
    shown = ", ".join(_name(slope, arch) for slope in slopes[:most])
    return shown if len(slopes) <= most else f"{shown} and {len(slopes) - most} more"


def _of(part: Sequence[SiteSlope], whole: Sequence[SiteSlope]) -> str:
    return f"{len(part)} of {plural(len(whole), 'slope')}"
