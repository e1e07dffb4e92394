"""Roles and widths: every parameter has a row in the tables and fans that grow as it does; twice the width builds."""

import math
from collections.abc import Iterator

import torch

from gdnbench.check.findings import Finding
from gdnbench.check.subject import Subject, mixers
from gdnbench.errors import GdnbenchError
from gdnbench.models import Parametrization
from gdnbench.models.decoder import Decoder
from gdnbench.models.parametrization import apply, rows, table_names

GEOMETRIES = ("paper", "fixed_head")


def roles(subject: Subject) -> Iterator[Finding]:
    """Every parameter is declared with a role, whose row exists, and which has a start."""
    for index, mixer in enumerate(mixers(subject.exact)):
        for prefix, module in mixer.named_modules():
            known = getattr(module, "roles", {})
            for local, _ in module.named_parameters(recurse=False):
                name = f"{prefix}.{local}" if prefix else local
                if local not in known:
                    yield Finding(
                        place=f"layer {index}, parameter {name}",
                        found="it has no role",
                        remedy="create it with declare(self, name, shape, Role(row=..., fan_in=..., fan_out=..., "
                        "init=...)), or as a Projection",
                    )
                elif known[local].init is None:
                    yield Finding(
                        place=f"layer {index}, parameter {name}", found="its role has no init", remedy="give it one"
                    )
        if index == 0:
            yield from _tables(subject)


def _tables(subject: Subject) -> Iterator[Finding]:
    """Apply every table, as runs do."""
    for table in table_names():
        model = Decoder(subject.config())
        with torch.device("meta"):
            base = Decoder(subject.config(width=subject.base_width))
        own = {role: entry for mixer in mixers(model) for role, entry in mixer.role_rows.items()}
        try:
            rows(Parametrization(table=table), own)
            apply(model, base, Parametrization(table=table), seed=0, role_rows=own)
        except GdnbenchError as error:
            if "has no role" not in str(error):
                yield Finding(
                    place=f"table {table}",
                    found=str(error),
                    remedy="name a row of the tables, or bring it in role_rows",
                )
            return


def fans(subject: Subject) -> Iterator[Finding]:
    """A parameter grows over width as its role's fans say, in both geometries."""
    for geometry in GEOMETRIES:
        sizes = [subject.base_width * factor for factor in (1, 2)]
        with torch.device("meta"):
            small, large = (Decoder(subject.config(width=width, geometry=geometry)) for width in sizes)
        for one, two in zip(mixers(small), mixers(large), strict=True):
            for (prefix, below), (_, above) in zip(one.named_modules(), two.named_modules(), strict=True):
                for local, role in getattr(below, "roles", {}).items():
                    grown = getattr(above, local).numel() / getattr(below, local).numel()
                    other = above.roles[local]
                    stated = other.fan_in / role.fan_in * other.fan_out / role.fan_out
                    if not math.isclose(grown, stated):
                        yield Finding(
                            place=f"parameter {prefix}{'.' if prefix else ''}{local}, geometry {geometry}",
                            found=f"at twice the width it is {grown:g} times as large, and its fans say {stated:g}",
                            remedy="state fan_in and fan_out of the dimensions that grow, 1 for one that does not",
                        )


def widths(subject: Subject) -> Iterator[Finding]:
    """It builds at the base width, twice and four times that, in both geometries and in its own block."""
    for block in ("controlled", "native"):
        for geometry in GEOMETRIES:
            for factor in (1, 2, 4):
                width = subject.base_width * factor
                try:
                    with torch.device("meta"):
                        Decoder(subject.config(width=width, geometry=geometry, block=block))
                except Exception as error:
                    yield Finding(
                        place=f"width {width}, geometry {geometry}, block {block}: {subject.line_of(error)}",
                        found=f"{type(error).__name__}: {error}",
                        remedy="dimensions of heads come from config.head_dim, numbers of heads from config.head_count",
                    )
                    return
