"""What a record says of a training speed: the numbers as metrics, and the step's components beside their floors."""

from typing import Any

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.ratios import spread
from gdnbench.measure.training.case import TrainingCase
from gdnbench.measure.training.components import COMPONENTS, by_component
from gdnbench.measure.training.floors import floors
from gdnbench.measure.training.stepping import MARGIN, UNTIMED, Stepped
from gdnbench.models.decoder import Decoder, on_meta
from gdnbench.peak import mfu
from gdnbench.results.record import metric
from gdnbench.runs.bench import Content, Metrics, ceilings, samples

SHOWN_KERNELS = 40  # rows of a profile: below these are microseconds


def measured_content(
    case: TrainingCase, found: Stepped, started: float, calibration: Calibration, device: str
) -> Content:
    """Return what a measurement puts into a record; a time is there only where the step trains.

    Args:
        case: what was measured.
        found: what the process found.
        started: when the process started (`time.time`).
        calibration: the ceilings of this run.
        device: the device's name, for its peak.
    """
    model = on_meta(case.model)
    least, note = _floors(case, model, calibration)
    metrics: Metrics = {
        "params_total": metric(found.params_total, "1"),
        "params_non_embedding": metric(found.params_non_embedding, "1"),
        "flops_per_token": metric(model.flops_per_token(case.seq_len, training=True), "FLOP"),
        **ceilings(calibration),
    }
    if least:
        total = sum(least.values())
        metrics["floor_ms"] = metric(total, "ms")
        metrics["floor_tokens_per_s"] = metric(1e3 * case.batch * case.seq_len / total, "token/s")
    losses = {"first_loss": found.first_loss, "gate_loss": found.gate_loss}
    metrics |= {name: metric(loss, "nat/token") for name, loss in losses.items() if loss is not None}
    metrics |= _times(case, found, started, metrics["flops_per_token"]["value"], device) if found.step_ms else {}
    return Content(
        outcome="finished",
        detail="" if found.trains else _problem(found),
        metrics=metrics,
        data={
            "correct": found.trains,
            "checked": f"loss after {UNTIMED} steps at least {MARGIN:g} nats below the first",
            "what_ran": dict(found.what_ran),
            "how": "events" if case.device == "cuda" else "clock",
            "profiled": bool(found.kernels),
        },
        notes=(note,) if note else (),
        rows=(*samples(found.step_ms), *_components(found, least)),
    )


def refused_content(case: TrainingCase, reason: str) -> Content:
    """Return what stands in the record of a case without numbers: a peer that cannot run is no fault of ours."""
    data: dict[str, Any] = {"correct": None, "checked": "", "what_ran": {}, "how": "", "profiled": False}
    return Content(outcome="failed" if case.ours else "unavailable", detail=reason, metrics={}, data=data)


def _floors(case: TrainingCase, model: Decoder, calibration: Calibration) -> tuple[dict[str, float], str]:
    """Return the floor of every component, or nothing and why not."""
    try:
        return floors(model, case.batch, case.seq_len, calibration), ""
    except GdnbenchError as error:
        return {}, str(error)


def _times(case: TrainingCase, found: Stepped, started: float, flops: float, device: str) -> Metrics:
    tokens = case.batch * case.seq_len
    step, rate = spread(found.step_ms), len(found.step_ms) * tokens / found.seconds
    metrics = {
        "tokens_per_s": metric(rate, "token/s"),
        "spread_tokens_per_s": metric(1e3 * tokens * (1 / step.p10 - 1 / step.p90), "token/s"),
        "step_ms": metric(step.median, "ms"),
        "p10_ms": metric(step.p10, "ms"),
        "p90_ms": metric(step.p90, "ms"),
        "peak_gib": metric(found.peak_gib, "GiB"),
        "first_step_s": metric(found.first_step_s, "s"),
        "ready_s": metric(found.ready - started, "s"),
        "untimed_s": metric(found.untimed_s, "s"),
    }
    if found.reserved_gib is not None:
        metrics["reserved_gib"] = metric(found.reserved_gib, "GiB")
    if (share := mfu(flops, rate, device)) is not None:
        metrics["mfu"] = metric(share, "1")
    return metrics


def _components(found: Stepped, least: dict[str, float]) -> tuple[dict[str, Any], ...]:
    """Return a row for each component and, of a profile, for each kernel that takes long."""
    times = by_component(found.kernels, spread(found.step_ms).median) if found.kernels else {}
    shown = [name for name in COMPONENTS if name in times or name in least]
    rows: list[dict[str, Any]] = [
        {"type": "component", "component": name, "ms": times.get(name), "floor_ms": least.get(name)} for name in shown
    ]
    rows += [
        {"type": "kernel", "name": kernel.name[:200], "component": kernel.component, "ms": kernel.ms,
         "calls": kernel.calls}
        for kernel in found.kernels[:SHOWN_KERNELS]
    ]  # fmt: skip
    return tuple(rows)


def _problem(found: Stepped) -> str:
    """Say how the loss did not fall."""
    first, last = (f"{loss:.4f}" if loss is not None else "no number" for loss in (found.first_loss, found.gate_loss))
    return f"it does not train: loss {first} at the first step, {last} after {UNTIMED}"
