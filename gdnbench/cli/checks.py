"""Checks: against the models of other libraries, an earlier tree's speed, and what was computed before."""

from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import BackendOption, DeviceOption, words
from gdnbench.cli.output import print_found, progress
from gdnbench.errors import GdnbenchError


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
    found = compared(words(arch), options, folder=checkpoint, library=library, say=progress)
    print(found.as_json() if as_json else "\n".join(found.lines()))
    raise typer.Exit(1 if found.failed else 0)


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
        codes.append(print_found(check.resources(update=update)))
    if not (resources_only or update):
        codes.append(
            print_found(
                check.timings(
                    baseline=baseline,
                    path=baseline_path,
                    threshold=limit,
                    shapes=shapes,
                    device=device,
                    backend=backend,
                    rounds=rounds,
                    parts=words(parts),
                    progress=progress,
                )
            )
        )
    raise typer.Exit(check.WORSE if check.WORSE in codes else max(codes))


def quality_check(
    parts: Annotated[str, typer.Option(help="fingerprints, trainings; default: both")] = "",
    update: Annotated[bool, typer.Option("--update", help="store what is computed now where it differs")] = False,
    reason: Annotated[str, typer.Option(help="with --update: why numbers change; stored with them")] = "",
) -> None:
    """Compute losses and gradients of every mixer and table again, and short trainings, and compare with stored ones.

    Exit code 1: something is not as stored.
    """
    from gdnbench.quality import check

    chosen = words(parts) or list(check.PARTS)
    raise typer.Exit(print_found(check.check(parts=chosen, update=update, reason=reason, progress=progress)))
