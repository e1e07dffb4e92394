"""What a reader must not miss: mixed code, changed trees, diverged runs, edges, gaps, crowded timings."""

from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Notice
from gdnbench.report.sections.findings import control_notice
from gdnbench.report.study import Study
from gdnbench.report.tables.left import left_table
from gdnbench.words import are


def warnings(analysis: Analysis) -> list[Block]:
    """Return one notice for each thing that qualifies the page's numbers."""
    study = analysis.study
    texts = [text for e, transfers in analysis.sweeps for text in control_notice(e.name, transfers)]
    texts += missing_parts(study)
    texts += provenance(study)
    texts += edges(analysis)
    texts += crowded(study)
    texts += diverged(study)
    texts += [f"Damaged and not used: {problem}." for problem in study.damaged]
    texts += noted(study)
    return [Notice(text=text) for text in texts]


def left(study: Study) -> list[str]:
    """Return that the set is not all of its presets, with where to find what is left."""
    table = left_table(study)
    if table is None:
        return []
    todo, more, hours = (sum(float(row.cells[place].value or 0) for row in table.rows) for place in (2, 3, 4))
    follow = f" and about {more:.0f} that follow from their losses" if more else ""
    return [
        f"This set is not complete: {numbers.plural(int(todo), 'run')}{follow} {are(int(todo + more))} left, about "
        f"{numbers.significant(hours, 2)} hours of work; a table below lists them with their commands."
    ]


def missing_parts(study: Study) -> list[str]:
    """Return what the presets plan and the set does not hold."""
    texts = left(study)
    if not study.presets:
        texts.append("The set has no snapshot of a preset: experiments are inferred from records, no claim is tested.")
    empty = [experiment.name for experiment in study.experiments if not study.of_experiment(experiment.name)]
    if empty:
        noun, have = ("experiment", "has") if len(empty) == 1 else ("experiments", "have")
        texts.append(f"The {noun} {numbers.listed(empty)} {have} no run in this set.")
    for experiment in study.experiments:
        if experiment.name in empty:
            continue
        arms = study.arms(experiment)
        if absent := [runs.arm for runs in arms if not runs.records]:
            have = "has" if len(absent) == 1 else "have"
            texts.append(f"In {experiment.name}, {numbers.names(absent)} {have} no run in this set.")
        if sharing := [runs.arm for runs in arms if runs.records and not runs.own]:
            share = "shares" if len(sharing) == 1 else "share"
            texts.append(
                f"In {experiment.name}, {numbers.names(sharing)} only {share} the base width's runs with another arm."
            )
    return texts


def provenance(study: Study) -> list[str]:
    """Return whether records come from several states of the code."""
    texts = []
    # A digest covers the mixers that a run uses, so digests are compared between runs of one architecture.
    archs = {(record.spec["model"]["arch"], record.spec["model"]["pattern"]) for record in study.records}
    for arch in sorted(archs):
        same = [r for r in study.records if (r.spec["model"]["arch"], r.spec["model"]["pattern"]) == arch]
        digests = sorted({record.source_digest[:10] for record in same})
        if len(digests) > 1:
            texts.append(
                f"The runs of {arch[0]} come from {len(digests)} source digests ({', '.join(digests)}): the code that "
                "determines their numbers differs between them."
            )
    if study.left_out:
        texts.append(
            f"{numbers.plural(len(study.left_out), 'stored run')} of this set belong to an earlier form of its presets "
            "and are left out of this page."
        )
    commits = sorted({record.commit for record in study.records})
    if len(commits) > 1:
        texts.append(f"The runs come from {len(commits)} commits ({', '.join(commits)}).")
    dirty = sum(bool(record.environment.get("dirty")) for record in study.records)
    if dirty:
        texts.append(f"{numbers.plural(dirty, 'run')} of {len(study.records)} had uncommitted changes in the tree.")
    return texts


def edges(analysis: Analysis) -> list[str]:
    """Return arms whose best learning rate lies at the edge of what was tried."""
    found: dict[str, list[str]] = {}
    for experiment, transfers in (*analysis.sweeps, *analysis.continued):
        for transfer in transfers:
            widths = [str(width) for width, curve in transfer.curves.items() if "edge" in curve.optimum.flags]
            if widths:
                found.setdefault(experiment.name, []).append(f"{transfer.runs.arm} at width {numbers.listed(widths)}")
    texts = [
        f"In {name}, the best rate is at the edge of those that have run, and the true optimum may lie beyond it, so "
        f"none is fitted: {'; '.join(arms)}."
        for name, arms in found.items()
    ]
    for experiment, choices in analysis.comparisons:
        if at_edge := [choice.runs.arm for choice in choices if choice.edge]:
            texts.append(f"In {experiment.name}, the chosen rate is at the edge of those tried: {', '.join(at_edge)}.")
    for task in analysis.tasks:
        chosen = [(arm.runs.arm, width, choice) for arm in task.arms for width, choice in arm.by_width.items()]
        if names := [f"{arm} at width {width}" for arm, width, choice in chosen if choice.edge]:
            where = f"In {task.experiment.name}, the chosen rate is at the edge of those tried"
            texts.append(f"{where}: {'; '.join(names)}.")
    return texts


def crowded(study: Study) -> list[str]:
    """Return whether speeds were measured while other runs shared the machine."""
    timed = [record for record in study.records if record.metric("tokens_per_s") is not None]
    others = max((record.at_once for record in timed), default=1) - 1
    if not others:
        return []
    number = sum(record.at_once > 1 for record in timed)
    return [
        f"{number} of {numbers.plural(len(timed), 'run')} with a speed shared the machine with up to "
        f"{numbers.plural(others, 'other')} at the same time: their tokens/s are lower limits."
    ]


def diverged(study: Study) -> list[str]:
    """Return which arms had runs that diverged."""
    gone = [record for record in study.records if record.outcome == "diverged"]
    if not gone:
        return []
    arms: dict[str, set[str]] = {}
    for record in gone:
        arms.setdefault(record.spec["experiment"], set()).add(record.spec["arm"])
    counts = "counts" if len(gone) == 1 else "count"
    where = "; ".join(f"{numbers.listed(sorted(names))} in {experiment}" for experiment, names in sorted(arms.items()))
    return [f"{numbers.plural(len(gone), 'run')} diverged and {counts} as no loss: {where}."]


def noted(study: Study) -> list[str]:
    """Return what the records note of themselves; a note that several runs have is one line."""
    runs: dict[str, list[str]] = {}
    for run_id, note in sorted({(record.run_id, note) for record in study.records for note in record.notes}):
        runs.setdefault(note, []).append(run_id)
    return [
        f"{ids[0] if len(ids) == 1 else f'{len(ids):,} runs (the first: {ids[0]})'}: {note}"
        for note, ids in runs.items()
    ]
