"""One measurement of training, in a process of its own: memory, compilation and the first step are its own, too.

`gdnbench.runs.training` starts this file as a module with a question as JSON; it answers with one line of JSON.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench.configuration import from_mapping, to_mapping
from gdnbench.errors import GdnbenchError
from gdnbench.measure.process import say
from gdnbench.measure.training.case import TrainingCase
from gdnbench.measure.training.peers.trainer import PeerTrainer
from gdnbench.measure.training.stepping import Stepper, measure
from gdnbench.runs.training_step import OwnTrainer


def question(case: TrainingCase, *, steps: int, profile: bool, mixers: tuple[str, ...]) -> dict[str, Any]:
    """Return what the process is asked: a case, so many timed steps (0: memory alone), and files of mixers."""
    return {"case": to_mapping(case), "steps": steps, "profile": profile, "mixers": mixers}


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured as plain data, or ``unavailable`` or ``out_of_memory`` with the reason."""
    from pathlib import Path

    from gdnbench.models import registry

    for path in asked["mixers"]:
        registry.add_file(Path(path))
    case = from_mapping(TrainingCase, asked["case"], "case")
    try:
        stepper: Stepper = OwnTrainer(case) if case.ours else PeerTrainer(case)
        found = measure(stepper, asked["steps"], case.device, profile=asked["profile"])
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).split(". ")[0]}
    except (BackendUnavailable, GdnbenchError) as error:
        return {"unavailable": str(error)}
    return {"measured": to_mapping(found)}


def main() -> None:
    """Answer the question on the command line."""
    say(answer(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
