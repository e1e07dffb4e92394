"""Reading a parametrization: a table's rows, with its switches applied."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models.parametrization.monomial import ONE, Monomial

COLUMNS = ("init", "forward", "adamw", "sgd", "decay", "epsilon")
FLAGS = ("decays", "as_forward_factor")


@dataclass(frozen=True, kw_only=True)
class Parametrization:
    """The choice of a table and of switches on top of it (their names and choices: ``tables.yaml``)."""

    table: str = "sp"
    switches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one role gets, as monomials in the multiplicities; see the head of ``tables.yaml``."""

    init: Monomial = ONE
    forward: Monomial = ONE
    adamw: Monomial = ONE
    sgd: Monomial = ONE
    decay: Monomial = ONE
    epsilon: Monomial = ONE
    sgd_decay: Monomial = ONE
    decays: bool = False
    as_forward_factor: bool = False

    def patched(self, cells: Mapping[str, Any]) -> "Row":
        """Return this row with the given cells replaced."""
        values: dict[str, Any] = {}
        for name, cell in cells.items():
            if name not in (*COLUMNS, *FLAGS):
                raise unknown("table column", name, (*COLUMNS, *FLAGS))
            values[name] = Monomial.parse(cell) if name in COLUMNS else bool(cell)
        return dataclasses.replace(self, **values)

    def resolved(self) -> "Row":
        """Move the init factor into the forward pass where the row asks for it, leaving training the same.

        With ``W = c w``: ``w`` starts 1/c as large, AdamW (which does not see the scale of a gradient) needs the rate
        1/c, SGD (whose gradient gains c) the rate 1/c^2; epsilon follows the gradient, and the decay coefficients keep
        rate times decay as it was.
        """
        if not self.as_forward_factor:
            return self
        c = self.init
        return dataclasses.replace(
            self,
            init=ONE,
            forward=self.forward * c,
            adamw=self.adamw * c**-1,
            sgd=self.sgd * c**-2,
            epsilon=self.epsilon * c,
            decay=self.decay * c,
            sgd_decay=self.sgd_decay * c**2,
            as_forward_factor=False,
        )


@cache
def document() -> dict[str, Any]:
    """Return the content of ``tables.yaml``."""
    loaded: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("tables.yaml").read_text(encoding="utf-8"))
    return loaded


def table_names() -> list[str]:
    """Return the names of all tables, in the order of the file."""
    return list(document()["tables"])


def label(table: str) -> str:
    """Return the short name that reports show for a table."""
    return str(_table(table)["label"])


def rows(choice: Parametrization, role_rows: Mapping[str, Any] | None = None) -> dict[str, Row]:
    """Return the rows of a parametrization by role.

    Args:
        choice: table and switches.
        role_rows: rows that a mixer brings along: role -> {decays, about, tables: {table: cells}}.

    Raises:
        GdnbenchError: an unknown table, switch, choice or column, with the nearest names.
    """
    extra = _checked(role_rows or {})
    lineage = _lineage(choice.table)
    table = {role: Row(decays=entry["decays"]) for role, entry in {**document()["roles"], **extra}.items()}
    chosen: dict[str, str] = {}
    for name in lineage:
        own = {role: entry.get("tables", {}).get(name, {}) for role, entry in extra.items()}
        for role, cells in [*_table(name).get("rows", {}).items(), *own.items()]:
            table[role] = table[role].patched(cells)
        chosen.update(_table(name).get("switches", {}))
    for role, cells in _patches({**chosen, **choice.switches}):
        table[role] = table[role].patched(cells)
    return {role: row.resolved() for role, row in table.items()}


def _table(name: str) -> dict[str, Any]:
    tables = document()["tables"]
    if name not in tables:
        raise unknown("parametrization", name, tables)
    return dict(tables[name])


def _lineage(name: str) -> list[str]:
    """Return the tables that ``name`` extends, oldest first, and itself."""
    parent = _table(name).get("extends")
    return [*(_lineage(parent) if parent else []), name]


def _patches(switches: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows that switches patch, in the file's order; two switches must not set the same cell."""
    for switch, choice in switches.items():
        _choice(switch, choice)
    patches: list[tuple[str, dict[str, Any]]] = []
    setters: dict[tuple[str, str], str] = {}
    for switch in document()["switches"]:
        if switch not in switches:
            continue
        for role, cells in _choice(switch, switches[switch]).items():
            for column in cells:
                other = setters.setdefault((role, column), switch)
                if other != switch:
                    raise GdnbenchError(f"switches {other} and {switch} both set {column} of {role}; choose one")
            patches += [(target, cells) for target in (document()["roles"] if role == "all" else [role])]
    return patches


def _choice(switch: str, choice: object) -> dict[str, Any]:
    switches = document()["switches"]
    if switch not in switches:
        raise unknown("parametrization switch", switch, switches)
    choices = switches[switch]["choices"]
    if str(choice) not in choices:
        raise unknown(f"choice of {switch}", choice, choices)
    return dict(choices[str(choice)])


def _checked(role_rows: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a mixer's own rows; raise where one does not say whether it decays, or names a table that is not there."""
    for role, entry in role_rows.items():
        if "decays" not in entry:
            raise GdnbenchError(f"role {role}: its rows must say decays: true or false")
        for name in entry.get("tables", {}):
            _table(name)
    return role_rows
