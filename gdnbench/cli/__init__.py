"""The command ``gdnbench``: parses arguments, prints results and errors, and leaves the work to the packages.

Its commands stand in the other files of this folder by theme. What they need beyond arguments they import when they are
called, so that ``gdnbench --help`` is there at once.
"""

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from gdnbench.cli import benches, checks, machine, parametrization, studies, trained, variants
from gdnbench.errors import GdnbenchError
from gdnbench.version import __version__, stated_commit

# The commands in the order in which they are listed.
COMMANDS: dict[str, Callable[..., None]] = {
    "presets": studies.presets,
    "plan": studies.plan,
    "reproduce": studies.reproduce,
    "compare": variants.compare,
    "report": studies.report,
    "results": studies.results,
    "coord-check": parametrization.coord_check,
    "rules": parametrization.rules,
    "new-mixer": variants.new_mixer,
    "check": variants.check,
    "evaluate": trained.evaluate,
    "generate": trained.generate,
    "eval": trained.evaluate_by_tasks,
    "overlap": trained.overlap,
    "parity": checks.parity,
    "doctor": machine.doctor,
    "tune": machine.tune,
}
BENCH: dict[str, Callable[..., None]] = {
    "kernels": benches.bench_kernels,
    "train": benches.bench_train,
    "decode": benches.bench_decode,
    "check": checks.bench_check,
}
QUALITY: dict[str, Callable[..., None]] = {"check": checks.quality_check}

# Typer carries its own copy of click, whose errors it does not export by name.
UsageProblem: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)

INTERRUPTED = 130  # the exit code of Ctrl-C, into which some versions of Typer turn it themselves

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Does this architecture really beat a Transformer, at what cost, and do its hyperparameters transfer?",
)
bench = typer.Typer(rich_markup_mode=None, help="Time parts of the suite on this machine.")
quality = typer.Typer(rich_markup_mode=None, help="Whether models still compute what they computed.")
app.add_typer(bench, name="bench")
app.add_typer(quality, name="quality")

for group, commands in ((app, COMMANDS), (bench, BENCH), (quality, QUALITY)):
    for name, command in commands.items():
        group.command(name)(command)


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
    stated_commit()  # a wrong one would else be found when the first record is written


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
        _fail("stopped; what was saved stays, and the same command goes on from there", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"gdnbench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
