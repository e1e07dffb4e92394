"""A comparison at a matched budget: curves and losses, what it cost, and the texts by document."""

from collections.abc import Sequence

from gdnbench.presets.schema import Experiment
from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.comparing import SPEED, Choice, comparable
from gdnbench.report.content import Block, Bullets, Figure, Figures, Notice, Text
from gdnbench.report.cost import costs
from gdnbench.report.documents import Difference, reference_of
from gdnbench.report.figures.documents import difference_dots
from gdnbench.report.figures.style import arm_styles
from gdnbench.report.figures.training import metric_dots, training_curves
from gdnbench.report.sections.findings import comparison_sentences
from gdnbench.report.sections.parametrizations import rule_sentences
from gdnbench.report.sections.texts import document_sentences, overlap_notices
from gdnbench.report.statistics.intervals import MIN_SEEDS
from gdnbench.report.study import Study
from gdnbench.report.tables.comparison import comparison_table
from gdnbench.report.tables.cost import cost_table
from gdnbench.report.tables.documents import documents_table, overlap_table
from gdnbench.report.tables.rules import stored_rules

LOSS = (("val_loss", "validation loss (nat/token)"), ("bits_per_byte", "bits per byte"))
COST = ((SPEED, "training tokens/s"), ("peak_gib", "peak memory (GiB)"))


def comparison_blocks(analysis: Analysis) -> list[Block]:
    """Return all comparisons of a set."""
    blocks: list[Block] = []
    for experiment, choices in analysis.comparisons:
        if any(choice.chosen for choice in choices):
            blocks += _comparison(experiment, list(choices), analysis)
    return blocks or [Text(text="This set holds no finished run of a comparison, so losses are not compared in it.")]


def _comparison(experiment: Experiment, choices: list[Choice], analysis: Analysis) -> list[Block]:
    shown = [choice for choice in choices if choice.chosen]
    blocks: list[Block] = [Figures(figures=tuple(_figures(experiment, shown, analysis.study)))]
    if sentences := [*comparison_sentences(choices), *rule_sentences(choices, analysis.study)]:
        blocks.append(Bullets(items=tuple(sentences)))
    blocks += [comparison_table(experiment, choices, stored_rules(analysis.study))]
    blocks.append(cost_table(experiment, costs(experiment, choices)))
    return blocks + _texts(experiment, choices, analysis.texts[experiment.name], analysis.study)


def _texts(experiment: Experiment, choices: list[Choice], found: Sequence[Difference], study: Study) -> list[Block]:
    """Return the scores by document, and what of the texts stands in the train split."""
    reference = reference_of(experiment, choices)
    if not found or reference is None:
        return []
    arm, blocks = reference.runs.arm, list[Block]()
    if any(difference.by_document is not None for difference in found):
        scored = list({difference.choice.runs.arm: difference.choice for difference in found}.values())
        caption = (
            f"{experiment.title or experiment.name}: bits per byte minus those of {arm}, by text. Coloured: 95% "
            "interval over documents alone, of these very seeds; grey: over seeds (pale: too few for an interval). A "
            f"lead needs both on one side of zero.{_hollow(scored)}"
        )
        runs = tuple(sorted({run for difference in found for run in difference.runs}))
        name = f"documents_{experiment.name}".replace("-", "_")
        blocks.append(
            Figures(figures=(Figure(name=name, caption=caption, plot=difference_dots(found, arm), runs=runs),))
        )
    blocks += [Bullets(items=tuple(document_sentences(found, arm))), documents_table(experiment, found, arm)]
    records = [record for choice in choices for record in choice.chosen]
    overlaps = overlap_table(records, study)
    return blocks if overlaps is None else [*blocks, *map(_notice, overlap_notices(records, study)), overlaps]


def _notice(text: str) -> Notice:
    return Notice(text=text)


def _figures(experiment: Experiment, choices: list[Choice], study: Study) -> list[Figure]:
    runs = tuple(sorted({run for choice in choices for run in choice.run_ids}))
    stem = experiment.name.replace("-", "_")
    figures = [
        Figure(
            name=f"training_{stem}",
            caption=f"{experiment.title or experiment.name}: training loss at each arm's chosen rate, mean and range "
            "over seeds. Dashed: a standard parametrization beside another of its architecture.",
            plot=training_curves(choices, study),
            runs=runs,
        )
    ]
    for metric, label in (*LOSS, *COST):
        measured = [choice for choice in choices if choice.by_seed(metric)]
        if measured:
            own = tuple(sorted({run for choice in measured for run in choice.run_ids}))
            caption, plot = _caption(choices, metric, label), metric_dots(choices, metric, label)
            figures.append(Figure(name=f"{metric}_{stem}", caption=caption, plot=plot, runs=own))
    return figures


def _caption(choices: Sequence[Choice], metric: str, label: str) -> str:
    """Return what a metric's figure shows, whose values do not compare in it, and which arms it lacks."""
    few = any(0 < len(choice.by_seed(metric)) < MIN_SEEDS for choice in choices)
    text = f"{label[0].upper()}{label[1:]} by arm: mean with its 95% interval over seeds"
    text += f" where there are {MIN_SEEDS}; points: seeds." if few else "; points: seeds."
    groups = comparable(choices, metric)
    if len(groups) > 1:
        text += (
            " A panel for each number of runs that shared the machine, whose speeds do not compare: a run that shares "
            "it is slower than alone, by how much depends on what runs beside it."
        )
    elif max(next(iter(groups)), default=1) > 1:
        text += (
            " Lower limits: runs shared the machine with others, and how much slower that made them depends on those."
        )
    text += _hollow(choices)
    if lacking := [choice.runs.arm for choice in choices if not choice.by_seed(metric)]:
        text += f" Not measured in the runs shown: {numbers.names(lacking)}."
    return text


def _hollow(choices: Sequence[Choice]) -> str:
    """Return what hollow marks mean, where arms of these have any."""
    styles = arm_styles([(choice.runs.arch, choice.runs.table) for choice in choices if choice.chosen])
    return " Hollow: a standard parametrization." if any(hollow for _, hollow in styles) else ""
