"""What one kernel measurement is: operation, backend, sizes, regime, direction and clock, with an id made of them."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal

from gdnbench.configuration import digest
from gdnbench.errors import GdnbenchError

Direction = Literal["forward", "backward", "forward_backward"]
Timing = Literal["device", "eager", "first_call"]


@dataclass(frozen=True, order=True)
class Shape:
    """Batch, time, heads, key head dim and value head dim, by the letters of the records."""

    B: int
    T: int
    H: int
    K: int
    V: int

    def __str__(self) -> str:
        return ",".join(map(str, dataclasses.astuple(self)))


@dataclass(frozen=True, kw_only=True)
class KernelCase:
    """One measurement.

    Attributes:
        op: the operation (`gdnbench.measure.kernels.operations.OPERATIONS`).
        impl: the backend, by name.
        shape: sizes; a decode step has T = 1.
        dtype: type of q, k, v and what corresponds to them elsewhere; gates are float32.
        direction: ``forward`` (without gradients), ``forward_backward``, or ``backward`` alone.
        timing: ``device`` (the GPU's work alone), ``eager`` (one call with its launches) or ``first_call`` (from the
            start of a process).
        qk_norm: ``given`` (q and k come normalized) or ``raw`` (the call normalizes them).
        gates: how fast the state decays (`gdnbench_kernels.testing.Decay`).
        variant: a form of the call that is timed against another one; empty for the plain call.
        seed: seeds the inputs.
        device: ``cuda`` or ``cpu``.
    """

    op: str
    impl: str
    shape: Shape
    dtype: str
    direction: Direction
    timing: Timing
    qk_norm: Literal["given", "raw"]
    gates: str
    variant: str = ""
    seed: int = 0
    device: str = "cuda"

    def spec(self) -> dict[str, Any]:
        """Return the case as a record holds it: one level, sizes by their letters."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "shape"}
        return {**plain, **dataclasses.asdict(self.shape)}

    @functools.cached_property
    def run_id(self) -> str:
        """A readable name that ends in 10 digits of the hash of the case."""
        sizes = str(self.shape).replace(",", "x")
        parts = (self.op, self.impl, sizes, self.direction, self.timing, self.qk_norm, self.gates)
        return "-".join([*parts, digest(self.spec())[:10]])

    @property
    def name(self) -> str:
        """The backend, with the variant where there is one."""
        return f"{self.impl} ({self.variant})" if self.variant else self.impl


def parse_shape(text: str, letters: str = "B,T,H,K,V") -> tuple[int, ...]:
    """Return the sizes of ``8,4096,16,128,128``; raise `GdnbenchError` unless each letter has one, above 0."""
    parts = text.split(",")
    try:
        sizes = tuple(int(part) for part in parts)
    except ValueError:
        sizes = ()
    if len(sizes) != len(letters.split(",")) or min(sizes, default=0) < 1:
        raise GdnbenchError(f"shape {text!r}: expected {letters} as whole numbers above 0, such as 8,4096,16,128,128")
    return sizes
