"""What a record says of a speed of generation: the numbers as metrics, beside their floors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gdnbench.configuration import from_mapping
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.floors import counted, least_bytes, prefill_floor_s, step_floor_s
from gdnbench.measure.decoding.measuring import Decoded
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.results.record import metric
from gdnbench.runs.bench import Content, Metrics, ceilings, samples

RANDOM = "random weights"
GIB = 2**30


def measured_content(
    case: DecodeCase, said: Mapping[str, Any], calibration: Calibration, read_gb_s: float, device_bytes: int
) -> Content:
    """Return what a measurement puts into a record; a time is there only where the check is green.

    Args:
        case: what was measured.
        said: what the process said of it (`gdnbench.runs.decoding_process.answers`).
        calibration: copy bandwidth and matmul rate of this run.
        read_gb_s: bandwidth of reading, of this run.
        device_bytes: memory of the device.
    """
    gate = said["gate"]
    found = from_mapping(Decoded, said["measured"]) if "measured" in said else None
    metrics: Metrics = {
        "params_total": metric(said["params_total"], "1"),
        "params_non_embedding": metric(said["params_non_embedding"], "1"),
        **ceilings(calibration),
        "read_gb_s": metric(read_gb_s, "GB/s"),
        "device_gib": metric(device_bytes / GIB, "GiB"),
        **_floors(case, 1 if found is None else found.fed, calibration, read_gb_s),
    }
    if gate["error"] is not None:
        metrics["gate_error"] = metric(gate["error"], "relative")
    metrics |= {} if found is None else {**_times(case, found), **_memory(found)}
    notes = (RANDOM,) if found is None else (RANDOM, _prompts(case, found), *found.notes)
    return Content(
        outcome="finished",
        detail=gate["problem"],
        metrics=metrics,
        data={
            "correct": gate["correct"],
            "checked": gate["checked"],
            "what_ran": dict(said["what_ran"]),
            "how": "events" if case.device == "cuda" else "clock",
        },
        notes=notes,
        rows=() if found is None else samples([float(np.mean(times)) for times in found.stretches]),
    )


def refused_content(case: DecodeCase, reason: str, *, broke: bool = False) -> Content:
    """Return what stands in the record of a case without numbers: what does not fit or is missing is no fault of ours.

    What is known without running it (parameters, the least memory) stands there all the same.
    """
    model = counted(case.model)
    metrics: Metrics = {
        "params_total": metric(model.parameter_count(embedding=True), "1"),
        "floor_gib": metric(least_bytes(case) / GIB, "GiB"),
    }
    data: dict[str, Any] = {"correct": None, "checked": "", "what_ran": {}, "how": ""}
    return Content(outcome="failed" if broke else "unavailable", detail=reason, metrics=metrics, data=data)


def _floors(case: DecodeCase, fed: int, calibration: Calibration, read_gb_s: float) -> Metrics:
    step = step_floor_s(case, case.length, read_gb_s, calibration)
    prompt = prefill_floor_s(case, fed, calibration)
    return {
        "floor_ms": metric(1e3 * step, "ms"),
        "floor_tokens_per_s": metric(case.batch / step, "token/s"),
        "prefill_floor_tokens_per_s": metric(fed * case.context / prompt, "token/s"),
        "floor_gib": metric(least_bytes(case) / GIB, "GiB"),
    }


def _times(case: DecodeCase, found: Decoded) -> Metrics:
    times = np.concatenate([np.asarray(stretch) for stretch in found.stretches])
    p50, p99 = np.percentile(times, (50, 99))
    first = float(np.median(found.first_s))
    metrics = {
        "tokens_per_s": metric(1e3 * case.batch / float(times.mean()), "token/s"),
        "ms_per_token_p50": metric(float(p50), "ms"),
        "ms_per_token_p99": metric(float(p99), "ms"),
        "ttft_ms": metric(1e3 * first, "ms"),
        "prefill_tokens_per_s": metric(found.fed * case.context / first, "token/s"),
    }
    return metrics | ({} if found.mixer_ms is None else {"mixer_ms": metric(found.mixer_ms, "ms")})


def _memory(found: Decoded) -> Metrics:
    """Return the peak and its parts: what is neither weights nor state is workspace, a library's cache included."""
    peak, weights = max(found.prefill_peak_gib, found.decode_peak_gib), found.weight_bytes / GIB
    states = None if found.state_bytes is None else found.state_bytes / GIB
    return {
        "weights_gib": metric(weights, "GiB"),
        **({} if states is None else {"state_gib": metric(states, "GiB")}),
        "workspace_gib": metric(max(0.0, peak - weights - (states or 0.0)), "GiB"),
        "peak_gib": metric(peak, "GiB"),
        "decode_peak_gib": metric(found.decode_peak_gib, "GiB"),
    }


def _prompts(case: DecodeCase, found: Decoded) -> str:
    if found.fed == case.batch:
        return f"prompts fed in all {case.batch} rows" if case.batch > 1 else "one prompt"
    return f"prompt fed in {found.fed} of {case.batch} rows, its state copied to the others"
