"""Counted things, and names, in lines that people read."""

from collections.abc import Mapping


def plural(number_of: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs`` or ``2 processes``."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 'es' if noun.endswith('ss') else 's'}"


def parametrization(table: str, switches: Mapping[str, str]) -> str:
    """Return ``mup_gdn`` or ``mup_gdn with decay_mode=independent``."""
    chosen = ", ".join(f"{name}={choice}" for name, choice in sorted(switches.items()))
    return f"{table} with {chosen}" if chosen else table


def are(number_of: int) -> str:
    """Return ``is`` for one, ``are`` for any other number."""
    return "is" if number_of == 1 else "are"
