"""What a parity run found, as a table and as a record."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gdnbench.configuration import to_mapping
from gdnbench.measure.parity.compare import Finding
from gdnbench.measure.parity.peer import Peer
from gdnbench.models.config import DEFAULT_BACKEND, ModelConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for.

    Attributes:
        device: ``cpu`` or ``cuda``, for both sides.
        dtype: see `Comparison`.
        backend: of our operations, as in `ModelConfig`.
        seed: of random weights and of tokens.
        tuned: whether a peer's kernels search for their fastest configuration, as they do in training.
    """

    device: str
    dtype: str
    backend: str | dict[str, str] = DEFAULT_BACKEND
    seed: int = 0
    tuned: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one peer: findings, or why there are none.

    Attributes:
        arch: our architecture.
        peer: the peer.
        weights: where the weights come from, in words.
        model: the configuration of ours.
        what_ran: the library's version, and what decided which of its kernels ran.
        findings: one a quantity.
        absent: why it was not compared; a peer that cannot run here is no failure.
        failure: what broke.
    """

    arch: str
    peer: Peer
    weights: str
    model: ModelConfig | None = None
    what_ran: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    absent: str = ""
    failure: str = ""

    @property
    def same(self) -> bool:
        """Whether it was compared and every quantity is within its tolerance."""
        return bool(self.findings) and all(finding.same for finding in self.findings)


@dataclass(frozen=True)
class Report:
    """All outcomes of a run; ``asked`` are the architectures that were asked for by name."""

    options: Options
    asked: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether something is beyond its tolerance or broke, or was asked for and has no peer that can run here."""
        return bool(self.missing) or any(not outcome.same and not outcome.absent for outcome in self.outcomes)

    @property
    def missing(self) -> list[str]:
        """The architectures that were asked for and compared with no peer."""
        compared = {outcome.arch for outcome in self.outcomes if not outcome.absent}
        return [arch for arch in self.asked if arch not in compared]

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        for outcome in self.outcomes:
            yield from _lines(outcome, self.options)
        compared = [outcome for outcome in self.outcomes if not outcome.absent]
        same = sum(outcome.same for outcome in compared)
        if self.missing:
            yield f"asked for, but not compared: {', '.join(self.missing)}"
        absent = len(self.outcomes) - len(compared)
        skipped = f"; {absent} could not be compared here" if absent else ""
        yield f"{same} of {len(compared)} peers agree in {self.options.dtype} on {self.environment['device']}{skipped}"

    def as_json(self) -> str:
        """Return the report as one JSON object."""
        return json.dumps(
            {
                "environment": self.environment,
                "options": vars(self.options),
                "outcomes": [_content(outcome) for outcome in self.outcomes],
                "same": not self.failed,
            },
            indent=1,
        )


def _lines(outcome: Outcome, options: Options) -> Iterator[str]:
    yield f"{outcome.arch} against {outcome.peer.name}"
    if outcome.absent or outcome.failure:
        yield f"  not compared: {outcome.absent}" if outcome.absent else f"  FAILED: {outcome.failure}"
        yield ""
        return
    yield f"  weights: {outcome.weights}; backend {options.backend}"
    yield f"  {'quantity':12} {'largest relative error':>22} {'tolerance':>10}  {'verdict':9} where"
    for finding in outcome.findings:
        verdict = "same" if finding.same else "FAILED" if finding.failure else "DIFFERENT"
        numbers = f"{finding.error:>22.1e} {finding.tolerance:>10.0e}"
        yield f"  {finding.quantity:12} {numbers}  {verdict:9} {finding.failure or finding.where}"
    for line in outcome.peer.not_covered:
        yield f"  not covered: {line}"
    yield ""


def _content(outcome: Outcome) -> dict[str, Any]:
    return {
        "arch": outcome.arch,
        "library": outcome.peer.library,
        "what_ran": outcome.what_ran,
        "peer": outcome.peer.model,
        "weights": outcome.weights,
        "model": to_mapping(outcome.model),
        "findings": [_finding(finding) for finding in outcome.findings],
        "not_covered": list(outcome.peer.not_covered),
        "absent": outcome.absent,
        "failure": outcome.failure,
        "same": outcome.same,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    error = finding.error if math.isfinite(finding.error) else None  # JSON has no infinity
    return {**vars(finding), "error": error, "same": finding.same}
