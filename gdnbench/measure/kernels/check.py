"""The correctness check that comes before every timing: outputs and gradients against float64, at the timed sizes.

The backend runs on the whole batch, exactly as it is timed. What is compared is the last sequence (the one that wrong
offsets miss), up to a number of tokens: the definition in float64, from the same rounded inputs, is computed for that
part alone, which causality allows. In the gradients' check the cotangent is zero elsewhere, so that the gradients of
shared parameters are the part's too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from gdnbench_kernels import testing
from torch import Tensor

from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations import Operation
from gdnbench.measure.kernels.operations.operation import Tensors

OUTPUTS = ("output", "state")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check found.

    Attributes:
        errors: relative error by tensor, gradients as ``d_name``; infinite where something is not finite.
        limits: the largest allowed ones.
        part: what was compared, in words.
        peak_extra_gib: what the call allocated at its peak beyond its inputs; None where it cannot be told.
    """

    errors: Mapping[str, float]
    limits: Mapping[str, float]
    part: str
    peak_extra_gib: float | None = field(default=None)

    @property
    def correct(self) -> bool:
        """Whether every error is within its limit."""
        return all(error <= self.limits[name] for name, error in self.errors.items())

    @property
    def worst(self) -> float:
        """The largest error."""
        return max(self.errors.values())

    def problems(self) -> str:
        """Return the errors beyond their limits in words; empty where all is well."""
        over = {name: error for name, error in self.errors.items() if not error <= self.limits[name]}
        return ", ".join(f"{name} {error:.1e} (limit {self.limits[name]:.0e})" for name, error in over.items())


class Reference:
    """The float64 results for one set of inputs, computed when first asked for."""

    def __init__(self, operation: Operation, case: KernelCase, tensors: Tensors, cotangent: Tensor):
        self.operation, self.case, self.tensors, self.cotangent = operation, case, tensors, cotangent
        self.length = min(case.shape.T, operation.check_tokens or case.shape.T)
        self.expected: Tensors = {}

    def check_forward(self, case: KernelCase) -> Check:
        """Run a backend without gradients and compare its outputs."""

        def call() -> Tensors:
            with torch.no_grad():
                updated = {name: self.tensors[name].clone() for name in self.operation.updates}
                return dict(zip(OUTPUTS, self.operation.outputs(case, self.tensors | updated)))

        return self._check(call)

    def check_gradients(self, case: KernelCase) -> Check:
        """Run a backend forward and backward and compare its outputs and all gradients."""
        wanted = self.operation.wanted(self.tensors)
        inputs = leaves(self.tensors, wanted)
        cotangent = torch.zeros_like(self.cotangent)
        self._part(self.operation.like, cotangent).copy_(self._part(self.operation.like, self.cotangent))

        def call() -> Tensors:
            output = self.operation.outputs(case, inputs)[0]
            gradients = torch.autograd.grad(output, [inputs[name] for name in wanted], cotangent)
            named = {f"d_{name}": gradient for name, gradient in zip(wanted, gradients)}
            return {"output": output.detach()} | named

        return self._check(call)

    def _check(self, call: Callable[[], Tensors]) -> Check:
        call()  # compiles and tunes, which takes memory of its own
        found, peak = with_peak(call, self.case.device)
        limits = {name: testing.limit(name, getattr(torch, self.case.dtype)) for name in found}
        errors = {name: self._error(name, x) for name, x in found.items()}
        place = "all sequences" if not self.operation.tokens else f"sequence {self.case.shape.B} of as many"
        part = f"{place}, {self.length} of {self.case.shape.T} tokens"
        return Check(errors=errors, limits=limits, part=part, peak_extra_gib=peak)

    def _error(self, name: str, actual: Tensor) -> float:
        if not torch.isfinite(actual).all():
            return math.inf
        source = name.removeprefix("d_") if name.startswith("d_") else self.operation.like
        return testing.relative_error(self._part(source, actual), self._results()[name])

    def _results(self) -> Tensors:
        if self.expected:
            return self.expected
        wanted = self.operation.wanted(self.tensors)
        exact = {name: self._part(name, x).double() for name, x in self.tensors.items()}
        inputs = leaves(exact, wanted)
        outputs = self.operation.exact(self.case, inputs)
        self.expected = {name: x.detach() for name, x in zip(OUTPUTS, outputs)}
        if wanted:
            cotangent = self._part(self.operation.like, self.cotangent).double()
            gradients = torch.autograd.grad(outputs[0], [inputs[name] for name in wanted], cotangent)
            self.expected |= {f"d_{name}": gradient for name, gradient in zip(wanted, gradients)}
        return self.expected

    def _part(self, name: str | None, x: Tensor) -> Tensor:
        """Return the part of what is shaped like the input ``name`` that is compared."""
        return x[-1:, : self.length] if name in self.operation.tokens else x


def leaves(tensors: Tensors, wanted: list[str]) -> Tensors:
    """Return the tensors with those that are ``wanted`` as leaves that ask for a gradient."""
    return {name: x.detach().requires_grad_(name in wanted) for name, x in tensors.items()}


def with_peak(call: Callable[[], Any], device: str) -> tuple[Any, float | None]:
    """Return what a call returns, and the GiB that it had allocated at its peak beyond what there was before."""
    if device != "cuda":
        return call(), None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    return result, (torch.cuda.max_memory_allocated() - before) / 2**30
