"""A limit on the time of a call: what still fits, and when to stop."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """A call's time.

    Attributes:
        seconds: how long runs may be worked on.
        whole: whether a run is started only if it is expected to end in time; else any is, and saved when time is up.
        started: when the call began, by `time.monotonic`.
    """

    seconds: float
    whole: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left; negative when time is up."""
        return self.started + self.seconds - time.monotonic()

    def allows(self, expected: float) -> bool:
        """Return whether a run of so many expected seconds may begin now."""
        return self.left > 0 and (not self.whole or expected <= self.left)
