"""Measurements of generation by one implementation of one model, in a process of its own.

`gdnbench.runs.decoding` starts this file as a module with a question as JSON; it says one thing for each case, when it
is measured, so that nothing of it is lost to a later one.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench.configuration import from_mapping, to_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.measuring import measure
from gdnbench.measure.decoding.own import OwnHost
from gdnbench.measure.decoding.peers import PEERS
from gdnbench.measure.decoding.session import Gate, Host
from gdnbench.measure.kernels.timing import first_line
from gdnbench.measure.process import say


def question(cases: Sequence[DecodeCase], *, mixers: tuple[str, ...]) -> dict[str, Any]:
    """Return what the process is asked: cases of one model and implementation, and files of mixers."""
    return {"cases": [to_mapping(case) for case in cases], "mixers": mixers}


def answers(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield for each case, by its run id, what was measured as plain data, or why it was not.

    What holds for the whole model (a library that is missing, a red check) is said of every case.
    """
    from gdnbench.models import registry

    for path in asked["mixers"]:
        registry.add_file(Path(path))
    cases = [from_mapping(DecodeCase, case, "case") for case in asked["cases"]]
    try:
        host, gate = _begin(cases[0])
    except (BackendUnavailable, GdnbenchError, torch.OutOfMemoryError) as error:
        for case in cases:
            yield {"run_id": case.run_id, "unavailable": first_line(error) if _technical(error) else str(error)}
        return
    for case in cases:
        about = {
            "run_id": case.run_id,
            "gate": to_mapping(gate),
            "params_total": host.params_total,
            "params_non_embedding": host.params_non_embedding,
        }
        yield {**about, **(_measured(host, case) if gate.correct else {}), "what_ran": dict(host.what_ran())}


def _begin(case: DecodeCase) -> tuple[Host, Gate]:
    """Return the model and whether what it generates is right."""
    if case.ours:
        host: Host = OwnHost(case)
        return host, host.check()
    library = PEERS[case.impl].library()
    if reason := library.why_unavailable(case.model):
        raise BackendUnavailable(reason)
    try:
        host = library.host(case)
        return host, host.check()
    except Exception as error:
        raise BackendUnavailable(f"it broke: {first_line(error)}") from error


def _measured(host: Host, case: DecodeCase) -> dict[str, Any]:
    """Return one case's measurement, or why there is none; what breaks in a library is no fault of ours."""
    try:
        return {"measured": to_mapping(measure(host, case))}
    except (torch.OutOfMemoryError, GdnbenchError) as error:
        return {"unavailable": first_line(error) if _technical(error) else str(error)}
    except Exception as error:
        if case.ours:
            raise
        return {"unavailable": f"it broke: {first_line(error)}"}


def _technical(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def main() -> None:
    """Answer the question on the command line."""
    for answer in answers(json.loads(sys.argv[1])):
        say(answer)


if __name__ == "__main__":
    main()
