"""Running the checks on a file: all of them, whatever the earlier ones found."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gdnbench.check import machines, sequences, sizes, training, widths
from gdnbench.check.findings import Checked, Finding, Report
from gdnbench.check.subject import Subject, mixers
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models import registry

Check = Callable[[Subject], Iterator[Finding]]
"""Yields what it finds; a generator may return what of it was left out."""

CHECKS: Mapping[str, Check] = {
    "shape": sequences.shapes,
    "roles": widths.roles,
    "widths": widths.widths,
    "fans": widths.fans,
    "parameters": sizes.parameters,
    "state size": sizes.state_bytes,
    "flops": sizes.flops,
    "causality": sequences.causality,
    "causality of gradients": sequences.causality_of_gradients,
    "step": sequences.steps,
    "parts": sequences.parts,
    "rows": sequences.rows,
    "determinism": sequences.determinism,
    "gradients": training.gradients,
    "types": machines.types,
    "devices": machines.devices,
    "stability": training.stability,
}
IMPORT, BUILD = "import", "build"
# A mistake that shows at every place is told once or twice.
MOST_FINDINGS = 3


def check(
    file: Path,
    *,
    base_width: int = 32,
    options: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Check the mixer of a file, or one that is known by name.

    Args:
        file: the file; or the name of a mixer (`gdnbench.models.registry.names`).
        base_width: width at which its constants hold; it is checked at this and at twice this width.
        options: fields of the mixer's own Options.
        only: names of checks; all where none is given. Importing and building come first in any case.
        say: told which check begins.

    Raises:
        GdnbenchError: there is no such file, or no such check.
    """
    for name in only:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    checked: list[Checked] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what is small is not worth a second one
    try:
        _all(file, base_width, options or {}, only, say, checked)
    finally:
        torch.set_num_threads(threads)
    return Report(file=str(file), checked=tuple(checked))


def _all(
    file: Path,
    base_width: int,
    options: Mapping[str, Any],
    only: Sequence[str],
    say: Callable[[str], None],
    checked: list[Checked],
) -> None:
    """Run the checks, one after the other, and add how each went."""
    subject = _subject(file, base_width, options, checked)
    if subject is not None:
        checked.append(_run(BUILD, _build, subject))
    ready = bool(checked) and checked[-1].name == BUILD and checked[-1].outcome == "ok"
    for name, run in CHECKS.items():
        if only and name not in only:
            continue
        say(name)
        if subject is None or not ready:
            checked.append(Checked(name=name, about=_about(run), outcome="not run", note="it cannot be built"))
        else:
            checked.append(_run(name, run, subject))


def _subject(file: Path, base_width: int, options: Mapping[str, Any], checked: list[Checked]) -> Subject | None:
    """Import the file; add how that went."""
    about = "the file imports and defines one Mixer class"
    try:
        arch = registry.resolve(str(file))
        checked.append(Checked(name=IMPORT, about=about, outcome="ok"))
        return Subject(file=registry.source_file(arch), arch=arch, base_width=base_width, options=options)
    except GdnbenchError as error:
        if not file.is_file():
            raise
        cause = error.__cause__ or error
        place = Subject(file=file, arch="").line_of(cause)
        found = f"{type(cause).__name__}: {cause}" if error.__cause__ else str(error)
        finding = Finding(place=place, found=found, remedy="`gdnbench new-mixer NAME` writes a file that works")
        checked.append(Checked(name=IMPORT, about=about, outcome="FAILED", findings=(finding,)))
        return None


def _build(subject: Subject) -> Iterator[Finding]:
    """A decoder of two blocks with it is built."""
    mixers(subject.exact)
    return iter(())


def _run(name: str, run: Check, subject: Subject) -> Checked:
    """Run one check; an error inside the mixer is a finding, too."""
    torch.manual_seed(0)
    started = time.monotonic()
    findings: list[Finding] = []
    note = ""
    try:
        looking = run(subject)
        while len(findings) < MOST_FINDINGS:
            findings.append(next(looking))
    except StopIteration as end:
        note = end.value or ""
    except Exception as error:
        remedy = "mend what the error names"
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        findings.append(Finding(place=subject.line_of(error), found=found, remedy=remedy))
    return Checked(
        name=name,
        about=_about(run),
        outcome="FAILED" if findings else "ok",
        findings=tuple(findings),
        note=note,
        seconds=round(time.monotonic() - started, 2),
    )


def _about(run: Check) -> str:
    doc = (run.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return doc[0].lower() + doc[1:]
