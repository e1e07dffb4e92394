"""The part of the check that needs no GPU: every shipped kernel is compiled and compared with the stored table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gdnbench_kernels
from gdnbench_kernels import compiled, resources

from gdnbench.environment import usable_cores
from gdnbench.errors import GdnbenchError
from gdnbench.measure.regression.aligned import aligned
from gdnbench.measure.regression.compiling import Compiled, Listing, Row, compile_all
from gdnbench.measure.regression.table import Change, Table, changes

UPDATE = "run `gdnbench bench check --update`, and commit"
MOST_WORKERS = 8  # each takes a gigabyte at times
TABLE = Path(gdnbench_kernels.__file__).with_name("resources.json")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is to be said of some rows that share one kernel.

    Attributes:
        rows: the rows.
        change: what moved.
        worse: whether this, or another change of the same kernel, is for the worse: what it was paid with, or bought.
    """

    rows: list[Row]
    change: Change
    worse: bool

    def cells(self) -> tuple[str, ...]:
        """Return the finding as a line of a table."""
        first = self.rows[0]
        others = f" (and {len(self.rows) - 1} more)" if len(self.rows) > 1 else ""
        return (
            f"sm_{first.arch}",
            first.kernel,
            first.case + others,
            self.change.what,
            self.change.stored,
            self.change.now,
            "" if self.change.worse == self.worse else "better",
        )


def check(
    *,
    path: Path = TABLE,
    listing: Listing = compiled.launches,
    architectures: Sequence[int] = compiled.ARCHITECTURES,
    update: bool = False,
) -> tuple[list[str], bool]:
    """Compile what ``listing`` names; return lines to print, and whether nothing is worse than the table at ``path``.

    With ``update`` the table is written anew instead of compared with.
    """
    stored = None if update else Table.load(path)
    kernels = compile_all(listing, architectures, workers=max(2, min(MOST_WORKERS, usable_cores())))
    if not kernels:
        raise GdnbenchError("no kernel is listed, so there is nothing to compare")
    now = _table(kernels, architectures)
    lines = [*_summary(kernels), *_failures(kernels)]
    if stored is None:
        now.save(path)
        return [*lines, f"stored in {path}"], True
    lines += _compilers(stored, now, architectures)
    findings = [*_moved(stored, now, kernels), *_gone(stored, now, architectures)]
    worse, better = ([finding for finding in findings if finding.worse is side] for side in (True, False))
    for title, chosen in (("worse:", worse), (f"improved: {UPDATE}", better)):
        if chosen:
            head = ("arch", "kernel", "case", "what", "stored", "now", "")
            lines += ["", title, *aligned([head, *(finding.cells() for finding in chosen)])]
    return lines, not worse


def _table(kernels: Sequence[Compiled], architectures: Sequence[int]) -> Table:
    ptxas = {str(arch): resources.ptxas_version(arch) for arch in architectures}
    found = {row: kernel.resources for kernel in kernels for row in kernel.rows}
    return Table(triton=resources.TRITON_VERSION, ptxas=ptxas, kernels=found)


def _failures(kernels: Sequence[Compiled]) -> Iterator[str]:
    for kernel in kernels:
        if kernel.resources is None:
            where = ", ".join(row.case for row in kernel.rows)
            yield f"sm_{kernel.rows[0].arch}: {kernel.rows[0].kernel} ({where}) does not compile: {kernel.failure}"


def _compilers(stored: Table, now: Table, architectures: Sequence[int]) -> Iterator[str]:
    for arch in architectures:
        if stored.compiler(arch) != now.compiler(arch):
            yield (
                f"sm_{arch}: compiled with {now.compiler(arch)}, the table with {stored.compiler(arch)}: "
                "only compilation and spills are compared"
            )


def _moved(stored: Table, now: Table, kernels: Sequence[Compiled]) -> Iterator[Finding]:
    for kernel in kernels:
        # Rows that share a kernel now may have had kernels of their own; each change is said once.
        by_change: dict[Change, list[Row]] = {}
        for row in kernel.rows:
            if row not in stored.kernels:
                found = [Change(what="not in the table", stored="", now=UPDATE, worse=True)]
            else:
                same = stored.compiler(row.arch) == now.compiler(row.arch)
                found = changes(stored.kernels[row], kernel.resources, same_compiler=same)
            for change in found:
                by_change.setdefault(change, []).append(row)
        worse = any(change.worse for change in by_change)
        yield from (Finding(rows=rows, change=change, worse=worse) for change, rows in by_change.items())


def _gone(stored: Table, now: Table, architectures: Sequence[int]) -> Iterator[Finding]:
    change = Change(what="no longer launched", stored="in the table", now="", worse=True)
    for row in sorted(stored.kernels.keys() - now.kernels.keys()):
        if row.arch in architectures:
            yield Finding(rows=[row], change=change, worse=True)


def _summary(kernels: Sequence[Compiled]) -> Iterator[str]:
    slowest = max(kernels, key=lambda kernel: kernel.seconds)
    found = [kernel.resources for kernel in kernels if kernel.resources]
    yield (
        f"{len(kernels)} kernels, serving {sum(len(kernel.rows) for kernel in kernels)} rows of the table, compiled in "
        f"{sum(kernel.seconds for kernel in kernels):.0f} s of processor time "
        f"(slowest: {slowest.rows[0].kernel} of {slowest.rows[0].case}, {slowest.seconds:.1f} s)"
    )
    yield (
        f"{sum(r.spill_bytes > 0 for r in found)} spill, {sum(r.wgmma_rs > 0 for r in found)} take register operands, "
        f"{sum(r.serialized for r in found)} are serialized, {len(kernels) - len(found)} do not compile"
    )
