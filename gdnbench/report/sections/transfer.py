"""Learning-rate transfer: a figure an architecture, the verdict in words, the tables."""

from gdnbench.presets.schema import Experiment
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Section, Text
from gdnbench.report.figures.lr_transfer import lr_transfer
from gdnbench.report.sections.findings import transfer_sentence
from gdnbench.report.tables.transfer import drift_table, optima_table
from gdnbench.report.transfer import Transfer

METHOD = (
    "The base learning rate is swept at every width. If a parametrization transfers it, the minima of the curves lie "
    "below one another; if not, they move by so many octaves (factors of 2) each time the width doubles."
)


def transfer(analysis: Analysis) -> Section:
    """Return section 3."""
    sweeps = [(experiment, transfers) for experiment, transfers in analysis.sweeps if transfers]
    title = "3. Learning-rate transfer"
    if not sweeps:
        nothing = Text(text="This set holds no run of a learning-rate sweep, so transfer is not measured in this set.")
        return Section(anchor="transfer", title=title, blocks=(nothing,))
    figures = [figure for experiment, transfers in sweeps for figure in _figures(experiment, transfers)]
    pairs = [(experiment.name, fitted) for experiment, transfers in sweeps for fitted in transfers]
    blocks: list[Block] = [Text(text=METHOD), Figures(figures=tuple(figures))]
    blocks.append(Bullets(items=tuple(transfer_sentence(fitted) for _, fitted in pairs)))
    blocks += [drift_table(pairs), optima_table(pairs)]
    return Section(anchor="transfer", title=title, blocks=blocks)


def _figures(experiment: Experiment, transfers: tuple[Transfer, ...]) -> list[Figure]:
    """Return a figure for each architecture of an experiment."""
    figures = []
    for arch in dict.fromkeys(fitted.runs.arch for fitted in transfers):
        shown = [fitted for fitted in transfers if fitted.runs.arch == arch and fitted.curves]
        if not shown:
            continue
        runs = sorted({run for fitted in shown for run in fitted.runs.run_ids})
        caption = (
            f"{experiment.title or experiment.name}: validation loss over base learning rate; the numbers at the lines "
            "are widths. Points: "
            "runs; lines: mean over seeds; diamonds: fitted optimum with its 95% interval over seeds where there are "
            "3; crosses at the top: diverged."
        )
        name = f"lr_transfer_{experiment.name}_{arch}".replace("-", "_")
        figures.append(Figure(name=name, caption=caption, plot=lr_transfer(shown), runs=tuple(runs)))
    return figures
