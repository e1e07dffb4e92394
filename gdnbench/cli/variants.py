"""Mixers of one's own: a start, what is wrong with one, and a comparison with baselines."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import (
    AlsoOption,
    BackendOption,
    CorpusOption,
    DeviceOption,
    ReportsOption,
    ResultsOption,
    TokenizerOption,
    WorkersOption,
    words,
)
from gdnbench.cli.output import progress, render_report
from gdnbench.errors import GdnbenchError


def new_mixer(
    name: Annotated[str, typer.Argument(help="name of the mixer and of its file: small letters, digits, _")],
    folder: Annotated[Path, typer.Option(help="where the files are written")] = Path(),
) -> None:
    """Write a mixer that works, to start from, and its test."""
    from gdnbench.check.new import new_mixer as write

    paths = write(name, folder)
    print(f"written: {', '.join(map(str, paths))}; check it: gdnbench check {paths[0]}")


def check(
    mixer: Annotated[str, typer.Argument(metavar="FILE", help="file with a mixer of your own, or a mixer's name")],
    base_width: Annotated[
        int, typer.Option(min=1, help="width at which its constants hold; checked at twice that")
    ] = 32,
    options: Annotated[str, typer.Option(help="fields of its Options as YAML, such as '{heads: 2}'")] = "{}",
    only: Annotated[str, typer.Option(help="names of checks, separated by commas; default: all")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print all findings as JSON")] = False,
) -> None:
    """Say what is wrong with a mixer: causality, steps, state, gradients, sizes, roles, types, devices, stability.

    Exit code 1: something is.
    """
    import yaml

    from gdnbench.check import check as look

    given = yaml.safe_load(options)
    if not isinstance(given, dict):
        raise GdnbenchError(f"--options {options!r}: expected a mapping, such as '{{heads: 2}}'")
    report = look(Path(mixer), base_width=base_width, options=given, only=words(only))
    print(report.as_json() if as_json else "\n".join(report.lines()))
    raise typer.Exit(1 if report.failed else 0)


def compare(
    mixers: Annotated[list[str], typer.Argument(metavar="FILE...", help="files with mixers of your own, or names")],
    against: Annotated[str, typer.Option(help="baselines, separated by commas")] = "transformer,gdn",
    budget: Annotated[
        str | None, typer.Option(help="a preset's size, tokens, or both: quick, 15M, quick:500k; default: the device's")
    ] = None,
    table: Annotated[str, typer.Option(help="parametrization table of your mixers")] = "mup_derived",
    seeds: Annotated[int | None, typer.Option(min=1, help="number of seeds; default: the preset's")] = None,
    max_hours: Annotated[float, typer.Option(min=0, help="ask before more expected hours than this")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="compare in spite of what `gdnbench check` finds")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="stop after so long; the same command goes on")
    ] = None,
    allow_epochs: Annotated[
        float | None, typer.Option(min=0, help="how often a run may see its corpus, in place of the preset's limit")
    ] = None,
    device: DeviceOption = None,
    corpus: CorpusOption = None,
    also: AlsoOption = [],
    tokenizer: TokenizerOption = None,
    backend: BackendOption = None,
    mixer_backend: Annotated[str | None, typer.Option(help="of your mixers' operations alone, such as kda=fla")] = None,
    workers: WorkersOption = None,
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
) -> None:
    """Compare mixers of your own with baselines on one budget: check, train, evaluate, measure, and render a page.

    Runs that another result set holds, made by the same code on the same data and device, are reused. Exit code 1: a
    mixer was left out or failed; the comparison of the others went on.
    """
    from rich.console import Console

    from gdnbench import compare as comparing
    from gdnbench import launch
    from gdnbench.runs.limit import TimeLimit

    asked = comparing.Asked(
        mixers=tuple(mixers),
        against=tuple(words(against)),
        budget=budget,
        table=table,
        seeds=seeds,
        backend=mixer_backend,
        overrides={"device": device, "corpus": corpus, "tokenizer": tokenizer, "backend": backend, "also": also},
        allow_epochs=allow_epochs,
    )
    prepared = comparing.prepared(asked, results, look=not anyway, say=progress)
    outlook = prepared.outlook(workers)
    for line in [*prepared.reused, *outlook.summary()]:
        print(line, flush=True)
    if (hours := comparing.hours(outlook)) > max_hours and not yes:
        question = f"about {hours:.1f} hours are more than --max-hours {max_hours:g}; go on?"
        if not sys.stdin.isatty():
            raise GdnbenchError(f"{question} Nobody is here to ask: --yes goes on")
        if not typer.confirm(question):
            print("nothing was run")
            raise typer.Exit(1)
    limit = None if max_minutes is None else TimeLimit(seconds=60 * max_minutes)
    summary = prepared.run(workers, limit=limit, console=Console())
    if summary.left and not summary.failed:
        print(launch.left_line(summary, limit, ["gdnbench", *sys.argv[1:]]))
    render_report(results, reports, prepared.chosen.set)
    if wrong := [*prepared.left_out(), *summary.failed]:
        print(f"left out or failed: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(1)
