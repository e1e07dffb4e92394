"""Applying a parametrization: one engine sets starts and multipliers and gives the optimizer its groups."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models.parametrization.table import Parametrization, Row, rows
from gdnbench.models.roles import Role, multipliers, parameters_with_roles


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one parameter (or multiplier, which has no start and no rate) got; factors over the base run's values."""

    name: str
    role: str
    shape: tuple[int, ...]
    m_in: float
    m_out: float
    init_std: float | None
    init: float
    forward: float
    adamw: float
    sgd: float
    decay: float
    sgd_decay: float
    epsilon: float


def apply(
    model: nn.Module, base: nn.Module, choice: Parametrization, *, seed: int, role_rows: Mapping[str, Any]
) -> tuple[Rule, ...]:
    """Initialize ``model`` in place and set its multipliers; return the rule of each parameter and multiplier.

    Args:
        model: the model to initialize.
        base: the same model at its base width (on the meta device); fans are compared name by name.
        choice: table and switches.
        seed: seeds each parameter's own generator together with its name, so that equal names and shapes start
            equal in all arms, and adding a parameter leaves the others as they were.
        role_rows: rows that mixers bring along.
    """
    table = rows(choice, role_rows)
    width: float = model.config.multiplicity  # type: ignore[union-attr,assignment]
    base_roles = {name: role for name, _, _, role in parameters_with_roles(base)}
    base_sites = dict(multipliers(base))
    rules = []
    for name, module, local, role in parameters_with_roles(model):
        row, fans = _row(table, role.row), _fans(role, base_roles[name])
        rule = _rule(name, role, tuple(getattr(module, local).shape), row, (width, *fans))
        _initialize(getattr(module, local), role, rule.init, name, seed)
        if hasattr(module, "factor"):
            module.factor = rule.forward  # type: ignore[assignment]
        elif rule.forward != 1.0:
            raise GdnbenchError(f"{name}: the table wants a forward factor, which only a Projection can apply")
        rules.append(rule)
    for name, site in multipliers(model):
        base_role = base_sites[name].role
        rule = _rule(name, site.role, (), _row(table, site.role.row), (width, *_fans(site.role, base_role)))
        site.value = site.base(base_role.fan_in) * rule.forward
        rules.append(rule)
    return tuple(rules)


def parameter_groups(
    model: nn.Module,
    rules: Sequence[Rule],
    optimizer: Literal["adamw", "sgd"],
    *,
    lr: float,
    weight_decay: float,
    eps: float,
) -> list[dict[str, Any]]:
    """Return optimizer groups, one for each distinct (rate, decay, epsilon), with the rate factor as ``lr_factor``."""
    parameters = dict(model.named_parameters())
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for rule in rules:
        if rule.name in parameters:
            adamw = optimizer == "adamw"
            key = (rule.adamw, rule.decay, rule.epsilon) if adamw else (rule.sgd, rule.sgd_decay, 1.0)
            groups.setdefault(key, []).append(parameters[rule.name])
    result = []
    for (rate, decay, epsilon), members in sorted(groups.items(), key=lambda item: item[0]):
        group = {"params": members, "lr": lr * rate, "lr_factor": rate, "weight_decay": weight_decay * decay}
        if optimizer == "adamw":
            group["eps"] = eps * epsilon
        result.append(group)
    return result


def _row(table: Mapping[str, Row], role: str) -> Row:
    if role not in table:
        raise unknown("role", role, table)
    return table[role]


def _fans(role: Role, base: Role) -> tuple[float, float]:
    return role.fan_in / base.fan_in, role.fan_out / base.fan_out


def _rule(name: str, role: Role, shape: tuple[int, ...], row: Row, at: tuple[float, float, float]) -> Rule:
    scales = role.init is not None and role.init.scales
    init = row.init(*at) if scales or row.init.zero else 1.0
    std = role.init.std if role.init else None
    return Rule(
        name=name,
        role=role.row,
        shape=shape,
        m_in=at[1],
        m_out=at[2],
        init_std=None if std is None else std * init,
        init=init,
        forward=row.forward(*at),
        adamw=row.adamw(*at),
        sgd=row.sgd(*at),
        decay=row.decay(*at) if row.decays else 0.0,
        sgd_decay=row.sgd_decay(*at) if row.decays else 0.0,
        epsilon=row.epsilon(*at),
    )


@torch.no_grad()
def _initialize(parameter: nn.Parameter, role: Role, factor: float, name: str, seed: int) -> None:
    assert role.init is not None, name
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
    sample = role.init.sample(tuple(parameter.shape), generator)
    parameter.copy_(sample if factor == 1.0 else sample * factor)
