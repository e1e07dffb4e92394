"""Options that several commands have, those that choose a preset as one thing, and how their texts are read."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gdnbench.errors import GdnbenchError

if TYPE_CHECKING:
    from gdnbench.launch import Chosen

# What seeds generators of NumPy and of PyTorch.
SEEDS: dict[str, Any] = {"min": 0, "max": 2**63 - 1}


def _not_negative(value: float | None) -> float | None:
    """Return an option's number, or None; raise where it is below 0 or no number."""
    if value is None or value >= 0:
        return value
    raise typer.BadParameter(f"{value:g} is not 0 or above")


PresetArgument = Annotated[str, typer.Argument(help="name of a preset, or path of a .yaml file")]
ResultsOption = Annotated[Path, typer.Option("--results", file_okay=False, help="folder of the result sets")]
ReportsOption = Annotated[Path, typer.Option("--reports", file_okay=False, help="folder of the rendered reports")]
SetOption = Annotated[str | None, typer.Option("--set", help="name of the result set; default: the preset's")]
CorpusOption = Annotated[
    str | None,
    typer.Option(help="corpus: stdlib, text:<folder>[#<train files>], wikitext-103[:<folder>], ..."),
]
TokenizerOption = Annotated[str | None, typer.Option(help="tokenizer: bytes, bpe:<vocabulary>, gpt2[:<file>]")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; nothing falls back to another device")]
BackendOption = Annotated[str | None, typer.Option(help="backend of all operations, or: gated_delta=triton,wkv7=fla")]
AlsoOption = Annotated[
    list[str],
    typer.Option("--also", help="where a corpus that the preset also uses lies: name:<folder>; repeatable"),
]
MixerOption = Annotated[list[Path], typer.Option("--mixer", help="file with a mixer of your own; repeatable")]
WorkersOption = Annotated[
    int | None, typer.Option(help="runs at once, on a GPU sharing it; default: 1 on a GPU, else as many as cores")
]
SwitchOption = Annotated[list[str], typer.Option(help="name=choice; repeatable")]
OnlyOption = Annotated[str, typer.Option("--only", help="experiments, separated by commas; default: all")]

# Of the measurements `gdnbench bench kernels`, `train` and `decode`.
BudgetOption = Annotated[
    float | None, typer.Option(callback=_not_negative, help="stop before so many seconds are over")
]
AgainOption = Annotated[bool, typer.Option("--again", help="measure what the set already holds, too")]
AheadOption = Annotated[
    bool, typer.Option("--plan", help="print what is stored, what is left and how long that may take; measure nothing")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="write the records as flat objects")
]
StoreOption = Annotated[str | None, typer.Option("--set", help="store the records in this result set")]
WidthOption = Annotated[int | None, typer.Option(help="width of all models")]
DepthOption = Annotated[int | None, typer.Option(help="depth of all models")]
VocabularyOption = Annotated[int | None, typer.Option(help="number of tokens of all models")]
MeasuredOption = Annotated[str, typer.Option(help="cuda or cpu")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selected:
    """A preset as the options of a command chose it.

    Attributes:
        chosen: the preset with the options' overrides.
        results: folder of the result sets.
        set: name of the result set.
        workers: runs at once, if that was given.
        only: experiments that are wanted; empty: all.
        mixers: files of mixers from outside the repository.
    """

    chosen: "Chosen"
    results: Path
    set: str
    workers: int | None
    only: tuple[str, ...]
    mixers: tuple[Path, ...]


def _select(
    preset: PresetArgument,
    results: ResultsOption = Path("results"),
    set_name: SetOption = None,
    workers: WorkersOption = None,
    only: OnlyOption = "",
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    also: AlsoOption = [],
    mixer: MixerOption = [],
) -> Selected:
    from gdnbench import launch

    add_mixers(mixer)
    chosen = launch.choose(preset, corpus=corpus, tokenizer=tokenizer, device=device, backend=backend, also=also)
    return Selected(
        chosen=chosen,
        results=results,
        set=set_name or chosen.set,
        workers=workers,
        only=launch.experiments(chosen.preset, only),
        mixers=tuple(mixer),
    )


def chooses_preset(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a preset: it gets a `Selected` first, and its own options by name."""
    shared = inspect.signature(_select).parameters
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        selected = _select(**{name: given.pop(name) for name in shared})
        command(selected, **given)

    parameters = [*shared.values(), *own]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def add_mixers(paths: Iterable[Path]) -> None:
    """Import the files of ``--mixer``."""
    from gdnbench.models import registry

    for path in paths:
        registry.add_file(path)


def pair(entry: str) -> tuple[str, str]:
    """Return name and choice of a ``--switch``; raise where it is none."""
    name, sign, choice = entry.partition("=")
    if not sign:
        raise GdnbenchError(f"--switch {entry}: expected name=choice, such as gate_sgd_rule=hidden")
    return name, choice


def words(text: str) -> list[str]:
    """Return what stands between commas, without what is empty."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers between commas; raise, with the option's name, where there are others."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise GdnbenchError(f"{option} {text!r}: expected whole numbers separated by commas") from None
