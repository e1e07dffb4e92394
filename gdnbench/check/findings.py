"""What checks found: a line a finding, with file, check, the first place where it shows, and what would mend it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["ok", "FAILED", "not run"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A mistake.

    Attributes:
        place: where it shows first: a line of the file, a position, a parameter.
        found: what was seen.
        remedy: what would mend it.
    """

    place: str
    found: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One check.

    Attributes:
        name: its name.
        about: what it looks at.
        outcome: how it ended.
        findings: what it found.
        note: why it was not run, or what of it was left out.
        seconds: what it took.
    """

    name: str
    about: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """All checks of a file."""

    file: str
    checked: tuple[Checked, ...]

    @property
    def failed(self) -> bool:
        """Whether anything was found, or could not be looked for."""
        return any(one.outcome != "ok" for one in self.checked)

    def lines(self) -> list[str]:
        """Return what people read: the checks that passed in short, every finding in full, and the totals."""
        lines: list[str] = []
        for one in self.checked:
            lines += self._lines(one)
        passed = sum(one.outcome == "ok" for one in self.checked)
        seconds = sum(one.seconds for one in self.checked)
        return [*lines, f"{self.file}: {passed} of {len(self.checked)} checks passed in {seconds:.0f} s"]

    def as_json(self) -> str:
        """Return the same as one JSON object."""
        return json.dumps(
            {"file": self.file, "failed": self.failed, "checks": [_plain(c) for c in self.checked]}, indent=1
        )

    def _lines(self, one: Checked) -> Sequence[str]:
        if one.outcome == "ok":
            return [f"ok       {one.name}: {one.about}{f' ({one.note})' if one.note else ''}"]
        if one.outcome == "not run":
            return [f"not run  {one.name}: {one.note}"]
        return [
            f"FAILED   {self.file}: {one.name}: {finding.place}: {finding.found}; {finding.remedy}"
            for finding in one.findings
        ]


def _plain(one: Checked) -> dict[str, Any]:
    return {**vars(one), "findings": [vars(finding) for finding in one.findings]}
