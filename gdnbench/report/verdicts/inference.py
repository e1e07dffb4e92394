"""Verdicts on the article's table of inference, from speeds of generation that may lie in another set."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from gdnbench.claims import Claim, ClaimCard, catalogue
from gdnbench.report import numbers
from gdnbench.report.generation import REFERENCE, Generation, Grid, grid, ratio
from gdnbench.report.statistics import Interval, position
from gdnbench.report.study import Study
from gdnbench.report.verdicts.verdict import Ruling, Verdict

WITHIN = 0.1  # relative, of a claimed number: as it is rounded in the article, and some more
Ratio = tuple[str, tuple[int, int], Interval]  # architecture, batch and context, tokens/s over the Transformer's
LINEAR = ("mamba2", "gdn", "rwkv7")  # the linear models of the article's table


def inference(card: ClaimCard, study: Study) -> Verdict:
    """Judge a row or the sentence of the article's table of inference.

    The article names no hardware, batch, context or precision. A row is set beside the smallest batch and context of
    the largest models: both its numbers within ``within`` there: reproduced; one: partly; none: not reproduced,
    whatever stands elsewhere on the grid, which the reason says. The sentence is judged at every place of the largest
    models: ratios to the Transformer inside ``low`` to ``high`` everywhere: reproduced; somewhere: partly; nowhere:
    not reproduced. Models of less than half the table's 1B parameters test neither.
    """
    other = study if card.set in ("", study.name) else study.beside(card.set)
    found = None if other is None else grid(other.generations, other.rows)
    if found is None or found.stated is None:
        return Verdict(
            claim=card.claim, verdict="pending", card=card, reason=f"the set {card.set!r} holds no speed of generation"
        )
    claim = catalogue().find(card.claim)
    verdict = _row(card, claim, found) if claim.arch else _sentence(card, claim, found)
    claimed = catalogue().find("A2.1").budget["params"]
    params = max(g.record.metric("params_total") or 0.0 for g in found.found if g.model[2] == found.stated[0])
    if params >= claimed / 2 or verdict.verdict == "pending":
        return verdict
    sizes = f"the article's table is of models of {numbers.count(claimed)} parameters, the largest here have"
    reason = f"{sizes} {numbers.count(params)}; {verdict.reason}"
    return dataclasses.replace(verdict, verdict="not testable here", reason=reason)


def cards(set_name: str) -> tuple[ClaimCard, ...]:
    """Return the cards by which a set of speeds of generation judges the article's table."""
    rows = [claim.id for claim in catalogue().claims if claim.id.startswith("A2.")]
    return tuple(ClaimCard(claim=row, test="inference", set=set_name) for row in rows)


def where_it_comes_out(claim: Claim, found: Grid, within: float = WITHIN) -> str:
    """Return where on the grid, over all sizes, a row's tokens/s and memory are within a share of the claimed ones."""
    rate, memory = _claimed(claim, "tokens_per_s"), _claimed(claim, "memory")
    here = [g for size in found.sizes for g in found.ours(claim.arch, size) if g.rate and g.memory_gb]
    both = [g for g in here if _near(g.rate, rate, within) and _near(g.memory_gb, memory, within)]
    if both:
        return f"both at {_places(both)}"
    parts = []
    for what, value, claimed in (("tokens/s", Generation.rate, rate), ("memory", Generation.memory_gb, memory)):
        near = [g for g in here if _near(value.fget(g), claimed, within)]  # type: ignore[attr-defined]
        parts.append(f"{what} at {_places(near)}" if near else f"{what} nowhere")
    between = _between(here, rate)
    parts[0] += f" ({between})" if between and parts[0] == "tokens/s nowhere" else ""
    return f"both nowhere; {'; '.join(parts)}"


def ratios(found: Grid, arch: str, size: str) -> dict[tuple[int, int], Interval]:
    """Return the ratios of an architecture's tokens/s to the Transformer's, by place."""
    pairs = [(g, found.at(REFERENCE, size, g.place)) for g in found.ours(arch, size) if g.rate is not None]
    ratios = {g.place: ratio(g, reference) for g, reference in pairs if reference is not None}
    return {place: value for place, value in ratios.items() if value is not None}


def _row(card: ClaimCard, claim: Claim, found: Grid) -> Verdict:
    assert found.stated is not None
    size, place = found.stated
    here = found.at(claim.arch, size, place)
    if here is None or here.rate is None or here.memory_gb is None:
        return Verdict(
            claim=card.claim, verdict="pending", card=card, reason=f"{claim.arch} was not measured at {size}, {place}"
        )
    within = card.bounds.get("within", WITHIN)
    held = [
        _near(here.rate, _claimed(claim, "tokens_per_s"), within),
        _near(here.memory_gb, _claimed(claim, "memory"), within),
    ]
    rulings: dict[int, Ruling] = {2: "reproduced", 1: "partly", 0: "not reproduced"}
    words = [f"{what} {'is' if good else 'is not'}" for what, good in zip(("tokens/s", "memory"), held, strict=True)]
    return Verdict(
        claim=card.claim,
        verdict=rulings[sum(held)],
        measured=f"{numbers.number(here.rate, 0)} tokens/s, {numbers.number(here.memory_gb, 2)} GB",
        budget=budget(here, found),
        distance=card.distance,
        reason=f"at {_named(here)}, {' and '.join(words)} within {100 * within:g}% of the article's; over the whole "
        f"grid: {where_it_comes_out(claim, found, within)}",
        runs=(here.record.run_id,),
        card=card,
    )


def _sentence(card: ClaimCard, claim: Claim, found: Grid) -> Verdict:
    assert found.stated is not None
    size, stated = found.stated
    span = claim.claimed["speed_ratio"].value
    assert isinstance(span, tuple)
    low, high = card.bounds.get("low", span[0]), card.bounds.get("high", span[1])
    by_arch = {arch: ratios(found, arch, size) for arch in LINEAR}
    everywhere = [(arch, place, value) for arch, here in by_arch.items() for place, value in here.items()]
    if not everywhere:
        return Verdict(claim=card.claim, verdict="pending", card=card, reason="no linear model beside a Transformer")
    inside = [(arch, place) for arch, place, value in everywhere if _inside(value, low, high)]
    ruling: Ruling = "reproduced" if len(inside) == len(everywhere) else "partly" if inside else "not reproduced"
    here = {arch: values[stated] for arch, values in by_arch.items() if stated in values}
    return Verdict(
        claim=card.claim,
        verdict=ruling,
        measured="tokens/s over the Transformer's: "
        + "; ".join(f"{arch} {_limits(value)}" for arch, value in here.items())
        + f" at batch {stated[0]}, context {stated[1]:,}",
        budget=budget(next(g for g in found.found if g.model[2] == size and g.rate is not None), found),
        distance=card.distance,
        reason=f"of {len(everywhere)} places and models, {len(inside)} lie inside {low:g} to {high:g}, "
        f"{_count(everywhere, below=low)} below and {_count(everywhere, above=high)} above it: from "
        f"{_extreme(everywhere, min)} to {_extreme(everywhere, max)}{_spans(inside)}",
        runs=tuple(sorted(g.record.run_id for arch in (REFERENCE, *LINEAR) for g in found.ours(arch, size) if g.rate)),
        card=card,
    )


def budget(here: Generation, found: Grid) -> str:
    """Return what a speed was measured under."""
    spec, params = here.record.spec, here.record.metric("params_total") or 0.0
    device = here.record.environment.get("device", "?")
    return (
        f"{numbers.count(params)} parameters, random weights, {here.where}, {spec['dtype']}, recurrent states in "
        f"{spec['state_dtype']}, on {device}"
    )


def _count(everywhere: Sequence[Ratio], *, below: float = -math.inf, above: float = math.inf) -> int:
    return sum(value.mean < below or value.mean > above for _, _, value in everywhere)


def _extreme(everywhere: Sequence[Ratio], choose: Callable[..., Ratio]) -> str:
    arch, (batch, context), value = choose(everywhere, key=lambda entry: entry[2].mean)
    return f"{numbers.number(value.mean, 2)} ({arch}, batch {batch}, context {context:,})"


def _spans(inside: Sequence[tuple[str, tuple[int, int]]]) -> str:
    if not inside:
        return ""
    shown = [f"{arch} at batch {batch}, context {context:,}" for arch, (batch, context) in inside[:8]]
    more = f" and {len(inside) - 8} more" if len(inside) > 8 else ""
    return f"; inside: {'; '.join(shown)}{more}"


def _inside(value: Interval, low: float, high: float) -> bool:
    if value.low is None:
        return low <= value.mean <= high
    return position(value, low, high) == "inside"


def _limits(value: Interval) -> str:
    if value.low is None or value.high is None:
        return numbers.number(value.mean, 2)
    return f"{numbers.number(value.mean, 2)} [{numbers.number(value.low, 2)}, {numbers.number(value.high, 2)}]"


def _claimed(claim: Claim, name: str) -> float:
    value = claim.claimed[name].value
    assert isinstance(value, float)
    return value


def _near(value: float | None, claimed: float, within: float) -> bool:
    return value is not None and abs(value / claimed - 1) <= within


def _named(g: Generation) -> str:
    return f"{g.model[2]}, {g.where}"


def _places(near: Sequence[Generation]) -> str:
    """Return places in words, those of one size and batch together."""
    contexts: dict[tuple[str, int], list[str]] = {}
    for g in near:
        contexts.setdefault((g.model[2], g.place[0]), []).append(f"{g.place[1]:,}")
    parts = [f"{size}, batch {batch}, context {' / '.join(found)}" for (size, batch), found in contexts.items()]
    return numbers.listed(parts)


def _between(here: Sequence[Generation], rate: float) -> str:
    """Return between which batches, at the least context of a size, a number of tokens/s lies."""
    for size in dict.fromkeys(g.model[2] for g in here):
        least = min(g.place[1] for g in here if g.model[2] == size)
        row = sorted((g for g in here if g.model[2] == size and g.place[1] == least), key=lambda g: g.place)
        for one, two in itertools.pairwise(row):
            if (one.rate or 0.0) < rate < (two.rate or 0.0):
                return f"at {size}, context {least:,} it lies between batch {one.place[0]} and {two.place[0]}"
    return ""
