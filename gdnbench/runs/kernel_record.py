"""What a record says of a kernel: the numbers as metrics, and how they were checked and timed."""

import math

from gdnbench.configuration import to_mapping
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.first_call import FirstCall
from gdnbench.measure.kernels.measure import Measurement
from gdnbench.results.record import metric
from gdnbench.runs.bench import Content, Metrics, ceilings, samples


def measured_content(measured: Measurement, calibration: Calibration) -> Content:
    """Return what a measurement puts into a record; a time is there only where its check is green."""
    refusal, check, clocked = measured.refusal, measured.check, measured.clocked
    metrics = {
        "floor_ms": metric(measured.floor_ms, "ms"),
        "flops": metric(sum(work.flops for work in measured.work), "FLOP"),
        "bytes": metric(sum(work.bytes for work in measured.work), "byte"),
        **ceilings(calibration),
        **_check_metrics(measured),
        **_time_metrics(measured),
    }
    data = {
        "correct": None if check is None else check.correct,
        "errors": {} if check is None else {name: _finite(error) for name, error in check.errors.items()},
        "limits": {} if check is None else dict(check.limits),
        "checked": "" if check is None else check.part,
        "peer": measured.peer,
        "what_ran": to_mapping(measured.what_ran),
        "how": "" if clocked is None else clocked.how,
        "input_sets": None if clocked is None else clocked.sets,
    }
    return Content(
        outcome="finished" if refusal is None else refusal.outcome,
        detail=refusal.reason if refusal else check.problems() if check else "",
        metrics=metrics,
        data=data,
        notes=(clocked.note,) if clocked is not None and clocked.note else (),
        rows=() if clocked is None else samples(clocked.samples),
    )


def first_call_content(found: FirstCall) -> Content:
    """Return what the time of a first call puts into a record."""
    metrics: Metrics = {}
    if found.seconds is not None and found.ready_s is not None:
        metrics = {"ms": metric(1e3 * found.seconds, "ms"), "ready_ms": metric(1e3 * found.ready_s, "ms")}
    return Content(
        outcome="finished" if metrics else "unavailable",
        detail=found.reason,
        metrics=metrics,
        data={"correct": None, "peer": "", "how": "process", "input_sets": 1},
    )


def _check_metrics(measured: Measurement) -> Metrics:
    """Return the errors that are numbers, and the peak of memory."""
    check = measured.check
    if check is None:
        return {}
    gradients = [error for name, error in check.errors.items() if name.startswith("d_")]
    found = {
        "max_rel_error": (check.worst, "relative"),
        "output_error": (check.errors["output"], "relative"),
        "gradient_error": (max(gradients) if gradients else None, "relative"),
        "peak_extra_gib": (check.peak_extra_gib, "GiB"),
    }
    known = {name: (value, unit) for name, (value, unit) in found.items() if value is not None and math.isfinite(value)}
    return {name: metric(value, unit) for name, (value, unit) in known.items()}


def _time_metrics(measured: Measurement) -> Metrics:
    """Return median, spread and ratio; nothing where there is no time to show."""
    clocked, ratio = measured.clocked, measured.ratio
    if clocked is None:
        return {}
    ms = clocked.ms
    found = {
        "ms": metric(ms.median, "ms"),
        "spread_ms": metric(ms.p90 - ms.p10, "ms"),
        "p10_ms": metric(ms.p10, "ms"),
        "p90_ms": metric(ms.p90, "ms"),
        "repeats": metric(len(clocked.samples), "1"),
    }
    if ratio is not None:
        found |= {
            "peer_ratio": metric(ratio.value, "1"),
            "peer_ratio_low": metric(ratio.low, "1"),
            "peer_ratio_high": metric(ratio.high, "1"),
        }
    return found


def _finite(value: float) -> float | None:
    """Return a number that JSON has, or None."""
    return value if math.isfinite(value) else None
