"""Random draws from raw bits of PCG64, which NumPy promises never to change; equal keys give equal draws."""

import numpy as np


class Draws:
    """A stream of draws that its key, a few whole numbers, determines."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, *shape: int) -> np.ndarray:
        """Return numbers between 0 and 1, both excluded."""
        return ((self._raw(*shape) >> np.uint64(11)) + 0.5) * 2.0**-53

    def integers(self, below: int, *shape: int) -> np.ndarray:
        """Return whole numbers from 0 to ``below - 1``, int64 (uneven by less than ``below / 2^64``)."""
        return (self._raw(*shape) % np.uint64(below)).astype(np.int64)

    def distinct(self, below: int, rows: int, size: int) -> np.ndarray:
        """Return ``size`` different whole numbers below ``below`` in each row, in random order, int64 [rows, size]."""
        if 4 * size > below:
            return self.uniform(rows, below).argsort(axis=1, kind="stable")[:, :size]
        # The first different ones of twice as many draws; whether a row has enough does not depend on which they are.
        found = np.empty((rows, size), dtype=np.int64)
        todo = np.arange(rows)
        while len(todo):
            drawn = self.integers(below, len(todo), 2 * size)
            first = _first_occurrences(drawn)
            place = first.cumsum(axis=1)
            enough = place[:, -1] >= size
            kept = first & (place <= size) & enough[:, None]
            found[todo[enough]] = drawn[kept].reshape(-1, size)
            todo = todo[~enough]
        return found

    def weighted(self, weights: np.ndarray, rows: int, size: int) -> np.ndarray:
        """Return ``size`` different places in each row, drawn one after the other by weight, int64 [rows, size].

        An exponential race (Efraimidis and Spirakis 2006): the places that finish first, in that order.
        """
        race = -np.log(self.uniform(rows, len(weights))) / weights
        return race.argsort(axis=1, kind="stable")[:, :size]

    def _raw(self, *shape: int) -> np.ndarray:
        return self._bits.random_raw(int(np.prod(shape))).reshape(shape)


def _first_occurrences(values: np.ndarray) -> np.ndarray:
    """Return which entries of each row differ from all before them, bool like ``values`` [rows, n]."""
    order = values.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
