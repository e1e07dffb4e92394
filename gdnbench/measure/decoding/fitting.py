"""Whether a measurement of generation fits into the device's memory, planned from bytes before anything is run."""

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.floors import counted, row_bytes

RESERVE = 2 * 2**30  # bytes that the driver, libraries and graphs take of a GPU


def needed_bytes(case: DecodeCase) -> int:
    """Return the bytes of weights, of all rows' states at their ends, and of a prompt's activations."""
    memory = case.demand().memory(counted(case.model))
    return memory.weights + memory.state + memory.workspace + (RESERVE if case.device == "cuda" else 0)


def why_too_large(case: DecodeCase, available: int) -> str | None:
    """Return that a case does not fit into so many bytes, with what it needs and which batch would fit; else None."""
    needed = needed_bytes(case)
    if needed <= available:
        return None
    row = row_bytes(case, case.capacity)
    fits = case.batch - -(-(needed - available) // row) if row else 0
    smaller = f"batch {fits} would fit" if fits > 0 else "no batch would fit"
    return (
        f"not run: it needs about {needed / 2**30:.1f} GiB, of which {case.batch * row / 2**30:.1f} are the rows' "
        f"states, and the device has {available / 2**30:.1f}; {smaller}"
    )
