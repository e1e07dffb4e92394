"""Tasks on which linear models and Transformers are known to differ: recall, state tracking, length."""

from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Heading, Section, Text
from gdnbench.report.figures.positions import loss_by_position
from gdnbench.report.figures.tasks import accuracy_by_arm, accuracy_over_length, accuracy_over_state
from gdnbench.report.statistics import Interval, position
from gdnbench.report.study import Study
from gdnbench.report.tables.tasks import length_table, task_table
from gdnbench.report.tasks import LengthStudy, TaskArm, TaskStudy, beside

WHAT = {
    "pairs": (
        "Multi-query associative recall (arXiv 2312.04927): key-value pairs, then every key once more, at gaps by a "
        "power law; accuracy is that of its value, over the whole vocabulary, at these positions."
    ),
    "length": (
        "A sequence of elements of a group; after each, the product so far is asked (arXiv 2404.08819). Accuracy at a "
        "length is that of the answers behind the length before it, so that answers which a shorter sequence has too "
        "do not count again."
    ),
}


def tasks(analysis: Analysis) -> Section | None:
    """Return the section; None where the set plans no task and measured no length."""
    if not analysis.tasks and not analysis.lengths:
        return None
    blocks: list[Block] = []
    for found in analysis.tasks:
        blocks += [Heading(text=found.title), *_task(found)]
    for lengths in analysis.lengths:
        blocks += [Heading(text=f"Loss by position: {lengths.experiment.title or lengths.experiment.name}")]
        blocks += _lengths(lengths, analysis.study)
    return Section(anchor="tasks", title="5. Tasks: recall, state tracking, length", blocks=blocks)


def _task(found: TaskStudy) -> list[Block]:
    if not found.shown:
        return [Text(text="No run of this task is stored yet, so it is not measured in this set.")]
    blocks: list[Block] = [Text(text=f"{WHAT[found.axis]} {_matching(found)}".strip())]
    blocks.append(Figures(figures=(_figure(found),)))
    if said := sentences(found):
        blocks.append(Bullets(items=tuple(said)))
    return [*blocks, task_table(found)]


def _matching(found: TaskStudy) -> str:
    """Return what is held equal between the arms."""
    rule = found.experiment.match
    if rule is None:
        return ""
    if rule.by != "state_bytes":
        return f"Arms are matched by {'FLOPs' if rule.by == 'flops' else rule.by} to {rule.reference}."
    varied = [f"{arm.name} by {arm.vary.option}" for arm in found.experiment.arms if arm.vary is not None]
    kept = [arm.name for arm in found.experiment.arms if arm.vary is None and arm.name != rule.reference]
    beyond = f"; {numbers.listed(kept)} {'keeps its' if len(kept) == 1 else 'keep their'} own state" if kept else ""
    return (
        f"At each width, arms get the state of {rule.reference} after {found.seq_len} tokens, the length of the "
        f"sequences: {numbers.listed(varied)}{beyond}."
    )


def _figure(found: TaskStudy) -> Figure:
    name = f"accuracy_{found.experiment.name}".replace("-", "_")
    over_seeds = "mean over seeds with its 95% interval where there are 3"
    if found.axis == "length":
        guess = "" if found.chance is None else f"; dotted: a guess, {numbers.number(100 * found.chance, 1)}%"
        caption = f"{found.title}: accuracy over length, {over_seeds}; trained at {found.seq_len} tokens{guess}."
        return Figure(name=name, caption=caption, plot=accuracy_over_length(found), runs=found.run_ids)
    if len(found.widths) > 1:
        caption = f"{found.title}: accuracy over the state's size, a panel a number of pairs, {over_seeds}."
        return Figure(name=name, caption=caption, plot=accuracy_over_state(found), runs=found.run_ids)
    caption = f"{found.title}: accuracy by arm at width {found.widths[0]}, {over_seeds}; points: seeds."
    return Figure(name=name, caption=caption, plot=accuracy_by_arm(found), runs=found.run_ids)


def sentences(found: TaskStudy) -> list[str]:
    """Return the order of the arms in the hardest case, and how further arms of an architecture differ from its first.

    Differences are shown beyond the training length, where arms that the training made equal may part.
    """
    said = [sentence for width in found.widths if (sentence := _order(found, width))]
    for width in found.widths:
        for length, metric in found.cases.items() if found.axis == "length" else ():
            if length > found.seq_len:
                said += [_difference(found, length, width, *pair) for pair in beside(found, metric, width)]
    return said


def _order(found: TaskStudy, width: int) -> str:
    value, metric = max(found.cases.items())
    known = {arm.runs.arm: mean for arm in found.shown if (mean := arm.accuracy(width, metric)) is not None}
    if len(known) < 2:
        return ""
    order = sorted(known, key=lambda arm: -known[arm].mean)
    shown = [f"{arm} {numbers.number(100 * known[arm].mean, 1)}%" for arm in order]
    return f"{_where(found, value, width)}: accuracy of {numbers.listed(shown)}."


def _difference(found: TaskStudy, length: int, width: int, arm: TaskArm, base: TaskArm, value: Interval) -> str:
    word = {"above": "is more than", "below": "is less than"}.get(
        position(value, 0.0, 0.0), "is not shown to differ from"
    )
    return (
        f"{_where(found, length, width)}: the accuracy of {arm.runs.arm} {word} that of {base.runs.arm}, difference "
        f"{numbers.limits(value, 3)} (shares of right answers, paired by seed)."
    )


def _where(found: TaskStudy, value: int, width: int) -> str:
    where = numbers.plural(value, "pair") if found.axis == "pairs" else f"Length {value:,}"
    return f"{where}, width {width}" if len(found.widths) > 1 else where


def _lengths(found: LengthStudy, study: Study) -> list[Block]:
    runs = tuple(sorted({run for choice in found.choices for run in choice.run_ids}))
    caption = (
        f"Loss over the number of tokens read before, in bins half an octave wide, to {max(found.cases):,}: mean and "
        f"range over seeds; trained at {found.seq_len:,} tokens. A curve that leaves the frame goes on rising."
    )
    name = f"positions_{found.experiment.name}".replace("-", "_")
    figure = Figure(name=name, caption=caption, plot=loss_by_position(found, study), runs=runs)
    return [Figures(figures=(figure,)), length_table(found)]
