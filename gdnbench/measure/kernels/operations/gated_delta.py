"""The gated delta rule and its decode step, through the public operator, every backend by its name."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.gated_delta import gated_delta_rule, gated_delta_rule_step
from torch import Tensor
from torch.nn import functional as F

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.case import KernelCase
from gdnbench.measure.kernels.operations.operation import Operation, Tensors

GATES = "raw gates"  # variant: the call makes log decay and writing strength from their raw forms
SCALED_GATES = "raw gates, gate_scale=0.7"  # variant: with the gating normalization
GATE_SCALES = {GATES: 1.0, SCALED_GATES: 0.7}
SCALE = 1.0  # outputs of size 1, as the error budgets presume; no kernel's speed depends on it
NORM_EPS = 1e-6  # of the norm inside the call (`gdnbench_kernels.gated_delta.gpu`)

NAMES = ("q", "k", "v", "g", "beta")

rule: Callable[..., tuple[Any, ...]] = gated_delta_rule
step: Callable[..., tuple[Any, ...]] = gated_delta_rule_step


def why_unavailable(impl: str) -> str | None:
    """Return why a backend of the gated delta rule cannot run here, or None."""
    return backends.why_unavailable("gated_delta", impl)


def what_ran(impl: str) -> dict[str, str]:
    """Return what a backend says of the kernels that it really ran."""
    return backends.what_ran("gated_delta", impl)


def _inputs(case: KernelCase, seed: int) -> Tensors:
    """Draw q, k, v, gates in float32, and for the variants A_log and dt_bias as models start (Mamba-2, section 7)."""
    shape = case.shape
    decay: Any = case.gates
    sizes = testing.Case(
        batch=shape.B, time=shape.T, heads=shape.H, key_dim=shape.K, value_dim=shape.V, decay=decay, state=False
    )
    drawn = testing.inputs(
        "gated_delta", sizes, dtype=torch.float32, device=case.device, draw_on=case.device, seed=seed
    )
    rng = torch.Generator(case.device).manual_seed(seed + 1)
    uniform = functools.partial(torch.rand, generator=rng, device=case.device)
    if case.qk_norm == "raw":
        for name in ("q", "k"):
            lengths = shape.K**0.5 * (0.5 + uniform(drawn[name].shape[:-1])[..., None])
            drawn[name] = lengths * drawn[name]
    if case.variant in GATE_SCALES:
        steps = (math.log(1e-3) + math.log(100.0) * uniform(shape.H)).exp()
        for name in ("g", "beta"):
            drawn[name] = torch.randn(drawn[name].shape, generator=rng, device=case.device)
        drawn |= {"A_log": (1 + 15 * uniform(shape.H)).log(), "dt_bias": steps.expm1().log()}
    half = {name: drawn[name].to(getattr(torch, case.dtype)) for name in ("q", "k", "v")}
    return drawn | half


def _settings(case: KernelCase) -> dict[str, Any]:
    """Return the options of a call; only those that the case needs, so that every backend serves the plain one."""
    settings: dict[str, Any] = {"scale": SCALE, "impl": case.impl}
    if case.qk_norm == "raw":
        settings["normalize_qk"] = True
    if case.variant in GATE_SCALES:
        settings |= {"gate_scale": GATE_SCALES[case.variant], "beta_range": 1.0}
    return settings


def _outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (rule(**tensors, **_settings(case))[0],)


def _definition(case: KernelCase, tensors: Tensors) -> Tensors:
    """Return q, k, v, g, beta as the plain recurrence takes them: normalized, with the gates made."""
    made = dict(tensors)
    if case.qk_norm == "raw":
        for name in ("q", "k"):
            made[name] = made[name] * (made[name].square().sum(-1, keepdim=True) + NORM_EPS).rsqrt()
    if case.variant in GATE_SCALES:
        rate, bias, scale = made.pop("A_log").exp(), made.pop("dt_bias"), GATE_SCALES[case.variant]
        made["g"] = -rate * F.softplus(scale * made["g"] + bias)
        made["beta"] = (scale * made["beta"]).sigmoid()
    return made


def _exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return (rule(**_definition(case, tensors), scale=SCALE, impl="torch")[0],)


gated_delta = Operation(
    inputs=_inputs,
    outputs=_outputs,
    exact=_exact,
    work=floors.gated_delta,
    gradients=(*NAMES, "A_log", "dt_bias"),
    tokens=NAMES,
    like="v",
    check_tokens=32768,
    why_unavailable=why_unavailable,
    what_ran=what_ran,
)


def _negative_inputs(case: KernelCase, seed: int) -> Tensors:
    """Draw as the plain rule does, with writing strengths up to 2: eigenvalues of a token's transition down to -1."""
    drawn = _inputs(case, seed)
    return drawn | {"beta": 2 * drawn["beta"]}


gated_delta_negative = dataclasses.replace(gated_delta, inputs=_negative_inputs)


def _step_inputs(case: KernelCase, seed: int) -> Tensors:
    drawn = {name: x[:, 0] for name, x in _inputs(case, seed).items()}
    shape = case.shape
    rng = torch.Generator(case.device).manual_seed(seed + 2)
    state = torch.randn(shape.B, shape.H, shape.K, shape.V, generator=rng, device=case.device)
    return drawn | {"state": state}


def _step_outputs(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return step(**tensors, inplace=True, **_settings(case))


def _step_exact(case: KernelCase, tensors: Tensors) -> tuple[Tensor, ...]:
    return step(**_definition(case, tensors), scale=SCALE)


gated_delta_step = Operation(
    inputs=_step_inputs,
    outputs=_step_outputs,
    exact=_step_exact,
    work=floors.gated_delta_step,
    gradients=(),
    tokens=(),
    like="v",
    updates=("state",),
    why_unavailable=why_unavailable,
    what_ran=what_ran,
)
