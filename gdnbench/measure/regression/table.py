"""The stored table of what each kernel compiles to, and the rules by which a kernel has got worse."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gdnbench_kernels.resources import Resources

from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression.compiling import Row

# ptxas hands out registers in eights, and a fixed compiler answers the same source alike: what moves by less than one
# such unit, without costing a block on the SM, is a neighbouring choice of its allocator and no news.
REGISTER_TOLERANCE = 8
SHARED_TOLERANCE = 0.05

# Kinds of matrix products, the most capable first.
PRODUCTS = ("tcgen05", "wgmma_ss", "wgmma_rs", "mma")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One property of a kernel that moved: how it reads in the table and now."""

    what: str
    stored: str
    now: str
    worse: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """What each row took (None: it did not compile), and the compilers' versions, of ptxas by architecture."""

    triton: str
    ptxas: Mapping[str, str]
    kernels: Mapping[Row, Resources | None]

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read a table; one that is not there, or damaged, is an error that says how to make one."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            kernels = {_row_of(entry): _resources_of(entry) for entry in stored["kernels"]}
            return cls(triton=stored["triton"], ptxas=stored["ptxas"], kernels=kernels)
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise GdnbenchError(
                f"{path}: no table of resources ({problem}); `gdnbench bench check --update` makes one"
            ) from None

    def save(self, path: Path) -> None:
        """Write the table, a kernel a line."""
        lines = [json.dumps({**asdict(row), **_told(found)}) for row, found in sorted(self.kernels.items())]
        head = f'{{"triton": {json.dumps(self.triton)}, "ptxas": {json.dumps(dict(self.ptxas))}, "kernels": [\n '
        path.write_text(head + ",\n ".join(lines) + "\n]}\n", encoding="utf-8")

    def compiler(self, arch: int) -> str:
        """Return the compilers for ``arch`` in words."""
        return f"triton {self.triton}, ptxas {self.ptxas.get(str(arch), 'of no version')}"


def changes(stored: Resources | None, now: Resources | None, *, same_compiler: bool = True) -> list[Change]:
    """Return what moved between a stored row and the present: worse or better, nothing that is neither.

    Worse is: no longer compiling; more spills; more registers than the tolerance, or so many that fewer blocks fit on
    an SM; more shared memory than the tolerance; fewer matrix instructions of a kind with no more capable kind in their
    place, or more that take a register operand; products that ptxas serializes. With another compiler only the first
    two are compared.
    """
    if stored is None or now is None:
        before, after = ("no" if found is None else "yes" for found in (stored, now))
        gone = _change("compiles", before, after, now is None)
        return [gone] if gone else []
    moved = [_spills(stored, now)]
    if same_compiler:
        moved += [_registers(stored, now), _shared(stored, now), _products(stored, now), _serialized(stored, now)]
    return [change for change in moved if change is not None]


def _spills(stored: Resources, now: Resources) -> Change | None:
    return _change("spill bytes", stored.spill_bytes, now.spill_bytes, now.spill_bytes > stored.spill_bytes)


def _registers(stored: Resources, now: Resources) -> Change | None:
    def name(found: Resources) -> str:
        return f"{found.registers} ({found.blocks_by_registers} blocks an SM)"

    if (
        abs(now.registers - stored.registers) <= REGISTER_TOLERANCE
        and now.blocks_by_registers == stored.blocks_by_registers
    ):
        return None
    worse = now.blocks_by_registers < stored.blocks_by_registers or now.registers > stored.registers
    return _change("registers", name(stored), name(now), worse)


def _shared(stored: Resources, now: Resources) -> Change | None:
    if abs(now.shared_bytes - stored.shared_bytes) <= SHARED_TOLERANCE * stored.shared_bytes:
        return None
    return _change("shared bytes", stored.shared_bytes, now.shared_bytes, now.shared_bytes > stored.shared_bytes)


def _products(stored: Resources, now: Resources) -> Change | None:
    def name(found: Resources) -> str:
        return ", ".join(f"{getattr(found, kind)} {kind}" for kind in PRODUCTS if getattr(found, kind)) or "none"

    def falls(place: int) -> bool:
        """Whether there are fewer products of a kind, and not because a more capable one took them over."""
        moved = [getattr(now, kind) - getattr(stored, kind) for kind in PRODUCTS[: place + 1]]
        return moved[-1] < 0 and not any(more > 0 for more in moved)

    worse = now.wgmma_rs > stored.wgmma_rs or any(map(falls, range(len(PRODUCTS))))
    return _change("matrix instructions", name(stored), name(now), worse)


def _serialized(stored: Resources, now: Resources) -> Change | None:
    said = {False: "asynchronous", True: "serialized"}
    return _change("warpgroup products", said[stored.serialized], said[now.serialized], now.serialized)


def _change(what: str, stored: object, now: object, worse: bool) -> Change | None:
    return Change(what=what, stored=f"{stored}", now=f"{now}", worse=worse) if stored != now else None


def _told(found: Resources | None) -> dict[str, int]:
    """Return the properties without those that are at their default of zero."""
    if found is None:
        return {"compiles": False}
    always = ("registers", "spill_bytes", "shared_bytes", "threads")
    return {name: value for name, value in asdict(found).items() if value or name in always}


def _row_of(entry: dict[str, Any]) -> Row:
    return Row(arch=entry.pop("arch"), case=entry.pop("case"), kernel=entry.pop("kernel"))


def _resources_of(entry: dict[str, Any]) -> Resources | None:
    return Resources(**entry) if entry.pop("compiles", True) else None
