"""What several commands print: progress, a check's findings, where a report lies, how a measurement ended."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gdnbench.errors import GdnbenchError

if TYPE_CHECKING:
    from gdnbench.runs.bench import Outcome
    from gdnbench.runs.bench_left import Left


def progress(line: str) -> None:
    """Print a line that is no result."""
    print(line, file=sys.stderr, flush=True)


def print_found(found: tuple[list[str], int]) -> int:
    """Print the lines of a check and return its exit code."""
    lines, code = found
    print("\n".join(lines))
    return code


def print_measured(table: Iterable[str], outcome: "Outcome", noun: str) -> None:
    """Print the table of a measurement and what it left out, by ``noun``; raise if a check was red or a case broke."""
    from gdnbench.runs import bench_summary

    for line in [*table, *bench_summary.closing(outcome, noun)]:
        print(line)
    if red := bench_summary.red_sentence(outcome):
        raise GdnbenchError(red)


def print_ahead(left: "Left") -> None:
    """Print what a measurement has left to do, and the command that does it: this one without ``--plan``."""
    for line in left.lines():
        print(line)
    if left.left or left.again:
        print("go on with:", shlex.join(["gdnbench", *(word for word in sys.argv[1:] if word != "--plan")]))


def render_report(results: Path, reports: Path, *sets: str, name: str = "") -> None:
    """Render the report of a result set, or of several on one page of this ``name``.

    Says what of the sets could not be read, and where the report lies.
    """
    from gdnbench.report.render import render
    from gdnbench.results.store import open_set

    stores = [open_set(results, each) for each in dict.fromkeys(sets)]
    command = " ".join(["gdnbench report", *(store.name for store in stores), *([f"--name {name}"] if name else [])])
    page = render(stores[0], reports / (name or stores[0].name), command=command, others=stores[1:], name=name)
    for line in (line for store in stores for line in store.damaged):
        print(line, file=sys.stderr)
    print(f"report: {page}")
