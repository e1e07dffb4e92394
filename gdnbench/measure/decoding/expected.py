"""How long measurements of generation are expected to take: guesses, for who plans a budget, and for nothing else."""

from gdnbench.measure.decoding.case import UNTIMED, DecodeCase
from gdnbench.measure.decoding.floors import prefill_floor_s, step_floor_s
from gdnbench.measure.decoding.measuring import FIRSTS
from gdnbench.measure.kernels.calibration import Calibration

START_S, PEER_START_S = 20.0, 60.0  # imports, a model, its check; libraries compile and search, too
CASE_S = 1.5  # an engine, its graph, the copies of a state
SHARE = 0.5  # of floors that is reached
PEER_TOKEN_S = 0.06  # of a peer that waits for the host


def start_s(case: DecodeCase) -> float:
    """Return the seconds from the start of a process to its first measurement."""
    if case.device == "cpu":
        return 5.0
    return START_S if case.ours else PEER_START_S


def seconds(case: DecodeCase, read_gb_s: float, calibration: Calibration) -> float:
    """Return the seconds of one measurement."""
    step = step_floor_s(case, case.length, read_gb_s, calibration) / SHARE
    fed, feeds = (1, 1 + FIRSTS) if case.ours else (case.batch, 2 + FIRSTS + case.repeats)
    step = step if case.ours else max(step, PEER_TOKEN_S)
    tokens = UNTIMED + case.repeats * (case.tokens + 1)
    return CASE_S + feeds * prefill_floor_s(case, fed, calibration) / SHARE + tokens * step
