"""Errors a user can mend: each says in one line what was asked, what was found and what would work."""

import difflib
from collections.abc import Iterable


class GdnbenchError(Exception):
    """A mistake of input, files or machine. The command line prints it as one line and exits with code 2."""


class WidthError(GdnbenchError):
    """A model width at which some dimension would be no whole, or no allowed, number."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of ``known`` that look most like ``name``."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def unknown(kind: str, name: object, known: Iterable[str]) -> GdnbenchError:
    """Return the error for a name that does not exist, with the nearest names or, failing these, all of them."""
    names = sorted(set(known))
    close = nearest(str(name), names)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names) or 'none'}"
    return GdnbenchError(f"unknown {kind} {str(name)!r}; {hint}")
