"""Coordinate checks, comparisons, generation."""

from gdnbench.report.activations import CoordinateCheck
from gdnbench.report.analysis import Analysis
from gdnbench.report.content import Block, Bullets, Figure, Figures, Heading, Section, Text
from gdnbench.report.figures.coordinates import size_lines, slope_dots
from gdnbench.report.figures.decode import decode_lines
from gdnbench.report.sections.comparison import comparison_blocks
from gdnbench.report.sections.findings import coordinate_summary
from gdnbench.report.tables.coordinates import slopes_table
from gdnbench.report.tables.decode import decode_table
from gdnbench.report.tables.evaluations import evaluations_table
from gdnbench.report.tables.lm_eval import harness_table


def measures(analysis: Analysis) -> Section:
    """Return section 4."""
    blocks: list[Block] = [Heading(text="Coordinate check"), *_coordinates(analysis)]
    blocks += [Heading(text="Comparison at a matched budget"), *comparison_blocks(analysis)]
    blocks += [Heading(text="Generation"), *_decodes(analysis)]
    if evaluations := evaluations_table(analysis.study):
        blocks += [Heading(text="Evaluation on other text"), evaluations]
    if tasks := harness_table(analysis.study):
        blocks += [Heading(text="Evaluation by tasks of lm-eval"), tasks]
    return Section(anchor="measures", title="4. Activations, training, generation", blocks=blocks)


def _coordinates(analysis: Analysis) -> list[Block]:
    checks = [check for _, found in analysis.checks for check in found if check.slopes]
    if not checks:
        return [Text(text="This set holds no coordinate check, so sizes of activations are not measured in this set.")]
    figures: list[Figure] = []
    for arch in dict.fromkeys(check.runs.arch for check in checks):
        figures += _coordinate_figures(arch, [check for check in checks if check.runs.arch == arch])
    sentences = [sentence for _, found in analysis.checks for sentence in coordinate_summary(found)]
    return [Figures(figures=tuple(figures)), Bullets(items=tuple(sentences)), slopes_table(checks)]


def _coordinate_figures(arch: str, checks: list[CoordinateCheck]) -> list[Figure]:
    runs = tuple(sorted({run for check in checks for run in check.runs.run_ids}))
    sizes = (
        "Coordinate check: root mean square of activations of the last block over width, and of their change after the "
        "last step; geometric mean over seeds."
    )
    slopes = (
        "Slopes of the same over width, with 95% interval over seeds where there are 3. Band: ±0.2, where μP must be; "
        "hollow: standard parametrization; grey: shown, not judged."
    )
    return [
        Figure(name=f"coordinates_{arch}", caption=sizes, plot=size_lines(checks), runs=runs),
        Figure(name=f"coordinate_slopes_{arch}", caption=slopes, plot=slope_dots(checks), runs=runs),
    ]


def _decodes(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    for experiment, arms in analysis.decodes:
        if not arms:
            continue
        runs = tuple(sorted({run for arm in arms for run in arm.run_ids}))
        stem = experiment.name.replace("-", "_")
        speed = decode_lines(arms, "tokens_per_s", "tokens/s")
        state = decode_lines(arms, "state_bytes", "state of one sequence")
        blocks.append(
            Figures(
                figures=(
                    Figure(name=f"speed_{stem}", caption="Generation speed over context.", plot=speed, runs=runs),
                    Figure(name=f"state_{stem}", caption="State over context.", plot=state, runs=runs),
                )
            )
        )
        blocks.append(decode_table(arms))
    return blocks or [Text(text="This set holds no run of generation, so its speed is not measured in this set.")]
