"""Tasks on which linear models and Transformers are known to differ: recall, state tracking, length."""

from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Heading, Section, Text
from gdnbench.report.figures.positions import loss_by_position
from gdnbench.report.figures.tasks import accuracy_by_arm, accuracy_over_length, accuracy_over_state
from gdnbench.report.statistics import position
from gdnbench.report.study import Study
from gdnbench.report.tables.tasks import length_table, task_table
from gdnbench.report.tasks import LengthStudy, TaskStudy, beside

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
    return Section(anchor="tasks", title="Tasks: recall, state tracking, length", blocks=blocks)


def _task(found: TaskStudy) -> list[Block]:
    if not found.shown:
        return [Text(text="No run of this task is stored yet, so it is not measured in this set.")]
    blocks: list[Block] = [Text(text=f"{WHAT[found.axis]} {_matching(found)}".strip())]
    blocks.append(Figures(figures=(_figure(found),)))
    if sentences := difference_sentences(found):
        blocks.append(Bullets(items=tuple(sentences)))
    return [*blocks, task_table(found)]


def _matching(found: TaskStudy) -> str:
    """Return what is held equal between the arms."""
    rule = found.experiment.match
    if rule is None:
        return ""
    if rule.by != "state_bytes":
        return f"Arms are matched by {rule.by} to {rule.reference}."
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


def difference_sentences(found: TaskStudy) -> list[str]:
    """Return how each further arm of an architecture differs from its first, in each case beyond the training's."""
    sentences = []
    for width in found.widths:
        cases = {value: name for value, name in found.cases.items() if found.axis == "pairs" or value >= found.seq_len}
        for value, metric in cases.items():
            where = f"{value} pairs" if found.axis == "pairs" else f"length {value}"
            where += f", width {width}" if len(found.widths) > 1 else ""
            for arm, base, difference in beside(found, metric, width):
                word = {"above": "more than", "below": "less than"}.get(position(difference, 0.0, 0.0), "")
                said = f"is {word}" if word else "is not shown to differ from"
                sentences.append(
                    f"{where}: the accuracy of {arm.runs.arm} {said} that of {base.runs.arm}, difference "
                    f"{numbers.limits(difference, 3)} (shares of right answers, paired by seed)."
                )
    return sentences


def _lengths(found: LengthStudy, study: Study) -> list[Block]:
    runs = tuple(sorted({run for choice in found.choices for run in choice.run_ids}))
    caption = (
        f"Loss over the number of tokens read before, in bins half an octave wide, to {max(found.cases):,}: mean and "
        f"range over seeds; trained at {found.seq_len:,} tokens. A curve that leaves the frame goes on rising."
    )
    name = f"positions_{found.experiment.name}".replace("-", "_")
    figure = Figure(name=name, caption=caption, plot=loss_by_position(found, study), runs=runs)
    return [Figures(figures=(figure,)), length_table(found)]
