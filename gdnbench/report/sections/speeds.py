"""The page of a set of training speeds: what was found, the table, where a step's time goes, how to measure again."""

from gdnbench.report import numbers
from gdnbench.report.content import Block, Bullets, Figure, Figures, Section, Text
from gdnbench.report.figures.waterfall import waterfall
from gdnbench.report.sections.timings import held, noted, qualified, reproduction
from gdnbench.report.speeds import FAR, GAP_MS, OURS, Group, Speed, groups
from gdnbench.report.study import Study
from gdnbench.report.tables.kernels import ratio_text
from gdnbench.report.tables.speeds import components_table, speed_runs_table, speeds_table

NOUN = "training speed"


def speed_sections(study: Study, command: str) -> tuple[Section, ...]:
    """Return the sections of a set that holds training speeds."""
    found = groups(study.speeds, study.rows)
    profiled = any(record.data.get("profiled") for record in study.speeds)
    measured = f"gdnbench bench train --set {study.name}{' --profile' if profiled else ''}"
    return (
        Section(anchor="summary", title="1. Summary", blocks=_summary(study, found)),
        Section(anchor="speed", title="2. Training speed", blocks=_speed(found)),
        Section(anchor="parts", title="3. Where a step's time goes", blocks=_parts(study, found)),
        reproduction(4, study, study.speeds, command, measured),
        Section(anchor="runs", title="Appendix: training speeds", blocks=(speed_runs_table(study.speeds),)),
    )


def _summary(study: Study, found: list[Group]) -> list[Block]:
    blocks: list[Block] = [held(study, study.speeds, NOUN)]
    if sentences := tuple(sentence for group in found if (sentence := _finding(group))):
        blocks.append(Bullets(items=sentences))
    return [*blocks, *qualified(study, study.speeds, NOUN)]


def _finding(group: Group) -> str:
    """Return what our step does beside its peers; empty without a time of ours."""
    ours = group.ours
    if ours is None or ours.tokens_per_s is None:
        return ""
    first, memory = ours.record.metric("first_step_s"), ours.record.metric("peak_gib")
    far = "" if ours.of_floor is None else f", {numbers.number(100 * ours.of_floor, 0)}% of its floor"
    beside = [_beside(group, peer) for peer in group.peers]
    return (
        f"{group.title}: {numbers.number(ours.tokens_per_s, 0)} tokens/s{far}, {numbers.number(memory or 0, 1)} GiB, "
        f"first step {numbers.number(first or 0, 1)} s"
        + (f"; {numbers.listed(beside)}." if beside else "; no peer of the same work was timed.")
    )


def _beside(group: Group, peer: Speed) -> str:
    ratio, memory = group.ratio(peer), group.memory(peer)
    assert ratio is not None
    share = "" if memory is None else f" in {numbers.number(100 * memory, 0)}% of its memory"
    return f"{ratio_text(ratio)} times {peer.impl}{share}"


def _speed(found: list[Group]) -> list[Block]:
    sizes = numbers.listed(list(dict.fromkeys(group.size for group in found)))
    return [Text(text=f"Sizes: {sizes}."), speeds_table(found)]


def _parts(study: Study, found: list[Group]) -> list[Block]:
    """Return a waterfall and a table for each profiled step, and what is said of the parts far above their floors."""
    profiled = [speed for group in found for speed in group.speeds if speed.components]
    if not profiled:
        return [Text(text="This set holds no profile; gdnbench bench train --profile measures one on a GPU.")]
    figures = Figures(figures=tuple(map(_figure, profiled)))
    names = [f"{speed.name}: {part.name}" for speed in profiled if speed.impl == OURS for part in speed.far]
    heading = f"Where our step is over {FAR:g} times and {GAP_MS:g} ms above a floor"
    said = noted(study, names, heading, f"Over {FAR:g} times and {GAP_MS:g} ms above a floor without a note")
    return [figures, *said, *map(components_table, profiled)]


def _figure(speed: Speed) -> Figure:
    return Figure(
        name=f"training_waterfall_{speed.name.replace(' ', '_')}",
        caption=f"One training step of {speed.name}, part after part: measured, and how much of it is the floor. In "
        "brackets: milliseconds above the floor.",
        plot=waterfall(speed),
        runs=(speed.record.run_id,),
    )
