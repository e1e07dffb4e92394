"""The machine: what it has, and what is tuned for it."""

from typing import Annotated

import typer

from gdnbench.cli.options import words
from gdnbench.cli.output import progress


def doctor() -> None:
    """Say what this machine has, which backends work, and what is missing for the others."""
    from gdnbench.doctor import examine

    for line in examine():
        print(line)


def tune(
    shapes: Annotated[list[str], typer.Option(help="B,T,H,K,V; several in quotes, or repeatable")] = [],
    kernels: Annotated[str, typer.Option(help="prepare, scan, reverse, gradients, chain; default: all")] = "",
    workers: Annotated[int, typer.Option(help="processes that compile")] = 8,
    write: Annotated[bool, typer.Option("--write", help="rewrite the package's table, else print it")] = False,
) -> None:
    """Search tile sizes and warps of the plain Triton kernels on this GPU; nothing else ever searches."""
    from gdnbench.measure.kernels import search

    print(search.table(shapes, words(kernels), workers=workers, write=write, say=progress), end="")
