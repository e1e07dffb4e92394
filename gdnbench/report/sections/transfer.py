"""Learning-rate transfer: every arm's drift, a figure an architecture, the verdict in words, the tables."""

from collections.abc import Sequence

from gdnbench.presets.schema import Experiment
from gdnbench.report.activations import CoordinateCheck
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Heading, Section, Text
from gdnbench.report.figures.drift import drift_dots
from gdnbench.report.figures.lr_transfer import lr_transfer
from gdnbench.report.scaling import scalings
from gdnbench.report.sections.findings import transfer_sentence
from gdnbench.report.sections.lengths import continued_blocks, horizon_blocks
from gdnbench.report.sections.why import why_sentences
from gdnbench.report.tables.scaling import scaling_table
from gdnbench.report.tables.transfer import drift_table, optima_table
from gdnbench.report.transfer import Transfer
from gdnbench.report.verdicts.budget import budget
from gdnbench.report.verdicts.transfer import DRIFT_BOUND

METHOD = (
    "The base learning rate is swept at every width. If a parametrization transfers it, the minima of the curves lie "
    "below one another; if not, they move by so many octaves (factors of 2) each time the width doubles."
)
PANELS = 3  # of one figure; more go beside it
SEVERAL = 3  # arms from which on a figure of all drifts is worth its place

Sweeps = Sequence[tuple[Experiment, tuple[Transfer, ...]]]


def transfer(analysis: Analysis) -> Section:
    """Return section 3."""
    sweeps = [(experiment, fitted) for experiment, fitted in analysis.sweeps if fitted]
    title = "3. Learning-rate transfer"
    blocks: list[Block] = []
    if sweeps:
        blocks += [Text(text=METHOD), *_overview(sweeps)]
        checks = [check for _, found in analysis.checks for check in found]
        for experiment, fitted in sweeps:
            blocks += _experiment(experiment, fitted, checks)
        blocks += _tables(sweeps)
    else:
        nothing = "This set holds no run of a learning-rate sweep, so transfer is not measured in this set."
        blocks.append(Text(text=nothing))
    return Section(
        anchor="transfer", title=title, blocks=[*blocks, *horizon_blocks(analysis), *continued_blocks(analysis)]
    )


def _overview(sweeps: Sweeps) -> list[Block]:
    """Return the figure of all drifts, where there are several."""
    groups = [(e.title or e.name, [f for f in fitted if f.drift is not None]) for e, fitted in sweeps]
    groups = [(heading, arms) for heading, arms in groups if arms]
    if sum(len(arms) for _, arms in groups) < SEVERAL:
        return []
    runs = tuple(sorted({run for _, arms in groups for fitted in arms for run in fitted.runs.run_ids}))
    caption = (
        "Drift of the best learning rate over width, by arm: mean over seeds with its Student t 95% interval where "
        f"there are 3, pale where there are fewer; small points: seeds. Band: ±{DRIFT_BOUND}, where a rate counts as "
        "transferred if the whole interval lies in it. Hollow: standard parametrizations."
    )
    plot = drift_dots(groups, DRIFT_BOUND)
    return [Figures(figures=(Figure(name="lr_drift", caption=caption, plot=plot, runs=runs),))]


def _experiment(experiment: Experiment, fitted: tuple[Transfer, ...], checks: list[CoordinateCheck]) -> list[Block]:
    sentences = [*map(transfer_sentence, fitted), *why_sentences(fitted, checks)]
    return [
        Heading(text=experiment.title or experiment.name),
        Figures(figures=tuple(transfer_figures(experiment, fitted))),
        Bullets(items=tuple(sentences)),
    ]


def transfer_figures(experiment: Experiment, fitted: Sequence[Transfer]) -> list[Figure]:
    """Return the figures of each architecture of an experiment, with the budget in their captions."""
    figures = []
    for arch in dict.fromkeys(arm.runs.arch for arm in fitted):
        same = [arm for arm in fitted if arm.runs.arch == arch and arm.curves]
        parts = -(-len(same) // PANELS)
        for part in range(parts):
            # As equal as can be: 4 panels are 2 and 2.
            shown = same[part * len(same) // parts : (part + 1) * len(same) // parts]
            name = f"lr_transfer_{experiment.name}_{arch}{f'_{part + 1}' if parts > 1 else ''}"
            figures.append(_figure(name.replace("-", "_"), experiment, shown, same))
    return figures


def _figure(name: str, experiment: Experiment, shown: Sequence[Transfer], beside: Sequence[Transfer]) -> Figure:
    records = {record.run_id: record for arm in shown for record in arm.runs.records}
    is_open = any("edge" in curve.optimum.flags for arm in shown for curve in arm.curves.values())
    triangles = "; hollow triangles: the lowest loss is at the edge of what has run, no optimum" if is_open else ""
    gone = any(curve.diverged for arm in shown for curve in arm.curves.values())
    crosses = "; crosses at the top: diverged" if gone else ""
    caption = (
        f"{experiment.title or experiment.name}: validation loss over base learning rate; the numbers at the lines "
        "are widths. Points: "
        "runs; lines: mean over seeds; diamonds: fitted optimum with its 95% interval over seeds where there are "
        f"3{triangles}{crosses}. {budget(list(records.values()))}."
    )
    return Figure(name=name, caption=caption, plot=lr_transfer(shown, beside), runs=tuple(sorted(records)))


def _tables(sweeps: Sweeps) -> list[Block]:
    pairs = [(experiment.name, arm) for experiment, fitted in sweeps for arm in fitted]
    blocks: list[Block] = [Heading(text="All sweeps"), drift_table(pairs), optima_table(pairs)]
    metrics = []
    for experiment, fitted in sweeps:
        for arch in dict.fromkeys(arm.runs.arch for arm in fitted):
            same = [arm for arm in fitted if arm.runs.arch == arch]
            metrics += [(experiment.name, entry) for entry in scalings(same)]
    table = scaling_table(metrics)
    return blocks if table is None else [*blocks, table]
