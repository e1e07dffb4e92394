"""How a model is scaled: the rules of its parameters, and whether sizes stay as they are over widths."""

from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import (
    BackendOption,
    CorpusOption,
    DeviceOption,
    MixerOption,
    ResultsOption,
    SwitchOption,
    TokenizerOption,
    WorkersOption,
    add_mixers,
    numbers,
    pair,
)


def coord_check(
    arch: Annotated[str, typer.Option(help="mixer name")] = "gdn",
    table: Annotated[str, typer.Option(help="parametrization table")] = "mup_gdn",
    switch: SwitchOption = [],
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
    from rich.console import Console

    from gdnbench import launch

    add_mixers(mixer)
    chosen = launch.coordinate_check(
        arch=arch,
        table=table,
        switches=dict(pair(entry) for entry in switch),
        widths=numbers("--widths", widths),
        base_width=base_width,
        geometry=geometry,
        block=block,
        seeds=seeds,
        after_steps=numbers("--after-steps", after_steps),
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


def rules(
    table: Annotated[str | None, typer.Argument(help="parametrization table; none: all tables as Markdown")] = None,
    arch: Annotated[str, typer.Option(help="mixer name")] = "gdn",
    width: Annotated[int, typer.Option(help="width")] = 256,
    base_width: Annotated[int, typer.Option(help="base width")] = 64,
    geometry: Annotated[str, typer.Option(help="paper or fixed_head")] = "paper",
    switch: SwitchOption = [],
    mixer: MixerOption = [],
) -> None:
    """Print what each parameter of a model gets under a table; without a table, the rules of all tables."""
    from gdnbench.models.parametrization import document as tables

    add_mixers(mixer)
    if table is None:
        print(tables.markdown(), end="")
        return
    for line in tables.per_parameter(
        table, arch=arch, width=width, base_width=base_width, geometry=geometry, switches=dict(map(pair, switch))
    ):
        print(line)
