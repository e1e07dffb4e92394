"""Studies: the presets, what one runs, running it, and its report and records."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import (
    ReportsOption,
    ResultsOption,
    Selected,
    chooses_preset,
)
from gdnbench.cli.output import render_report
from gdnbench.errors import GdnbenchError
from gdnbench.words import plural


class ChangedCode(StrEnum):
    """What to do with a checkpoint that other source files wrote."""

    REFUSE = "refuse"
    ACCEPT = "accept"
    RESTART = "restart"


def presets() -> None:
    """List the presets."""
    from gdnbench.presets import load_preset, preset_names

    for name in preset_names():
        preset = load_preset(name)
        print(f"{name:16} [{preset.suits}] {preset.about.strip()}")


@chooses_preset
def plan(
    selected: Selected,
    as_json: Annotated[bool, typer.Option("--json", help="print all run specifications as JSON")] = False,
) -> None:
    """Print what a preset runs, with the expected time and memory; run nothing."""
    from gdnbench import launch
    from gdnbench.configuration import to_mapping

    outlook = launch.outlook(selected.chosen, selected.results, selected.set, selected.workers, selected.only)
    if as_json:
        print(json.dumps([{"run_id": s.run_id, **to_mapping(s)} for s in outlook.runs], indent=1))
        return
    for line in outlook.lines():
        print(line)


@chooses_preset
def reproduce(
    selected: Selected,
    reports: ReportsOption = Path("reports"),
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="stop after so long; what is most important is run first")
    ] = None,
    whole_runs: Annotated[
        bool, typer.Option("--whole-runs", help="with --max-minutes: start no run that is expected to take longer")
    ] = False,
    allow_epochs: Annotated[
        float | None, typer.Option(min=0, help="how often a run may see its corpus, in place of the preset's limit")
    ] = None,
    deterministic: Annotated[bool, typer.Option(help="refuse operations that could differ between runs")] = False,
    changed_code: Annotated[ChangedCode, typer.Option(help="a checkpoint of other source files")] = ChangedCode.REFUSE,
    report: Annotated[bool, typer.Option(help="render the report afterwards")] = True,
) -> None:
    """Run what is missing of a preset and render its report; call it again to go on after an interruption."""
    from rich.console import Console

    from gdnbench import launch
    from gdnbench.runs.limit import TimeLimit

    if whole_runs and max_minutes is None:
        raise GdnbenchError("--whole-runs goes with --max-minutes")
    limit = None if max_minutes is None else TimeLimit(seconds=60 * max_minutes, whole=whole_runs)
    chosen, name = launch.repeating(selected.chosen, allow_epochs), selected.set
    launch.check_machine(chosen)
    hint = launch.better_preset(chosen.preset)
    if hint:
        print(hint)
    for line in launch.outlook(chosen, selected.results, name, selected.workers, selected.only).summary(limit):
        print(line, flush=True)
    summary = launch.run(
        chosen,
        selected.results,
        name,
        workers=selected.workers,
        deterministic=deterministic,
        changed_code=changed_code.value,
        mixers=selected.mixers,
        limit=limit,
        only=selected.only,
        console=Console(),
    )
    print(f"{plural(len(summary.stored), 'run')} stored in {selected.results / name}")
    if summary.left and not summary.failed:
        print(launch.left_line(summary, limit, ["gdnbench", *sys.argv[1:]]))
    if report:
        render_report(selected.results, reports, name)
    if summary.failed:
        raise GdnbenchError(
            f"{plural(len(summary.failed), 'run')} failed: {', '.join(summary.failed)}; run the same command again"
        )


def report(
    sets: Annotated[list[str], typer.Argument(metavar="SET", help="names of result sets")],
    name: Annotated[str, typer.Option(help="name of the page: the set's own unless given; several sets need one")] = "",
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
    readme: Annotated[Path | None, typer.Option(help="write its table of timings into this file, too")] = None,
) -> None:
    """Render the report of a result set, or of several on one page, from the stored records."""
    if len(set(sets)) > 1 and not name:
        raise GdnbenchError(f"report: {' and '.join(sets)} on one page need a name for it: --name NAME")
    render_report(results, reports, *sets, name=name)
    if readme is not None:
        from gdnbench.report.readme import update_readme
        from gdnbench.results.store import open_set

        update_readme(readme, [record for each in sets for record in open_set(results, each).records()])


def results(
    set_name: Annotated[str, typer.Argument(metavar="SET", help="name of a result set")],
    folder: ResultsOption = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="a JSON array of flat objects (the default)")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="a CSV table")] = False,
) -> None:
    """Export all records of a set as flat objects: `pandas.read_json` or `read_csv` takes them."""
    from gdnbench.results.export import to_csv, to_json
    from gdnbench.results.store import open_set

    if as_json and as_csv:
        raise GdnbenchError("results: --json and --csv exclude each other")
    store = open_set(folder, set_name)
    print((to_csv if as_csv else to_json)(store.records()), end="")
    for line in store.damaged:
        print(line, file=sys.stderr)
