"""The page of a set of speeds of generation: what was found, the article's table, speed, memory, prompts."""

from gdnbench.report import numbers
from gdnbench.report.content import Block, Bullets, Figure, Figures, Section, Text
from gdnbench.report.figures import generation as figures
from gdnbench.report.generation import Grid, grid, ratio
from gdnbench.report.sections.timings import held, qualified, reproduction
from gdnbench.report.speeds import OURS
from gdnbench.report.study import Study
from gdnbench.report.tables.generation import (
    generation_runs_table,
    generation_table,
    inference_claims_table,
    prefill_table,
)
from gdnbench.report.tables.kernels import ratio_text
from gdnbench.report.tables.ledger import ledger_table
from gdnbench.report.verdicts import Verdict
from gdnbench.report.verdicts.inference import cards, inference

NOUN = "generation timing"


def generation_sections(study: Study, command: str) -> tuple[Section, ...]:
    """Return the sections of a set that holds speeds of generation."""
    found = grid(study.generations, study.rows)
    verdicts = tuple(inference(card, study) for card in cards(study.name))
    measured = f"gdnbench bench decode --set {study.name}"
    return (
        Section(anchor="summary", title="1. Summary", blocks=_summary(study, found)),
        Section(
            anchor="article", title="2. The article's table, claimed beside measured", blocks=_article(found, verdicts)
        ),
        Section(anchor="speed", title="3. Speed and memory over batch and context", blocks=_speed(found)),
        Section(anchor="prompts", title="4. Prompts", blocks=_prompts(found)),
        reproduction(5, study, study.generations, command, measured),
        Section(anchor="runs", title=f"Appendix: {NOUN}s", blocks=(generation_runs_table(study.generations),)),
    )


def _summary(study: Study, found: Grid) -> list[Block]:
    blocks: list[Block] = [held(study, study.generations, NOUN)]
    if found.stated is not None:
        sentences = [_finding(found, arch) for arch in found.archs]
        blocks.append(Bullets(items=tuple(filter(None, sentences))))
    return [*blocks, *qualified(study, study.generations, NOUN)]


def _finding(found: Grid, arch: str) -> str:
    """Return what an architecture does at the stated place, beside its floor and its peers; empty without a time."""
    assert found.stated is not None
    size, place = found.stated
    here = found.at(arch, size, place)
    if here is None or here.rate is None:
        return ""
    share = "" if here.of_floor is None else f", {numbers.number(100 * here.of_floor, 0)}% of its floor"
    peers = [g for g in found.found if (g.model, g.place) == (here.model, place) and not g.impl.startswith(OURS)]
    beside = []
    for peer in peers:
        over = ratio(here, peer) if peer.rate is not None and found.same_work(peer) is here else None
        beside += [] if over is None else [f"{ratio_text(over)} times {peer.impl}"]
    tail = f"; {numbers.listed(beside)}" if beside else ""
    return (
        f"{arch} ({here.model[1]}), {size}, {here.where}: {numbers.number(here.rate, 0)} tokens/s{share}, "
        f"{numbers.number(here.memory_gb or 0, 2)} GB while generating{tail}."
    )


def _article(found: Grid, verdicts: tuple[Verdict, ...]) -> list[Block]:
    if found.stated is None:
        return [Text(text="This set holds no speed of our own engine.")]
    return [
        Text(
            text="The article (AI news page, June 2026) gives one number of tokens/s and one of memory by architecture "
            "and names no hardware, batch, context or precision. A ratio depends less on hardware than they do."
        ),
        inference_claims_table(found, verdicts),
        ledger_table(verdicts, "95% bootstrap intervals over timed stretches of the same run"),
    ]


def _speed(found: Grid) -> list[Block]:
    blocks: list[Block] = []
    for size in found.sizes:
        runs = tuple(sorted(g.record.run_id for arch in found.archs for g in found.ours(arch, size)))
        if not any(g.rate is not None for arch in found.archs for g in found.ours(arch, size)):
            continue
        stem = size.replace(".", "_")
        blocks.append(
            Figures(
                figures=(
                    Figure(
                        name=f"generation_speed_{stem}",
                        caption=f"Tokens per second over context, models of {size}, all rows of a batch together. "
                        "Dashed: the floor. A line ends where the device's memory does.",
                        plot=figures.throughput(found, size),
                        runs=runs,
                    ),
                    Figure(
                        name=f"generation_memory_{stem}",
                        caption=f"Peak memory while tokens are generated over context, models of {size}. Dashed: "
                        "weights and states or caches alone, also where they do not fit.",
                        plot=figures.memory(found, size),
                        runs=runs,
                    ),
                )
            )
        )
    return [*blocks, generation_table(found)]


def _prompts(found: Grid) -> list[Block]:
    if found.stated is None:
        return [Text(text="This set holds no speed of our own engine.")]
    size = found.stated[0]
    figure = Figure(
        name="prompts",
        caption=f"Prompt tokens per second of one row over context, models of {size}. Dashed: the matmul floor.",
        plot=figures.prompts(found, size),
        runs=tuple(sorted(g.record.run_id for g in found.found if g.place[0] == 1 and g.model[2] == size)),
    )
    return [Figures(figures=(figure,)), prefill_table(found)]
