"""The command ``gdnbench``: parses arguments, prints results and errors, and leaves the work to the packages."""

import json
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gdnbench.errors import GdnbenchError
from gdnbench.options import (
    AlsoOption,
    BackendOption,
    CorpusOption,
    DeviceOption,
    MixerOption,
    ReportsOption,
    ResultsOption,
    Selected,
    TokenizerOption,
    WorkersOption,
    chooses_preset,
)
from gdnbench.version import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Does this architecture really beat a Transformer, at what cost, and do its hyperparameters transfer?",
)

bench = typer.Typer(rich_markup_mode=None, help="Time parts of the suite on this machine.")
app.add_typer(bench, name="bench")
quality = typer.Typer(rich_markup_mode=None, help="Whether models still compute what they computed.")
app.add_typer(quality, name="quality")

# Typer carries its own copy of click, whose errors it does not export by name.
UsageProblem: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)

INTERRUPTED = 130  # the exit code of Ctrl-C, into which some versions of Typer turn it themselves


class ChangedCode(StrEnum):
    """What to do with a checkpoint that other source files wrote."""

    REFUSE = "refuse"
    ACCEPT = "accept"
    RESTART = "restart"


@app.command()
def presets() -> None:
    """List the presets."""
    from gdnbench.presets import load_preset, preset_names

    for name in preset_names():
        preset = load_preset(name)
        print(f"{name:16} [{preset.suits}] {preset.about.strip()}")


@app.command()
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


@app.command()
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
    print(f"{len(summary.stored)} runs stored in {selected.results / name}")
    if summary.left and not summary.failed:
        print(launch.left_line(summary, limit, ["gdnbench", *sys.argv[1:]]))
    if report:
        _render(selected.results, reports, name)
    if summary.failed:
        raise GdnbenchError(
            f"{len(summary.failed)} runs failed: {', '.join(summary.failed)}; run the same command again"
        )


@app.command()
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
    from gdnbench import compare as comparing
    from gdnbench import launch
    from gdnbench.runs.limit import TimeLimit

    asked = comparing.Asked(
        mixers=tuple(mixers),
        against=tuple(_words(against)),
        budget=budget,
        table=table,
        seeds=seeds,
        backend=mixer_backend,
        overrides={"device": device, "corpus": corpus, "tokenizer": tokenizer, "backend": backend, "also": also},
        allow_epochs=allow_epochs,
    )
    prepared = comparing.prepared(asked, results, look=not anyway, say=_progress)
    outlook = prepared.outlook(workers)
    for line in [*prepared.reused, *outlook.summary()]:
        print(line, flush=True)
    if (hours := comparing.hours(outlook)) > max_hours and not yes:
        question = f"about {hours:.1f} hours are more than --max-hours {max_hours:g}; go on?"
        if not sys.stdin.isatty():
            raise GdnbenchError(f"{question} Nobody is here to ask: --yes goes on")
        typer.confirm(question, abort=True)
    limit = None if max_minutes is None else TimeLimit(seconds=60 * max_minutes)
    summary = prepared.run(workers, limit=limit, console=Console())
    if summary.left and not summary.failed:
        print(launch.left_line(summary, limit, ["gdnbench", *sys.argv[1:]]))
    _render(results, reports, prepared.chosen.set)
    if wrong := [*prepared.left_out(), *summary.failed]:
        print(f"left out or failed: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def report(
    set_name: Annotated[str, typer.Argument(metavar="SET", help="name of a result set")],
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
    readme: Annotated[Path | None, typer.Option(help="write its table of timings into this file, too")] = None,
) -> None:
    """Render the report of a result set from its stored records."""
    _render(results, reports, set_name)
    if readme is not None:
        from gdnbench.report.readme import update_readme
        from gdnbench.results.store import open_set

        update_readme(readme, open_set(results, set_name).records())


@app.command()
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


@app.command("coord-check")
def coord_check(
    arch: Annotated[str, typer.Option(help="mixer name")] = "gdn",
    table: Annotated[str, typer.Option(help="parametrization table")] = "mup_gdn",
    switch: Annotated[list[str], typer.Option(help="name=choice; repeatable")] = [],
    widths: Annotated[str, typer.Option(help="widths, separated by commas")] = "64,128,256",
    base_width: Annotated[int, typer.Option(help="width at which the base constants hold")] = 64,
    geometry: Annotated[str, typer.Option(help="paper: head dims grow; fixed_head: heads grow")] = "paper",
    block: Annotated[str, typer.Option(help="controlled or native")] = "controlled",
    seeds: Annotated[int, typer.Option(help="number of seeds; fewer than 3 give no verdict")] = 5,
    after_steps: Annotated[str, typer.Option(help="steps after which sizes are taken")] = "1,4",
    lr: Annotated[float, typer.Option(help="base learning rate")] = 2.0**-7,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd")] = "adamw",
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    mixer: MixerOption = [],
    results: ResultsOption = Path("results"),
    set_name: Annotated[str, typer.Option("--set", help="name of the result set")] = "coord-check",
    workers: WorkersOption = None,
) -> None:
    """Check that activations and their updates keep their size over widths: slopes with intervals, and a verdict."""
    from gdnbench import launch

    _add_mixers(mixer)
    chosen = launch.coordinate_check(
        arch=arch,
        table=table,
        switches=dict(_pair(entry) for entry in switch),
        widths=_numbers("--widths", widths),
        base_width=base_width,
        geometry=geometry,
        block=block,
        seeds=seeds,
        after_steps=_numbers("--after-steps", after_steps),
        lr=lr,
        optimizer=optimizer,
        corpus=corpus,
        tokenizer=tokenizer,
        device=device,
        backend=backend,
    )
    launch.run(chosen, results, set_name, workers=workers, mixers=tuple(mixer), console=Console(stderr=True))
    for line in launch.coordinate_verdict(results, set_name, chosen):
        print(line)


@app.command()
def rules(
    table: Annotated[str | None, typer.Argument(help="parametrization table; none: all tables as Markdown")] = None,
    arch: Annotated[str, typer.Option(help="mixer name")] = "gdn",
    width: Annotated[int, typer.Option(help="width")] = 256,
    base_width: Annotated[int, typer.Option(help="base width")] = 64,
    geometry: Annotated[str, typer.Option(help="paper or fixed_head")] = "paper",
    switch: Annotated[list[str], typer.Option(help="name=choice; repeatable")] = [],
    mixer: MixerOption = [],
) -> None:
    """Print what each parameter of a model gets under a table; without a table, the rules of all tables."""
    from gdnbench.models.parametrization import document as tables

    _add_mixers(mixer)
    if table is None:
        print(tables.markdown(), end="")
        return
    for line in tables.per_parameter(
        table, arch=arch, width=width, base_width=base_width, geometry=geometry, switches=dict(map(_pair, switch))
    ):
        print(line)


@app.command("new-mixer")
def new_mixer(
    name: Annotated[str, typer.Argument(help="name of the mixer and of its file: small letters, digits, _")],
    folder: Annotated[Path, typer.Option(help="where the files are written")] = Path(),
) -> None:
    """Write a mixer that works, to start from, and its test."""
    from gdnbench.check.new import new_mixer as write

    paths = write(name, folder)
    print(f"written: {', '.join(map(str, paths))}; check it: gdnbench check {paths[0]}")


@app.command()
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
    report = look(Path(mixer), base_width=base_width, options=given, only=_words(only))
    print(report.as_json() if as_json else "\n".join(report.lines()))
    raise typer.Exit(1 if report.failed else 0)


@app.command()
def evaluate(
    run_id: Annotated[str, typer.Argument(help="a finished run that kept its checkpoint")],
    corpus: Annotated[str, typer.Option(help="wikitext-103:<folder>, text:<folder>, ...")],
    metric: Annotated[str, typer.Option(help="wt103_token_ppl, lmeval_word_ppl, wt103_nounk_ppl or loss")] = "loss",
    split: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    window: Annotated[int | None, typer.Option(help="tokens of a window; default: the training length")] = None,
    stride: Annotated[int | None, typer.Option(help="tokens scored by window; default: the window")] = None,
    carry_state: Annotated[bool, typer.Option(help="carry the recurrent state from window to window")] = False,
    out_of_domain: Annotated[bool, typer.Option(help="the model was trained on other text; label it so")] = False,
    max_tokens: Annotated[
        int | None, typer.Option(help="metric loss: score only the first tokens of the split")
    ] = None,
    training_corpus: Annotated[str | None, typer.Option(help="where the training's corpus lies (for bpe)")] = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str, typer.Option("--set", help="the run's result set")] = "quick",
    mixer: MixerOption = [],
) -> None:
    """Evaluate a trained model on a text and store the result in its set; prints it as JSON."""
    from gdnbench.runs.evaluation import evaluate_run

    _add_mixers(mixer)
    record = evaluate_run(
        results,
        set_name,
        run_id,
        corpus=corpus,
        metric=metric,
        split=split,
        window=window,
        stride=stride,
        carry_state=carry_state,
        out_of_domain=out_of_domain,
        max_tokens=max_tokens,
        training_corpus=training_corpus,
    )
    print(json.dumps(record.flat(), indent=1))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(metavar="RUN", help="a run's folder, its checkpoint.pt, or <set>/<run id>")],
    prompt: Annotated[list[str], typer.Option(help="text to continue; repeatable: several at once")] = [],
    prompt_file: Annotated[Path | None, typer.Option(help="file whose text is a prompt")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="tokens that are to follow")] = 128,
    temperature: Annotated[float | None, typer.Option(help="draw tokens; default: always the likeliest")] = None,
    top_k: Annotated[int | None, typer.Option(help="draw from so many of the likeliest tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from the likeliest tokens of this probability")] = None,
    seed: Annotated[int | None, typer.Option(help="seeds what is drawn; default: 0")] = None,
    stop: Annotated[list[str], typer.Option(help="text before which a continuation ends; repeatable")] = [],
    device: DeviceOption = None,
    backend: BackendOption = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: bfloat16 on a GPU")] = None,
    state_dtype: Annotated[str, typer.Option(help="type of recurrent memories: float32 or bfloat16")] = "float32",
    graph: Annotated[bool | None, typer.Option(help="run steps as a CUDA graph; default: on a GPU")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print tokens, text, speed and memory as JSON")] = False,
    save_state: Annotated[Path | None, typer.Option(help="write what is carried on to this file")] = None,
    load_state: Annotated[Path | None, typer.Option(help="go on from such a file, in place of a prompt")] = None,
    training_corpus: Annotated[
        str | None, typer.Option(help="corpus of the training, with the place of its files, for a trained tokenizer")
    ] = None,
    mixer: MixerOption = [],
    results: ResultsOption = Path("results"),
) -> None:
    """Continue a text with a trained model that kept its checkpoint: the text on stdout, speed and memory on stderr."""
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import generation

    _add_mixers(mixer)
    asked = generation.Asked(
        model=model,
        prompts=generation.prompts(prompt, prompt_file),
        max_tokens=max_tokens,
        sampling=generation.sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        stop=tuple(stop),
        device=device or "cpu",
        backend=None if backend is None else parse_backend(backend),
        dtype=dtype,
        state_dtype=state_dtype,
        graph=graph,
        load_state=load_state,
        save_state=save_state,
        training_corpus=training_corpus,
        results=results,
    )
    found = generation.generate(asked, lambda text: None if as_json else print(text, end="", flush=True))
    if as_json:
        print(json.dumps(generation.to_json(found, asked), indent=1))
    elif len(found.continuations) == 1:
        print()
    else:
        for number, one in enumerate(found.continuations):
            print(f"[{number}] {one.text}")
    _progress(found.line())


@app.command("eval")
def evaluate_by_tasks(
    run: Annotated[str, typer.Argument(help="a finished run that kept its checkpoint: its id, <set>/<id>, or folder")],
    tasks: Annotated[str, typer.Option(help="tasks of lm-eval, separated by commas")],
    include_path: Annotated[Path | None, typer.Option(help="folder with tasks of your own, in lm-eval's YAML")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first examples of each task")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="examples in a context; default: the task's")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="windows at once; default: by their length")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="tokens of a window; default: the training length")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: the training's")] = None,
    training_corpus: Annotated[str | None, typer.Option(help="where the training's corpus lies (for bpe)")] = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str, typer.Option("--set", help="the run's result set, where its id alone is given")] = "quick",
    mixer: MixerOption = [],
) -> None:
    """Evaluate a trained model by tasks of EleutherAI's lm-eval and store a record of each in the run's set."""
    try:
        from gdnbench.lm_eval.evaluating import Asked, evaluate
    except ModuleNotFoundError as error:
        raise GdnbenchError(f'{error.name} is not installed: pip install "gdnbench[eval]"') from None
    _add_mixers(mixer)
    given = {"batch_size": batch_size, "max_length": window, "dtype": dtype, "training_corpus": training_corpus}
    asked = Asked(
        run=run if "/" in run or Path(run).exists() else f"{set_name}/{run}",
        names=tuple(_words(tasks)),
        include_path=include_path,
        limit=limit,
        num_fewshot=num_fewshot,
        model={**given, "device": device, "backend": backend, "results": str(results)},
    )
    outcome = evaluate(asked, say=_progress)
    print(json.dumps([record.flat() for record in outcome.records], indent=1))
    if outcome.failed:
        raise GdnbenchError(f"{len(outcome.failed)} of the tasks failed: {'; '.join(outcome.failed)}")


@app.command()
def overlap(
    corpus: Annotated[str, typer.Option(help="corpus whose train split is read: text:<folder>, ...")],
    also: Annotated[list[str], typer.Option("--also", help="another corpus to look for in it; repeatable")] = [],
) -> None:
    """Count how much of the texts that models are tested on stands in a train split, by 13-grams of words."""
    from gdnbench.data import corpus_label, open_corpus
    from gdnbench.data.overlap import corpus_overlap, lines

    found = corpus_overlap(open_corpus(corpus), {corpus_label(name): open_corpus(name) for name in also})
    for line in lines(found):
        print(line)


@app.command()
def parity(
    arch: Annotated[str, typer.Option(help="mixer names, separated by commas; default: all that have a peer")] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option("--from", help="a peer's checkpoint (Hugging Face's format) in place of random weights"),
    ] = None,
    library: Annotated[str | None, typer.Option(help="only peers of this library")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda, for both sides; default: cuda where it works")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, or bfloat16 (autocast)")] = "float32",
    backend: BackendOption = None,
    seed: Annotated[int, typer.Option(help="seeds random weights and tokens")] = 0,
    tune: Annotated[bool, typer.Option("--tune", help="let the peers' kernels search for their fastest form")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print a record as JSON in place of the table")] = False,
) -> None:
    """Give our models the weights of other libraries' and compare logits, loss, gradients and carried state.

    Exit code 1: something differs by more than its tolerance, or was asked for by name and cannot be compared here.
    """
    import torch

    from gdnbench.measure.parity.report import Options
    from gdnbench.measure.parity.run import parity as compared
    from gdnbench.models.config import DEFAULT_BACKEND, parse_backend

    options = Options(
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        dtype=dtype,
        backend=DEFAULT_BACKEND if backend is None else parse_backend(backend),
        seed=seed,
        tuned=tune,
    )
    found = compared(_words(arch), options, folder=checkpoint, library=library, say=_progress)
    print(found.as_json() if as_json else "\n".join(found.lines()))
    raise typer.Exit(1 if found.failed else 0)


@bench.command("kernels")
def bench_kernels(
    shapes: Annotated[list[str], typer.Option(help="B,T,H,K,V; several in quotes, or repeatable")] = [],
    backends: Annotated[str, typer.Option(help="backends of the gated delta rule, separated by commas")] = "",
    peer: Annotated[str | None, typer.Option(help="what the others are compared with; default: fla if timed")] = None,
    directions: Annotated[str, typer.Option(help="forward, forward_backward, backward")] = "forward,forward_backward",
    gates: Annotated[str, typer.Option(help="none, default, strong: how fast the state decays")] = "",
    qk: Annotated[str, typer.Option(help="given (normalized beforehand), raw (normalized by the call)")] = "",
    timing: Annotated[str, typer.Option(help="device (the GPU's work alone), eager (a call with its launches)")] = "",
    parts: Annotated[str, typer.Option(help="delta, decode, gating (cost of gate_scale), fused, mixers")] = "",
    decode: Annotated[str | None, typer.Option(help="B,H,K,V of the decode step")] = None,
    first_call: Annotated[
        bool, typer.Option("--first-call", help="only: from the start of a process to the first finished gradients")
    ] = False,
    repeats: Annotated[int | None, typer.Option(help="samples of each case, taken in turn")] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16, float32 or float64")] = None,
    seed: Annotated[int, typer.Option(help="seeds the inputs")] = 0,
    budget_s: Annotated[float | None, typer.Option(help="stop before so many seconds are over")] = None,
    again: Annotated[bool, typer.Option("--again", help="measure what the set already holds, too")] = False,
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    json_file: Annotated[Path | None, typer.Option("--json", help="write the records as flat objects")] = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str | None, typer.Option("--set", help="store the records in this result set")] = None,
) -> None:
    """Check kernels against float64, then time them side by side: ratio to a peer, distance to the floor, memory."""
    from gdnbench.environment import check_device
    from gdnbench.measure.kernels import grid
    from gdnbench.runs import bench_summary, kernel_summary, kernels

    check_device(device)
    options = grid.chosen(
        device=device,
        shapes=shapes,
        step=decode,
        names=_words(backends),
        peer=peer,
        directions=_words(directions),
        gates=_words(gates),
        qk=_words(qk),
        timings=_words(timing),
        parts=_words(parts),
        repeats=repeats,
        dtype=dtype,
        seed=seed,
    )
    outcome = kernels.bench(
        options,
        results,
        set_name,
        first_call=first_call,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=_progress,
    )
    for line in [*kernel_summary.table(outcome.records), *bench_summary.closing(outcome, "groups")]:
        print(line)
    if red := bench_summary.red_sentence(outcome):
        raise GdnbenchError(red)


@bench.command("train")
def bench_train(
    arch: Annotated[str, typer.Option(help="architectures, separated by commas; default: all")] = "",
    impl: Annotated[str, typer.Option(help="gdnbench, hf_llama_compiled, fla_eager, ...; default: all")] = "",
    steps: Annotated[int | None, typer.Option(help="timed steps")] = None,
    batch: Annotated[int | None, typer.Option(help="sequences of a step")] = None,
    seq_len: Annotated[int | None, typer.Option(help="tokens of a sequence")] = None,
    width: Annotated[int | None, typer.Option(help="width of all models")] = None,
    depth: Annotated[int | None, typer.Option(help="depth of all models")] = None,
    vocab: Annotated[int | None, typer.Option(help="number of tokens of all models")] = None,
    backend: BackendOption = None,
    profile: Annotated[bool, typer.Option("--profile", help="time the parts of the step, too (GPU)")] = False,
    warm: Annotated[bool, typer.Option("--warm", help="keep what was compiled before: no cold first step")] = False,
    seed: Annotated[int, typer.Option(help="seeds weights and tokens")] = 0,
    budget_s: Annotated[float | None, typer.Option(help="stop before so many seconds are over")] = None,
    again: Annotated[bool, typer.Option("--again", help="measure what the set already holds, too")] = False,
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    mixer: MixerOption = [],
    json_file: Annotated[Path | None, typer.Option("--json", help="write the records as flat objects")] = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str | None, typer.Option("--set", help="store the records in this result set")] = None,
) -> None:
    """Measure training speed, memory and first step of our models beside the libraries a user would pick instead."""
    from gdnbench.environment import check_device
    from gdnbench.measure.training import grid
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import bench_summary, training, training_summary

    check_device(device, "bfloat16")
    _add_mixers(mixer)
    cases = grid.cases(
        device=device,
        archs=_words(arch),
        impls=_words(impl),
        batch=batch,
        seq_len=seq_len,
        steps=steps,
        width=width,
        depth=depth,
        vocab_size=vocab,
        backend=None if backend is None else parse_backend(backend),
        warm=warm,
        seed=seed,
    )
    outcome = training.bench(
        cases,
        results,
        set_name,
        profile=profile,
        mixers=mixer,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=_progress,
    )
    for line in [*training_summary.table(outcome.records), *bench_summary.closing(outcome, "rows")]:
        print(line)
    if red := bench_summary.red_sentence(outcome):
        raise GdnbenchError(red)


@bench.command("decode")
def bench_decode(
    arch: Annotated[str, typer.Option(help="architectures, separated by commas; default: all")] = "",
    size: Annotated[str, typer.Option(help="1.3b, 125m, miniature; default: both, on a CPU the miniature")] = "",
    impl: Annotated[str, typer.Option(help="gdnbench, fla_generate, hf_llama_static, ...; default: all")] = "",
    batches: Annotated[str, typer.Option(help="rows at once, separated by commas; default: 1,8,64,256")] = "",
    contexts: Annotated[str, typer.Option(help="tokens of prompts; default: 1024,8192,32768,131072")] = "",
    tokens: Annotated[int | None, typer.Option(help="timed tokens of a stretch")] = None,
    repeats: Annotated[int | None, typer.Option(help="timed stretches")] = None,
    width: Annotated[int | None, typer.Option(help="width of all models")] = None,
    depth: Annotated[int | None, typer.Option(help="depth of all models")] = None,
    vocab: Annotated[int | None, typer.Option(help="number of tokens of all models")] = None,
    backend: BackendOption = None,
    seed: Annotated[int, typer.Option(help="seeds weights and prompts")] = 0,
    budget_s: Annotated[float | None, typer.Option(help="stop before so many seconds are over")] = None,
    again: Annotated[bool, typer.Option("--again", help="measure what the set already holds, too")] = False,
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    mixer: MixerOption = [],
    json_file: Annotated[Path | None, typer.Option("--json", help="write the records as flat objects")] = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str | None, typer.Option("--set", help="store the records in this result set")] = None,
) -> None:
    """Measure generation over batch and context: tokens per second beside the floor, first token, memory, peers."""
    from gdnbench.environment import check_device
    from gdnbench.measure.decoding import grid
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import bench_summary, decoding, decoding_summary

    check_device(device, "bfloat16")
    _add_mixers(mixer)
    asked = grid.Asked(
        device=device,
        archs=_words(arch),
        sizes=_words(size),
        impls=_words(impl),
        batches=_numbers("--batches", batches) if batches else (),
        contexts=_numbers("--contexts", contexts) if contexts else (),
        tokens=tokens,
        repeats=repeats,
        width=width,
        depth=depth,
        vocab_size=vocab,
        backend=None if backend is None else parse_backend(backend),
        seed=seed,
    )
    outcome = decoding.bench(
        grid.cases(asked),
        results,
        set_name,
        mixers=mixer,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=_progress,
    )
    for line in [*decoding_summary.table(outcome.records), *bench_summary.closing(outcome, "places")]:
        print(line)
    if red := bench_summary.red_sentence(outcome):
        raise GdnbenchError(red)


@app.command()
def doctor() -> None:
    """Say what this machine has, which backends work, and what is missing for the others."""
    from gdnbench.doctor import examine

    for line in examine():
        print(line)


@app.command()
def tune(
    shapes: Annotated[list[str], typer.Option(help="B,T,H,K,V; several in quotes, or repeatable")] = [],
    kernels: Annotated[str, typer.Option(help="prepare, scan, reverse, gradients, chain; default: all")] = "",
    workers: Annotated[int, typer.Option(help="processes that compile")] = 8,
    write: Annotated[bool, typer.Option("--write", help="rewrite the package's table, else print it")] = False,
) -> None:
    """Search tile sizes and warps of the plain Triton kernels on this GPU; nothing else ever searches."""
    from gdnbench.measure.kernels import search

    print(search.table(shapes, _words(kernels), workers=workers, write=write, say=_progress), end="")


@bench.command("check")
def bench_check(
    baseline: Annotated[str | None, typer.Option(help="commit; default: HEAD of a dirty checkout, else HEAD~1")] = None,
    baseline_path: Annotated[Path | None, typer.Option(help="folder of another tree, in place of a commit")] = None,
    threshold: Annotated[str, typer.Option(help="how much slower is worse")] = "3%",
    shapes: Annotated[list[str], typer.Option(help="B,T,H,K,V to time; repeatable; default: a list and a step")] = [],
    device: DeviceOption = None,
    backend: Annotated[str | None, typer.Option(help="backend to time; default: triton, on a CPU torch")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="times that both trees are timed in turn")] = 15,
    parts: Annotated[
        str, typer.Option(help="kernels, training, decode; default: all, with --shapes the kernels alone")
    ] = "",
    resources_only: Annotated[bool, typer.Option("--resources-only", help="compile only, time nothing")] = False,
    timings_only: Annotated[bool, typer.Option("--timings-only", help="time only, compile nothing")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="store what the kernels compile to now; nothing else")
    ] = False,
) -> None:
    """Say whether kernels, training or generation got slower: compiled, against a table; timed, against a commit.

    Compiling needs no GPU. Exit code 1: something got worse; 2: something could not be measured.
    """
    from gdnbench.measure.regression import check

    if resources_only + timings_only + update > 1:
        raise GdnbenchError("bench check: --resources-only, --timings-only and --update exclude each other")
    limit, codes = check.percentage(threshold), [check.FINE]
    if not timings_only:
        codes.append(_print(check.resources(update=update)))
    if not (resources_only or update):
        codes.append(
            _print(
                check.timings(
                    baseline=baseline,
                    path=baseline_path,
                    threshold=limit,
                    shapes=shapes,
                    device=device,
                    backend=backend,
                    rounds=rounds,
                    parts=_words(parts),
                    progress=lambda line: print(line, file=sys.stderr),
                )
            )
        )
    raise typer.Exit(check.WORSE if check.WORSE in codes else max(codes))


@quality.command("check")
def quality_check(
    parts: Annotated[str, typer.Option(help="fingerprints, trainings; default: both")] = "",
    update: Annotated[bool, typer.Option("--update", help="store what is computed now where it differs")] = False,
    reason: Annotated[str, typer.Option(help="with --update: why numbers change; stored with them")] = "",
) -> None:
    """Compute losses and gradients of every mixer and table again, and short trainings, and compare with stored ones.

    Exit code 1: something is not as stored.
    """
    from gdnbench.quality import check

    chosen = _words(parts) or list(check.PARTS)
    raise typer.Exit(_print(check.check(parts=chosen, update=update, reason=reason, progress=_progress)))


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        print(f"gdnbench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; one line and a non-zero exit code for everything that went wrong."""
    from gdnbench_kernels.backends import BackendUnavailable

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except UsageProblem as error:
        message = error.format_message()  # type: ignore[attr-defined]
        _fail(f"{message} (gdnbench --help lists commands and options)", 2)
    except (GdnbenchError, BackendUnavailable) as error:
        _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    if code == INTERRUPTED:
        _fail("stopped; what was running is saved, and the same command goes on from there", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"gdnbench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _render(results: Path, reports: Path, name: str) -> None:
    from gdnbench.report.render import render
    from gdnbench.results.store import open_set

    store = open_set(results, name)
    command = f"gdnbench report {name}"
    page = render(store, reports / name, command=command)
    for line in store.damaged:
        print(line, file=sys.stderr)
    print(f"report: {page}")


def _print(found: tuple[list[str], int]) -> int:
    """Print the lines of a check and return its exit code."""
    lines, code = found
    print("\n".join(lines))
    return code


def _add_mixers(paths: list[Path]) -> None:
    from gdnbench.models import registry

    for path in paths:
        registry.add_file(path)


def _pair(entry: str) -> tuple[str, str]:
    name, sign, choice = entry.partition("=")
    if not sign:
        raise GdnbenchError(f"--switch {entry}: expected name=choice, such as gate_sgd_rule=hidden")
    return name, choice


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise GdnbenchError(f"{option} {text!r}: expected whole numbers separated by commas") from None
