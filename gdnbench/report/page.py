"""The page of a set: its sections in order, as content."""

import dataclasses
from collections.abc import Sequence

from gdnbench.errors import GdnbenchError
from gdnbench.report import numbers
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Page, Section
from gdnbench.report.sections.article import article
from gdnbench.report.sections.generation import generation_sections
from gdnbench.report.sections.kernels import kernel_sections
from gdnbench.report.sections.ledger import ledger
from gdnbench.report.sections.measures import measures
from gdnbench.report.sections.reproduce import appendix, reproduce
from gdnbench.report.sections.speeds import speed_sections
from gdnbench.report.sections.summary import summary
from gdnbench.report.sections.tasks import tasks
from gdnbench.report.sections.transfer import transfer
from gdnbench.report.sections.variants import about_variants, variants
from gdnbench.report.study import Study


def build_page(analysis: Analysis, command: str) -> Page:
    """Return the content of the report of an analysed set."""
    study = analysis.study
    if not study.records and (study.kernels or study.speeds or study.generations):
        return _timing_page(study, command)
    title = " and ".join(dict.fromkeys(preset.title for preset in study.presets)) or f"Report of the set {study.name}"
    if about := about_variants(study):
        sections: tuple[Section, ...] = (variants(analysis, about), measures(analysis), reproduce(analysis, command))
        return Page(
            title=title,
            subtitle=f"Variants and baselines on one budget, in the set {study.name}",
            sections=(*_numbered(sections), appendix(analysis)),
        )
    on_tasks = tasks(analysis)
    if on_tasks is not None and not analysis.tests_claims:
        sections = (summary(analysis), on_tasks, measures(analysis), reproduce(analysis, command))
        return Page(
            title=title,
            subtitle=f"Tasks on which linear models and Transformers are known to differ, in the set {study.name}",
            sections=(*_numbered(sections), appendix(analysis)),
        )
    sections = (
        summary(analysis),
        article(analysis),
        transfer(analysis),
        measures(analysis),
        *filter(None, [on_tasks]),
        ledger(analysis),
        reproduce(analysis, command),
    )
    return Page(
        title=title,
        subtitle=f"Claims of arXiv 2606.04048 (Liu, Gu) and of the article on it, tested in the set {study.title}",
        sections=(*_numbered(sections), appendix(analysis)),
    )


def _numbered(sections: Sequence[Section]) -> list[Section]:
    """Return sections with the numbers of their places on this page."""
    return [
        dataclasses.replace(section, title=f"{number}. {section.title.partition('. ')[2]}")
        for number, section in enumerate(sections, 1)
    ]


def _timing_page(study: Study, command: str) -> Page:
    """Return the page of a set of kernel timings, of training speeds or of speeds of generation."""
    devices = numbers.listed(sorted({str(record.environment.get("device")) for record in study.shown}))
    held = {"kernel timings": study.kernels, "training speeds": study.speeds, "speeds of generation": study.generations}
    kinds = [name for name, records in held.items() if records]
    if len(kinds) > 1:
        raise GdnbenchError(f"set {study.name} holds {numbers.listed(kinds)}; each needs a set of its own (--set)")
    if study.generations:
        return Page(
            title=f"Generation on {devices}",
            subtitle=f"Speed and memory of generation over batch and context, in the set {study.name}",
            sections=generation_sections(study, command),
        )
    if study.speeds:
        return Page(
            title=f"Training speed on {devices}",
            subtitle=f"Our training step beside what a user would pick instead, in the set {study.name}",
            sections=speed_sections(study, command),
        )
    return Page(
        title=f"Kernels on {devices}",
        subtitle=f"The gated delta rule beside what a user would pick instead, in the set {study.name}",
        sections=kernel_sections(study, command),
    )
