"""Does an optimum hold beyond the runs it was found with: over the length of training, and in fine-tuning after it."""

from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Heading, Text
from gdnbench.report.figures.horizon import horizon_lines
from gdnbench.report.figures.lr_transfer import lr_transfer
from gdnbench.report.sections.findings import transfer_sentence
from gdnbench.report.sections.horizons import horizon_sentences
from gdnbench.report.tables.fine_tune import fine_tune_table
from gdnbench.report.tables.horizon import horizon_table
from gdnbench.report.verdicts.budget import budget


def horizon_blocks(analysis: Analysis) -> list[Block]:
    """Return what the set shows of the optimum over the length of training; nothing where it plans none."""
    if not analysis.horizons:
        return []
    blocks: list[Block] = [Heading(text="Over the length of training")]
    pairs = [(experiment.name, arm) for experiment, arms in analysis.horizons for arm in arms]
    if not pairs:
        return [*blocks, Text(text="No branch of a longer run is stored yet, so the horizon is not measured here.")]
    figures = []
    for experiment, arms in analysis.horizons:
        if arms:
            records = {record.run_id: record for arm in arms for record in arm.runs.records}
            caption = (
                f"{experiment.title or experiment.name}: fitted optimum over training tokens, a line a width, with its "
                f"95% interval over seeds where there are 3. {budget(list(records.values()))}."
            )
            name = f"horizon_{experiment.name}".replace("-", "_")
            figures.append(Figure(name=name, caption=caption, plot=horizon_lines(arms), runs=tuple(sorted(records))))
    sentences = [sentence for _, arm in pairs for sentence in horizon_sentences(arm)]
    return [*blocks, Figures(figures=tuple(figures)), Bullets(items=tuple(sentences)), horizon_table(pairs)]


def continued_blocks(analysis: Analysis) -> list[Block]:
    """Return what the set shows of learning rates in fine-tuning; nothing where it plans none."""
    if not analysis.continued:
        return []
    blocks: list[Block] = [Heading(text="After training: fine-tuning on another text")]
    found = [(experiment, fitted) for experiment, fitted in analysis.continued if fitted]
    if not found:
        return [*blocks, Text(text="No run of fine-tuning is stored yet, so it is not measured here.")]
    figures, sentences = [], []
    for experiment, fitted in found:
        records = {record.run_id: record for arm in fitted for record in arm.runs.records}
        caption = (
            f"{experiment.title or experiment.name}: validation loss on the new text over the base learning rate of "
            "fine-tuning, from weights trained before; marks as in the figures above. "
            f"{budget(list(records.values()))}."
        )
        name = f"fine_tune_{experiment.name}".replace("-", "_")
        figures.append(Figure(name=name, caption=caption, plot=lr_transfer(fitted), runs=tuple(sorted(records))))
        sentences += [f"Fine-tuning: {transfer_sentence(arm)}" for arm in fitted]
    before = [(experiment.name, arm) for experiment, arms in analysis.sweeps for arm in arms]
    after = [(experiment.name, arm) for experiment, arms in found for arm in arms]
    table = fine_tune_table(after, before)
    return [*blocks, Figures(figures=tuple(figures)), Bullets(items=tuple(sentences)), table]
