"""Measurements: kernels, training and generation beside a floor and the libraries of others."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import (
    SEEDS,
    AgainOption,
    AheadOption,
    BackendOption,
    BudgetOption,
    DepthOption,
    JsonFileOption,
    MeasuredOption,
    MixerOption,
    ResultsOption,
    StoreOption,
    VocabularyOption,
    WidthOption,
    add_mixers,
    numbers,
    words,
)
from gdnbench.cli.output import print_ahead, print_measured, progress
from gdnbench.errors import GdnbenchError


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
    seed: Annotated[int, typer.Option(help="seeds the inputs", **SEEDS)] = 0,
    budget_s: BudgetOption = None,
    again: AgainOption = False,
    plan: AheadOption = False,
    device: MeasuredOption = "cuda",
    json_file: JsonFileOption = None,
    results: ResultsOption = Path("results"),
    set_name: StoreOption = None,
) -> None:
    """Check kernels against float64, then time them side by side: ratio to a peer, distance to the floor, memory."""
    from gdnbench.measure.kernels import grid
    from gdnbench.runs import kernel_summary, kernels

    _check(device, plan=plan, again=again, json_file=json_file)
    options = grid.chosen(
        device=device,
        shapes=shapes,
        step=decode,
        names=words(backends),
        peer=peer,
        directions=words(directions),
        gates=words(gates),
        qk=words(qk),
        timings=words(timing),
        parts=words(parts),
        repeats=repeats,
        dtype=dtype,
        seed=seed,
    )
    if plan:
        print_ahead(kernels.plan(options, results, set_name, first_call=first_call))
        return
    outcome = kernels.bench(
        options,
        results,
        set_name,
        first_call=first_call,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=progress,
    )
    print_measured(kernel_summary.table(outcome.records), outcome, "group")


def bench_train(
    arch: Annotated[str, typer.Option(help="architectures, separated by commas; default: all")] = "",
    impl: Annotated[str, typer.Option(help="gdnbench, hf_llama_compiled, fla_eager, ...; default: all")] = "",
    steps: Annotated[int | None, typer.Option(help="timed steps")] = None,
    batch: Annotated[int | None, typer.Option(help="sequences of a step")] = None,
    seq_len: Annotated[int | None, typer.Option(help="tokens of a sequence")] = None,
    width: WidthOption = None,
    depth: DepthOption = None,
    vocab: VocabularyOption = None,
    backend: BackendOption = None,
    profile: Annotated[bool, typer.Option("--profile", help="time the parts of the step, too (GPU)")] = False,
    warm: Annotated[bool, typer.Option("--warm", help="keep what was compiled before: no cold first step")] = False,
    seed: Annotated[int, typer.Option(help="seeds weights and tokens", **SEEDS)] = 0,
    budget_s: BudgetOption = None,
    again: AgainOption = False,
    plan: AheadOption = False,
    device: MeasuredOption = "cuda",
    mixer: MixerOption = [],
    json_file: JsonFileOption = None,
    results: ResultsOption = Path("results"),
    set_name: StoreOption = None,
) -> None:
    """Measure training speed, memory and first step of our models beside the libraries a user would pick instead."""
    from gdnbench.measure import wanted
    from gdnbench.measure.training import grid
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import training, training_summary

    _check(device, "bfloat16", plan=plan, again=again, json_file=json_file)
    add_mixers(mixer)
    make = partial(
        grid.cases,
        device=device,
        archs=words(arch),
        impls=words(impl),
        batch=batch,
        seq_len=seq_len,
        steps=steps,
        depth=depth,
        vocab_size=vocab,
        backend=None if backend is None else parse_backend(backend),
        warm=warm,
        seed=seed,
    )
    cases = wanted.fitting(lambda width: make(width=width), width)
    if plan:
        print_ahead(training.plan(cases, results, set_name, profile=profile))
        return
    outcome = training.bench(
        cases,
        results,
        set_name,
        profile=profile,
        mixers=mixer,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=progress,
    )
    print_measured(training_summary.table(outcome.records), outcome, "row")


def bench_decode(
    arch: Annotated[str, typer.Option(help="architectures, separated by commas; default: all")] = "",
    size: Annotated[str, typer.Option(help="1.3b, 125m, miniature; default: both, on a CPU the miniature")] = "",
    impl: Annotated[str, typer.Option(help="gdnbench, fla_generate, hf_llama_static, ...; default: all")] = "",
    batches: Annotated[str, typer.Option(help="rows at once, separated by commas; default: 1,8,64,256")] = "",
    contexts: Annotated[str, typer.Option(help="tokens of prompts; default: 1024,8192,32768,131072")] = "",
    tokens: Annotated[int | None, typer.Option(help="timed tokens of a stretch")] = None,
    repeats: Annotated[int | None, typer.Option(help="timed stretches")] = None,
    width: WidthOption = None,
    depth: DepthOption = None,
    vocab: VocabularyOption = None,
    backend: BackendOption = None,
    seed: Annotated[int, typer.Option(help="seeds weights and prompts", **SEEDS)] = 0,
    budget_s: BudgetOption = None,
    again: AgainOption = False,
    plan: AheadOption = False,
    device: MeasuredOption = "cuda",
    mixer: MixerOption = [],
    json_file: JsonFileOption = None,
    results: ResultsOption = Path("results"),
    set_name: StoreOption = None,
) -> None:
    """Measure generation over batch and context: tokens per second beside the floor, first token, memory, peers."""
    from gdnbench.measure import wanted
    from gdnbench.measure.decoding import grid
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import decoding, decoding_summary

    _check(device, "bfloat16", plan=plan, again=again, json_file=json_file)
    add_mixers(mixer)
    asked = grid.Asked(
        device=device,
        archs=words(arch),
        sizes=words(size),
        impls=words(impl),
        batches=numbers("--batches", batches) if batches else (),
        contexts=numbers("--contexts", contexts) if contexts else (),
        tokens=tokens,
        repeats=repeats,
        depth=depth,
        vocab_size=vocab,
        backend=None if backend is None else parse_backend(backend),
        seed=seed,
    )
    cases = wanted.fitting(lambda width: grid.cases(replace(asked, width=width)), width)
    if plan:
        print_ahead(decoding.plan(cases, results, set_name))
        return
    outcome = decoding.bench(
        cases,
        results,
        set_name,
        mixers=mixer,
        again=again,
        budget_s=budget_s,
        json_file=json_file,
        say=progress,
    )
    print_measured(decoding_summary.table(outcome.records), outcome, "place")


def _check(device: str, dtype: str = "", *, plan: bool, again: bool, json_file: Path | None) -> None:
    """Raise unless the device is there; to look ahead takes none, and makes no records."""
    from gdnbench.environment import check_device, check_device_name

    if not plan:
        check_device(device, dtype)
    elif again or json_file is not None:
        raise GdnbenchError("--plan measures nothing: it goes without --again and --json")
    else:
        check_device_name(device)
