"""Whether a layer's parts are computed one by one, each module called by itself, or several as one operation.

Together is faster, apart is what forward hooks need: a module that is not called puts nothing out. Both are the same up
to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_apart = False


def computed_apart() -> bool:
    """Return whether every module is to be called by itself."""
    return _apart


@contextmanager
def apart() -> Iterator[None]:
    """Compute all parts one by one in this block (in all threads)."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before
