"""Counted things in lines that people read."""


def plural(number_of: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs`` or ``2 processes``."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 'es' if noun.endswith('ss') else 's'}"


def are(number_of: int) -> str:
    """Return ``is`` for one, ``are`` for any other number."""
    return "is" if number_of == 1 else "are"
