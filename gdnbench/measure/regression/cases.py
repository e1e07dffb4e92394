"""What is timed in both trees: calls of the public operator alone, which baselines of other days have too."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gdnbench.measure.kernels.case import Shape
from gdnbench.measure.kernels.timing import input_sets

Direction = Literal["forward", "forward_backward", "step"]
Timing = Literal["device", "eager"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One timing.

    Attributes:
        shape: sizes; those of a ``step`` have T = 1.
        direction: ``forward`` without gradients, ``forward_backward``, or one decode ``step``.
        timing: ``device`` (the GPU's work alone) or ``eager`` (a call with its launches).
        raw: whether q and k are normalized, and g and beta made of their logits, inside the call.
        backend, dtype, device: what runs.
    """

    HEAD: ClassVar[tuple[str, ...]] = ("B,T,H,K,V", "direction", "inputs", "timing")
    UNIT: ClassVar[str] = "ms"

    shape: Shape
    direction: Direction
    timing: Timing
    raw: bool = False
    backend: str
    dtype: str
    device: str

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the case as the first cells of a line."""
        return str(self.shape), self.direction, "raw" if self.raw else "given", self.timing

    @property
    def message(self) -> "Case":
        """Return what a worker is asked."""
        return self

    def shown(self, ms: float) -> str:
        """Return a time as it is printed."""
        return f"{ms:.4f}"


def cases(shapes: Sequence[Shape], step: Shape | None, *, backend: str, device: str) -> list[Case]:
    """Return every shape in both directions and timings, the first one with raw inputs too, and a decode step."""
    timings: tuple[Timing, ...] = ("device", "eager") if device == "cuda" else ("eager",)
    directions: tuple[Direction, ...] = ("forward", "forward_backward")
    make = partial(Case, backend=backend, dtype="bfloat16" if device == "cuda" else "float32", device=device)
    found = [make(shape=s, direction=d, timing=t) for s, d, t in itertools.product(shapes, directions, timings)]
    found += [
        make(shape=s, direction=d, timing=t, raw=True) for s, d, t in itertools.product(shapes[:1], directions, timings)
    ]
    if step:
        found += [make(shape=step, direction="step", timing=timing, raw=True) for timing in timings]
    return found


def calls(case: Case) -> list[Callable[[], Any]]:
    """Return the call on input sets that together outgrow the cache, with the operator of this process's kernels."""
    from gdnbench_kernels import gated_delta

    settings: dict[str, Any] = {"scale": case.shape.K**-0.5, "impl": case.backend}
    if case.raw:
        settings |= {"normalize_qk": True, "beta_range": 1.0}
    first = _inputs(case, 0)
    sets = input_sets(sum(x.nbytes for x in first.values()), case.device)
    made = [first, *(_inputs(case, seed) for seed in range(1, sets))]
    if case.direction == "step":
        return [
            partial(_without_gradients, gated_delta.gated_delta_rule_step, x, settings | {"inplace": True})
            for x in made
        ]
    if case.direction == "forward":
        return [partial(_without_gradients, gated_delta.gated_delta_rule, x, settings) for x in made]
    return [partial(_with_gradients, gated_delta.gated_delta_rule, x, settings) for x in made]


def _inputs(case: Case, seed: int) -> dict[str, Tensor]:
    shape, dtype = case.shape, getattr(torch, case.dtype)
    rng = torch.Generator(case.device).manual_seed(seed)
    normal = partial(torch.randn, generator=rng, device=case.device)
    tokens = (shape.B, shape.H) if case.direction == "step" else (shape.B, shape.T, shape.H)
    q, k = (normal(*tokens, shape.K) for _ in range(2))
    g, beta = (normal(tokens) for _ in range(2))
    drawn = {"v": normal(*tokens, shape.V).to(dtype)}
    if case.direction == "step":
        drawn["state"] = normal(shape.B, shape.H, shape.K, shape.V)
    if case.raw:
        drawn |= {"A_log": normal(shape.H), "dt_bias": normal(shape.H) - 4}
    else:
        # As a fresh model forgets: a few percent a token.
        q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
        g, beta = -0.05 * g.abs(), beta.sigmoid()
    return drawn | {"q": q.to(dtype), "k": k.to(dtype), "g": g, "beta": beta}


@torch.no_grad()
def _without_gradients(function: Callable[..., Any], inputs: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    return function(**inputs, **settings)[0]


def _with_gradients(function: Callable[..., Any], inputs: dict[str, Tensor], settings: dict[str, Any]) -> Any:
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    output = function(**leaves, **settings)[0]
    return torch.autograd.grad(output, list(leaves.values()), inputs["v"].detach())
