"""Generation after prompts of one length, as it is measured, whoever does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether what is generated is right.

    Attributes:
        correct: whether it is.
        checked: what was compared, and by which bound.
        error: largest relative error that was found; None where nothing is compared by numbers.
        problem: what was wrong; empty where nothing was.
    """

    correct: bool
    checked: str
    error: float | None = None
    problem: str = ""


class Session(Protocol):
    """Rows of one batch, with prompts of one length.

    Attributes:
        fed: rows whose prompts are really fed; the others, if any, get a copy of the first one's state.
    """

    fed: int

    def first(self) -> list[int]:
        """Feed the prompts from their start; return the first token of each fed row, once it is on the host."""
        ...

    def begin(self) -> None:
        """Put all rows where their prompts end."""
        ...

    def warm(self) -> None:
        """Generate what is not timed: graphs are captured, steps compiled."""
        ...

    def stretch(self, tokens: int, mark: Callable[[], None]) -> None:
        """Generate one token more than that in every row; ``mark`` is called after each was given to the device."""
        ...

    def mixer(self) -> Callable[[], object] | None:
        """Return a call of the first block's mixer on one prompt's length; None where it cannot be called alone."""
        ...

    def bytes(self) -> tuple[int, int | None]:
        """Return the bytes of the weights, and of all rows' states; None where a library does not say."""
        ...


class Host(Protocol):
    """A model that is there, and opens sessions.

    Attributes:
        params_total: its parameters, a shared one once.
        params_non_embedding: those without the token table, and without an untied head.
    """

    params_total: int
    params_non_embedding: int

    def check(self) -> Gate:
        """Say whether what it generates is right; called once, before any session."""
        ...

    def rows_fed(self, batch: int) -> int:
        """Return how many rows of a batch are fed a prompt."""
        ...

    def session(self, prompts: Tensor, batch: int, generated: int) -> Session:
        """Return a session of ``batch`` rows with ``prompts [rows fed, T]``, after which so many tokens follow."""
        ...

    def what_ran(self) -> Mapping[str, str]:
        """Return what decided which kernels ran."""
        ...
