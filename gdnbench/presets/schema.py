"""A preset is one readable YAML file: experiments, what they share, and the claim cards they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gdnbench.claims.cards import ClaimCard

Dtype = Literal["float32", "float64", "bfloat16"]


def is_task(corpus: str) -> bool:
    """Return whether a corpus is a synthetic task by its name (`gdnbench.data.tasks`)."""
    return corpus.startswith("task:")


@dataclass(frozen=True, kw_only=True)
class Vary:
    """An option by which an arm's state grows: ``mixer.option``, in multiples of ``step`` (what kernels serve)."""

    option: str
    step: int = 1


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One line of a figure: an architecture under a parametrization.

    Attributes:
        name: how tables and figures name it.
        arch: mixer name, or ``hybrid`` with ``model: {pattern: ...}``.
        table: parametrization table.
        switches: parametrization switches.
        model: model fields that differ from the experiment's.
        log2_lrs: this arm's learning rates, by width or for all; None: the experiment's.
        seeds: this arm's seeds, by width or for all; None: the experiment's.
        widths: this arm's widths; None: the experiment's.
        transferred_lr: log2 of the rate that was found at a small width; it must be one of the arm's rates.
        vary: what is chosen where a task's arms are matched by ``state_bytes``; None: the arm keeps the state that it
            has, and is not matched.
    """

    name: str
    arch: str
    table: str = "sp"
    switches: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    log2_lrs: Mapping[int, tuple[float, ...]] | tuple[float, ...] | None = None
    seeds: Mapping[int, tuple[int, ...]] | tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    transferred_lr: float | None = None
    vary: Vary | None = None


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a comparison holds equal between its arms.

    ``parameters``: non-embedding parameters, by choosing MLP widths; ``flops``: training FLOPs, by choosing steps;
    ``tokens``: training tokens (equal by construction); ``wall_clock``: seconds of training on this machine;
    ``state_bytes``: what one sequence carries at the training length, by choosing each arm's `Arm.vary`.
    ``reference`` names the arm whose budget the others get; ``tolerance`` is relative. ``uniform``: all layers get one
    MLP width (and one compiled block), else some get one step more to come nearer.
    """

    by: Literal["parameters", "flops", "tokens", "wall_clock", "state_bytes"] = "parameters"
    reference: str
    tolerance: float = 0.01
    uniform: bool = False


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Fields of a run's parts (`gdnbench.plan.spec`): a preset's, over which lie an experiment's.

    ``task``: options of corpora ``task:<name>`` (`gdnbench.data.tasks`).
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    decode: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)


Kind = Literal["lr_sweep", "comparison", "coord_check", "decode", "horizon", "fine_tune", "task"]
SWEEPS: tuple[Kind, ...] = ("lr_sweep", "comparison", "horizon", "fine_tune", "task")
# Kinds that compare widths: at the base width all tables train identically, so its runs are made once for all arms.
OVER_WIDTH: tuple[Kind, ...] = ("lr_sweep", "coord_check", "horizon")


@dataclass(frozen=True, kw_only=True)
class Experiment(Sections):
    """Runs of one kind that are shown together; the sections hold what differs from the preset's.

    Attributes:
        name: unique in the preset; part of the run ids.
        kind: ``lr_sweep``; ``comparison``; ``coord_check``; ``decode``; ``horizon``: at each rate one run at a constant
            rate, from which runs of several lengths branch off to decay; ``fine_tune``: the sweep's runs begin with the
            weights of a run on the preset's corpus, which is described by ``start``; ``task``: accuracy on a synthetic
            task (its corpus, with options in ``task``), at every width.
        title: heading in the report.
        arms: what is compared.
        widths: model widths.
        log2_lrs: learning rates as powers of 2, for all widths or by width.
        seeds: the first is run at every learning rate; where the others run is said by ``refine``. For all widths, or
            by width.
        refine: other seeds at the best rate and its ``neighbours``; at ``half_octaves`` (which the first seed fills
            in) at the best and one octave on either side; at the ``best`` only; or at ``all`` rates.
        extend: how many rates may be added beyond the grid while the best is at its edge.
        transferred: whether all seeds also run the base width's best rate at every width.
        contexts: prompt lengths of a ``decode`` experiment.
        horizons: lengths of a ``horizon`` experiment's branches, in units of ``training.steps``; its schedule is a wsd.
        start: sections of the run that a ``fine_tune`` experiment begins with, over the preset's.
        match: what a comparison holds equal.
        corpus, dtype: those of this experiment, if not the preset's; a tokenizer stays that of the preset's corpus.
    """

    name: str
    kind: Kind
    title: str = ""
    arms: tuple[Arm, ...]
    widths: tuple[int, ...]
    log2_lrs: Mapping[int, tuple[float, ...]] | tuple[float, ...] = ()
    seeds: Mapping[int, tuple[int, ...]] | tuple[int, ...] = (0,)
    refine: Literal["neighbours", "half_octaves", "best", "all"] = "neighbours"
    extend: int = 0
    transferred: bool = False
    contexts: tuple[int, ...] = ()
    horizons: tuple[int, ...] = ()
    start: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    match: Match | None = None
    corpus: str | None = None
    dtype: Dtype | None = None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of an experiment's runs: those of the given arms, widths and seeds; all of them where none are given."""

    experiment: str
    arms: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preset(Sections):
    """A study; the sections hold what all experiments share.

    Attributes:
        name: name of the preset and, unless another is given, of its result set.
        title: heading of the report.
        about: what it shows and what it costs.
        suits: ``cpu`` or ``gpu``: the machine it is made for.
        corpus: corpus by name (`gdnbench.data`); an option of the command overrides it.
        tokenizer: tokenizer by name.
        max_epochs: how often a run may see its corpus; more is an error that says how often it would be. None: as often
            as its steps ask for.
        device, dtype, residual, threads: see `gdnbench.plan.spec.RunSpec`.
        experiments: what is run.
        order: what is run first, by importance, where a limit of time cuts the study short; the rest comes last.
        claims: the claim cards.
    """

    name: str
    title: str
    about: str
    suits: Literal["cpu", "gpu"] = "cpu"
    corpus: str = "stdlib"
    tokenizer: str = "bytes"
    max_epochs: float | None = 1.05
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Dtype = "float32"
    residual: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1
    experiments: tuple[Experiment, ...]
    order: tuple[Slice, ...] = ()
    claims: tuple[ClaimCard, ...] = ()
