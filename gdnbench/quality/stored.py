"""The values that are compared with, as reviewed: name of a case -> name of a number -> its value."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text

PATH = Path(__file__).with_name("stored.json")
DIGITS = 12  # of a stored number: far more than the tolerance needs, fewer than differ between machines
# Against the size of a case's largest gradient: one that all but cancels out is known no better.
NEGLIGIBLE = 1e-6

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Values by part (``fingerprints``, ``trainings``) and case, and why they were last changed."""

    reason: str
    parts: Mapping[str, Mapping[str, Values]]

    @classmethod
    def load(cls, path: Path = PATH) -> "Stored":
        """Read stored values; raise with what makes them where there are none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(reason=content.pop("reason"), parts=content)
        except (OSError, ValueError, KeyError) as error:
            raise GdnbenchError(
                f"{path}: no stored values ({type(error).__name__}); "
                "`gdnbench quality check --update --reason ...` makes them"
            ) from None

    def save(self, path: Path = PATH) -> None:
        """Write the values, a case a line."""
        lines = [f'"reason": {json.dumps(self.reason, ensure_ascii=False)}']
        for part, cases in self.parts.items():
            rows = ",\n ".join(f"{json.dumps(name)}: {_line(values)}" for name, values in cases.items())
            lines.append(f"{json.dumps(part)}: {{\n {rows}\n}}")
        write_text(path, "{" + ",\n".join(lines) + "}\n")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number of a case that is not what was stored; None where one side has none."""

    case: str
    name: str
    stored: float | None
    now: float | None

    def cells(self) -> tuple[str, ...]:
        """Return the difference as a line of a table."""
        if self.stored is None or self.now is None:
            relative = "not stored" if self.stored is None else "gone"
        else:
            relative = f"{self.now / self.stored - 1:+.1e}" if self.stored else "was 0"
        return self.case, self.name, _text(self.stored), _text(self.now), relative


def differences(case: str, stored: Values, now: Values, tolerance: float) -> Iterator[Difference]:
    """Yield the numbers of a case that differ by more than ``tolerance`` of their size, in the new ones' order."""
    largest = max((abs(value) for name, value in stored.items() if name.startswith("gradient")), default=0.0)
    for name in dict.fromkeys([*now, *stored]):
        before, after = stored.get(name), now.get(name)
        if before is None or after is None or not _near(before, after, tolerance, NEGLIGIBLE * largest):
            yield Difference(case=case, name=name, stored=before, now=after)


def _near(before: float, after: float, tolerance: float, least: float) -> bool:
    return math.isfinite(after) and abs(after - before) <= tolerance * max(abs(before), least)


def _line(values: Values) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value:.{DIGITS}g}" for name, value in values.items()) + "}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.{DIGITS}g}"
