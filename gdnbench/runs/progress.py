"""What a run tells while it works, and how it is asked to stop."""

from collections.abc import Callable
from dataclasses import dataclass


class Interrupted(Exception):
    """The run was asked to stop; it has saved a checkpoint and can be resumed."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A sign of life: how far a run is, its loss in nats (None before the first) and tokens per second."""

    run_id: str
    fraction: float
    loss: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Where a run reports to (``beat``) and asks whether to go on (``stop``)."""

    beat: Callable[[Beat], None] = lambda beat: None
    stop: Callable[[], bool] = lambda: False
