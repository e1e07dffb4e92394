"""A preset is one readable YAML file: experiments, what they share, and the claim cards they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gdnbench.claims.cards import ClaimCard


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
        seeds: this arm's seeds; None: the experiment's.
    """

    name: str
    arch: str
    table: str = "sp"
    switches: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    log2_lrs: Mapping[int, tuple[float, ...]] | tuple[float, ...] | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a comparison holds equal between its arms.

    ``parameters``: non-embedding parameters, by choosing MLP widths; ``flops``: training FLOPs, by choosing steps;
    ``tokens``: training tokens (equal by construction); ``wall_clock``: seconds of training on this machine.
    ``reference`` names the arm whose budget the others get; ``tolerance`` is relative.
    """

    by: Literal["parameters", "flops", "tokens", "wall_clock"] = "parameters"
    reference: str
    tolerance: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Runs of one kind that are shown together.

    Attributes:
        name: unique in the preset; part of the run ids.
        kind: ``lr_sweep``, ``comparison``, ``coord_check`` or ``decode``.
        title: heading in the report.
        arms: what is compared.
        widths: model widths.
        log2_lrs: learning rates as powers of 2, for all widths or by width.
        seeds: the first is run at every learning rate; where the others run is said by ``refine``.
        refine: other seeds at the best rate and its ``neighbours``, at the ``best`` only, or at ``all`` rates.
        extend: how many rates may be added beyond the grid while the best is at its edge.
        contexts: prompt lengths of a ``decode`` experiment.
        match: what a comparison holds equal.
        model, optimizer, schedule, training, evaluation, coordinates, decode: fields that differ from the preset's.
    """

    name: str
    kind: Literal["lr_sweep", "comparison", "coord_check", "decode"]
    title: str = ""
    arms: tuple[Arm, ...]
    widths: tuple[int, ...]
    log2_lrs: Mapping[int, tuple[float, ...]] | tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    refine: Literal["neighbours", "best", "all"] = "neighbours"
    extend: int = 0
    contexts: tuple[int, ...] = ()
    match: Match | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    decode: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A study.

    Attributes:
        name: name of the preset and, unless another is given, of its result set.
        title: heading of the report.
        about: what it shows and what it costs.
        suits: ``cpu`` or ``gpu``: the machine it is made for.
        corpus: corpus by name (`gdnbench.data`); an option of the command overrides it.
        tokenizer: tokenizer by name.
        device, dtype, threads: see `gdnbench.plan.spec.RunSpec`.
        model, optimizer, schedule, training, evaluation, coordinates, decode: fields shared by all experiments.
        experiments: what is run.
        claims: the claim cards.
    """

    name: str
    title: str
    about: str
    suits: Literal["cpu", "gpu"] = "cpu"
    corpus: str = "stdlib"
    tokenizer: str = "bytes"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    residual: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    decode: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    experiments: tuple[Experiment, ...]
    claims: tuple[ClaimCard, ...] = ()
