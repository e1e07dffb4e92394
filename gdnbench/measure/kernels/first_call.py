"""Time from the start of a process to the first finished forward and backward, with empty compilation caches.

The process that asks starts this file as a module with the case as JSON; it answers with one line of JSON.
"""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from gdnbench.measure.kernels.case import KernelCase, Shape
from gdnbench.measure.process import ask, empty_caches, say

LIMIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class FirstCall:
    """Seconds to the end of the first call, and to the end of imports and of making inputs; or why there is none."""

    seconds: float | None
    ready_s: float | None = None
    reason: str = ""


def first_call(case: KernelCase) -> FirstCall:
    """Run one forward and backward of ``case`` in a new process with empty caches and return how long that took."""
    with empty_caches() as variables:
        answer = ask(__name__, case.spec(), limit_s=LIMIT_S, variables=variables)
    if answer.value is None:
        return FirstCall(seconds=None, reason=answer.reason)
    return FirstCall(seconds=answer.value["done"] - answer.started, ready_s=answer.value["ready"] - answer.started)


def case_of(spec: dict[str, Any]) -> KernelCase:
    """Return the case that `KernelCase.spec` was made from."""
    sizes = {field.name: spec[field.name] for field in dataclasses.fields(Shape)}
    rest = {name: value for name, value in spec.items() if name not in sizes}
    return KernelCase(shape=Shape(**sizes), **rest)


def main() -> None:
    """Run the case given as JSON; print when inputs were ready and when the gradients were there."""
    import torch

    from gdnbench.measure.kernels.check import leaves
    from gdnbench.measure.kernels.operations import OPERATIONS

    case = case_of(json.loads(sys.argv[1]))
    operation = OPERATIONS[case.op]
    tensors = operation.inputs(case, case.seed)
    inputs = leaves(tensors, operation.wanted(tensors))
    _wait(case.device)
    ready = time.time()
    output = operation.outputs(case, inputs)[0]
    torch.autograd.grad(output, [x for x in inputs.values() if x.requires_grad], torch.ones_like(output))
    _wait(case.device)
    say({"ready": ready, "done": time.time()})


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
