"""The summary: what was run, on what, what was matched, what was found, what a reader must know."""

from collections import Counter
from collections.abc import Iterable

from gdnbench.presets.schema import Preset, is_task
from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Section, Text
from gdnbench.report.cost import Spent
from gdnbench.report.sections.findings import findings
from gdnbench.report.sections.warnings import warnings
from gdnbench.report.study import Study
from gdnbench.report.tables.ledger import verdict_table
from gdnbench.report.tables.left import has_left
from gdnbench.report.verdicts import Ruling
from gdnbench.results import Record


def summary(analysis: Analysis) -> Section:
    """Return section 1."""
    study = analysis.study
    blocks: list[Block] = [Text(text=about(preset, study)) for preset in study.presets if preset.about]
    blocks.append(Text(text=what_was_run(study)))
    if study.records:
        blocks.append(Text(text=f"{hardware(study.records)} {data(study.records)}"))
    blocks += [Text(text=text, runs=runs) for text, runs in matching(analysis)]
    if analysis.tests_claims:
        blocks.append(Text(text=verdict_counts(analysis)))
    if found := findings(analysis):
        blocks.append(Bullets(items=tuple(found)))
    blocks += warnings(analysis)
    untested = [verdict.claim for verdict in analysis.verdicts if verdict.card is None]
    if len(untested) < len(analysis.verdicts):
        blocks.append(verdict_table(analysis.verdicts))
    if untested and analysis.tests_claims:
        blocks.append(Text(text=f"No experiment of this set tests {numbers.listed(untested)}."))
    return Section(anchor="summary", title="1. Summary", blocks=blocks)


def about(preset: Preset, study: Study) -> str:
    """Return what a preset is for, said to be a plan while some of it is left to run."""
    return f"{'Planned: ' if has_left(study, preset) else ''}{preset.about}"


def what_was_run(study: Study) -> str:
    """Return the sentence on the number of runs, their outcome and their time."""
    if not study.records:
        return f"The set {study.name} holds no finished run yet; every number below is missing for that reason."
    diverged = sum(record.outcome == "diverged" for record in study.records)
    hours = sum(record.duration_s for record in study.records) / 3600
    shared = Spent(records=study.records).device_hours
    names = [experiment.name for experiment in study.experiments if study.of_experiment(experiment.name)]
    ending = f"{diverged} of them diverged" if diverged else "none of them diverged"
    runs = numbers.plural(len(study.records), "run")
    where = f"{numbers.plural(len(names), 'experiment')} ({numbers.listed(names)})"
    beside = "" if shared == hours else f", {_time(shared)} of the machine, which several shared at a time"
    return (
        f"The set {study.title} holds {runs} of {where}; {ending}. Together they took {_time(hours)} of work{beside}."
    )


def hardware(records: Iterable[Record]) -> str:
    """Return the sentence on devices, workers, versions and commits."""
    environments = [record.environment for record in records]
    devices = sorted({_device(environment) for environment in environments})
    torch = sorted({str(environment.get("versions", {}).get("torch", "unknown")) for environment in environments})
    commits = sorted({str(environment.get("commit") or "unknown")[:10] for environment in environments})
    return (
        f"Hardware: {numbers.listed(devices)}. Software: torch {numbers.listed(torch)}, "
        f"gdnbench at {'commit' if len(commits) == 1 else 'commits'} {numbers.listed(commits)}."
    )


def data(records: Iterable[Record]) -> str:
    """Return the sentence on corpora and tokenizers with their hashes."""
    texts, tasks = set(), set()
    for record in records:
        name = f"{record.spec['data']['corpus']} (hash {_short(record.data.get('corpus_hash'))})"
        if is_task(name):
            tasks.add(name)
        else:
            tokenizer = f"{record.spec['data']['tokenizer']} (hash {_short(record.data.get('tokenizer_hash'))})"
            texts.add(f"{name} with the tokenizer {tokenizer}")
    found = {"Text": texts, "Tasks": tasks}
    return " ".join(f"{kind}: {numbers.listed(sorted(names))}." for kind, names in found.items() if names)


def matching(analysis: Analysis) -> list[tuple[str, tuple[str, ...]]]:
    """Return a sentence a comparison on what was matched and how closely, with its runs."""
    sentences = []
    for experiment, choices in analysis.comparisons:
        rule = experiment.match
        if rule is None or not any(choice.runs.records for choice in choices):
            continue
        off = {choice.runs.arm: choice.first("match_deviation") for choice in choices}
        known = {arm: value for arm, value in off.items() if value is not None}
        runs = tuple(run for choice in choices for run in choice.run_ids)
        start = f"In {experiment.name}, arms are matched by {rule.by.replace('_', ' ')} to {rule.reference}"
        if not known:
            sentences.append((f"{start}; how closely is not measured in this set.", runs))
            continue
        worst = max(known, key=lambda arm: abs(known[arm]))
        within = "within" if abs(known[worst]) <= rule.tolerance else "beyond"
        sentences.append(
            (
                f"{start}: the largest deviation is {numbers.number(100 * abs(known[worst]), 2)}% ({worst}), {within} "
                f"the tolerance of {rule.tolerance:.1%}.",
                runs,
            )
        )
    return sentences


def verdict_counts(analysis: Analysis) -> str:
    """Return the sentence that counts verdicts over claims."""
    order: tuple[Ruling, ...] = ("reproduced", "not reproduced", "partly", "undecided", "pending", "not testable here")
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    claims = len({verdict.claim for verdict in analysis.verdicts})
    shown = [f"{counts[name]} {name}" for name in order if counts[name]]
    tests = len(analysis.verdicts)
    extra = f" ({tests} verdicts: some claims have several tests)" if tests != claims else ""
    return f"Of {claims} claims{extra}: {numbers.listed(shown)}."


def _time(hours: float) -> str:
    return f"{numbers.significant(hours)} hours" if hours >= 1 else f"{numbers.significant(60 * hours)} minutes"


def _device(environment: object) -> str:
    info: dict[str, object] = dict(environment)  # type: ignore[call-overload]
    device, name = str(info.get("device", "unknown device")), str(info.get("cpu") or "")
    shown = f"{device} ({name})" if device == "cpu" and name else device
    workers, threads = info.get("workers"), info.get("threads")
    parts = [numbers.at_a_time([int(str(workers))]) if workers else ""]
    parts += [f"{threads} threads a run" if threads and threads != 1 else "one thread a run" if threads else ""]
    detail = ", ".join(part for part in parts if part)
    return f"{shown}, {detail}" if detail else shown


def _short(digest: object) -> str:
    return str(digest)[:10] if digest else "unknown"
