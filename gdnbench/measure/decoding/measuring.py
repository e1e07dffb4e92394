"""Measuring generation at one place of the grid: prompts to the first token, then stretches of tokens, and memory."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.own import free, prompts
from gdnbench.measure.decoding.session import Host, Session
from gdnbench.measure.marks import Marks
from gdnbench.measure.memory import peak_gib, reset_peak

FIRSTS = 3  # prompts that are timed to the first token, behind one that is not
MIXERS = 7  # calls of a mixer alone, behind two that are not timed


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What was found.

    Attributes:
        fed: rows whose prompts were fed.
        first_s: seconds from a prompt on the device to its first token on the host, one a repetition.
        stretches: milliseconds of each token, by stretch.
        mixer_ms: milliseconds of the first block's mixer on one prompt's length; None where it was not timed.
        weight_bytes: of the model.
        state_bytes: of all rows' states; None where a library does not say.
        prefill_peak_gib: peak memory until the prompts were fed.
        decode_peak_gib: peak memory while tokens were generated.
        notes: what a record must say.
    """

    fed: int
    first_s: tuple[float, ...]
    stretches: tuple[tuple[float, ...], ...]
    mixer_ms: float | None
    weight_bytes: int
    state_bytes: int | None
    prefill_peak_gib: float
    decode_peak_gib: float
    notes: tuple[str, ...] = ()


def measure(host: Host, case: DecodeCase) -> Decoded:
    """Measure a case by a model that is there; the clock begins when everything has run once."""
    free(case.device)
    notes = set(reset_peak(case.device))
    session = host.session(prompts(case, host.rows_fed(case.batch), case.context), case.batch, case.generated)
    session.first()
    first_s = tuple(_seconds(session.first, case.device) for _ in range(FIRSTS))
    prefill_peak = peak_gib(case.device)
    session.begin()
    free(case.device)
    notes |= set(reset_peak(case.device))
    session.warm()
    stretches = tuple(_stretch(session, case) for _ in range(case.repeats))
    weights, states = session.bytes()
    return Decoded(
        fed=session.fed,
        first_s=first_s,
        stretches=stretches,
        decode_peak_gib=peak_gib(case.device),
        mixer_ms=_mixer_ms(session, case) if case.batch == 1 else None,
        weight_bytes=weights,
        state_bytes=states,
        prefill_peak_gib=prefill_peak,
        notes=tuple(sorted(notes)),
    )


def _stretch(session: Session, case: DecodeCase) -> tuple[float, ...]:
    """Return the milliseconds of each token of a stretch; nothing waits for the device within it."""
    marks = Marks(case.device)
    session.stretch(case.tokens, marks)
    times = marks.ms()
    if len(times) != case.tokens:
        raise RuntimeError(f"{len(times) + 1} tokens were generated where {case.tokens + 1} were asked for")
    return times


def _seconds(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _mixer_ms(session: Session, case: DecodeCase) -> float | None:
    call = session.mixer()
    if call is None:
        return None
    for _ in range(2):
        call()
    marks = Marks(case.device)
    marks()
    for _ in range(MIXERS):
        call()
        marks()
    return statistics.median(marks.ms())
