"""Parametrizations: tables of monomials by role, and the one engine that applies them."""

from gdnbench.models.parametrization.engine import Rule, apply, parameter_groups
from gdnbench.models.parametrization.table import Parametrization, label, rows, table_names

__all__ = ["Parametrization", "Rule", "apply", "label", "parameter_groups", "rows", "table_names"]
