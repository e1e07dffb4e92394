"""Inputs by gate regime, float64 oracles and error budgets: shared by the tests and the benchmarks of every backend."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gdnbench_kernels.add_norm import add_norm
from gdnbench_kernels.attention import attention
from gdnbench_kernels.gated_delta import gated_delta_rule
from gdnbench_kernels.gated_delta_decode import gated_delta_decode
from gdnbench_kernels.gated_norm import gated_norm
from gdnbench_kernels.kda import kda
from gdnbench_kernels.linear_cross_entropy import linear_cross_entropy
from gdnbench_kernels.short_convolution import short_convolution
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.ssd_decode import ssd_decode
from gdnbench_kernels.wkv7 import wkv7

Tensors = dict[str, Tensor]
Decay = Literal["none", "default", "strong", "resets"]
Keys = Literal["random", "correlated", "repeated"]

DECAYS: tuple[Decay, ...] = ("none", "default", "strong", "resets")
KEYS: tuple[Keys, ...] = ("random", "correlated", "repeated")

STRONGEST = -20.0  # log decay of a token that forgets all that float32 can tell apart
WKV7_STRONGEST = -math.exp(-0.5)  # RWKV-7's own bound (Peng et al. 2025, section 4.1)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes and regime of one set of inputs.

    Attributes:
        batch: sequences.
        time: tokens.
        past: for attention, keys before the first query.
        heads: query and key heads (for ssd and ssd_decode: groups of B and C).
        group: value heads for each key head (for attention: query heads for each key head; wkv7, kda: 1).
        key_dim: K (for linear_cross_entropy, of batch times time tokens: D).
        value_dim: V (for linear_cross_entropy: of words).
        decay: ``none``: nothing is forgotten, so errors add up; ``default``: as a freshly initialized model forgets;
            ``strong``: down to -20 a token (wkv7: its bound); ``resets``: now and then -20 among tokens without decay,
            where differences of cumulative decays lose the most digits.
        keys: ``random``, ``correlated`` (cosine about 0.9) or ``repeated`` (one key for all tokens: the triangular
            system of a chunk is then as far from the identity as it gets).
        beta: writing strength of the delta rule (wkv7: in-context rate, stable up to 1); None draws from (0, 1).
        state: whether there is an initial state.
        width: of a short convolution, whose own channels are those of all value heads.
    """

    batch: int = 2
    time: int = 65
    past: int = 0
    heads: int = 2
    group: int = 1
    key_dim: int = 8
    value_dim: int = 8
    decay: Decay = "default"
    keys: Keys = "random"
    beta: float | None = None
    state: bool = True
    width: int = 4


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Largest relative errors (by the Euclidean norm of a whole tensor) of outputs and of gradients."""

    output: float
    gradient: float


# float64: a thousand dependent roundings of 1e-16 leave a factor 1000 to the budget, and no mistake of a formula fits.
# float32: where nothing decays (beta 2, one key for all tokens) the roundings of a chunk's triangular solve add up to
#   2e-5 (measured, 130 tokens); cumulative log decays reach 64 * 20: their differences are off by 1280 * 2^-24 = 8e-5.
# bfloat16, float16: one rounding of the output and a few of products inside, 2^-9 and 2^-12 each; sums are expected in
#   float32. Gradients pass through twice as many products.
BUDGETS = {
    torch.float64: Budget(output=1e-10, gradient=1e-10),
    torch.float32: Budget(output=1e-4, gradient=2e-4),
    torch.bfloat16: Budget(output=1e-2, gradient=2e-2),
    torch.float16: Budget(output=2e-3, gradient=4e-3),
}
# A parameter's gradient sums terms of both signs over all tokens: the errors of a chunk's tokens have one sign (the
# gradient of a log decay is itself a sum over the tokens after it), so they add up where the terms cancel.
SUMMED, SUMMED_FACTOR = ("d_A_log", "d_dt_bias"), 5.0


# What an operation of one token writes in place.
IN_PLACE = {"gated_delta_decode": ("ring", "memory"), "ssd_decode": ("ring", "memory")}


def inputs(
    operation: str, case: Case, *, dtype: torch.dtype, device: str = "cpu", draw_on: str = "cpu", seed: int = 0
) -> Tensors:
    """Return the tensor arguments of ``operation``; drawn in float64, so that every type rounds the same numbers.

    They are drawn on ``draw_on``: the numbers of a seed differ between devices, and a GPU draws large inputs faster.
    """
    drawn = _FACTORIES[operation](case, torch.Generator(draw_on).manual_seed(seed))
    return {name: x.to(device, dtype if x.is_floating_point() else x.dtype) for name, x in drawn.items()}


def run(operation: str, tensors: Tensors, *, impl: str, scale: float = 0.5, **settings: Any) -> Tensors:
    """Return ``output``, and ``state`` where the operation has one (what is carried on), of backend ``impl``.

    What it writes in place (`IN_PLACE`) is returned by name, and the tensor given stays as it is.
    ``settings`` are further arguments of the operation; no gradient is taken by those. A mean over tokens comes as
    their sum, so that its gradients are of size 1.
    """
    function: Callable[..., Any] = _OPERATIONS[operation]
    if operation in ("attention", "gated_delta", "kda", "linear_cross_entropy"):
        settings["scale"] = scale
    if operation in IN_PLACE:
        written = {name: tensors[name].clone() for name in IN_PLACE[operation]}
        return {"output": function(**{**tensors, **written}, **settings, impl=impl), **written}
    if operation == "linear_cross_entropy":
        return {"output": tensors["x"].shape[0] * function(**tensors, **settings, impl=impl)}
    if operation == "short_convolution":
        settings.setdefault("activation", "silu")
    if operation in ("attention", "gated_norm", "skipped_norm"):
        return {"output": function(**tensors, **settings, impl=impl)}
    if operation == "add_norm":
        total, normed = function(**tensors, **settings, impl=impl)
        return {"output": normed, "state": total}
    output, state = function(**tensors, **settings, output_final_state=True, impl=impl)
    return {"output": output, "state": state}


def run_with_gradients(
    operation: str,
    tensors: Tensors,
    *,
    impl: str,
    seed: int = 0,
    through: tuple[str, ...] = ("output", "state"),
    laid_out: Callable[[Tensors], Tensors] = dict,
    **settings: Any,
) -> Tensors:
    """Return `run`'s tensors and, as ``d_name``, the gradient of a fixed random projection of them by each input.

    The projection is of the results named in ``through`` alone. Its weights are numbers of bfloat16, so that every
    type takes the same ones. ``laid_out`` may give the inputs other strides, differentiably.
    """
    leaves = {name: x.detach().clone().requires_grad_(x.is_floating_point()) for name, x in tensors.items()}
    results = run(operation, laid_out(leaves), impl=impl, **settings)
    rng = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(x.shape, generator=rng).bfloat16().to(x) for name, x in results.items()}
    projected = [name for name in results if name in through]
    wanted = {name: x for name, x in leaves.items() if x.requires_grad}
    gradients = torch.autograd.grad(
        [results[name] for name in projected],
        list(wanted.values()),
        [weights[name] for name in projected],
        materialize_grads=True,
    )
    named = {f"d_{name}": gradient for name, gradient in zip(wanted, gradients, strict=True)}
    return {name: x.detach() for name, x in results.items()} | named


def oracle(
    operation: str, tensors: Tensors, *, impl: str = "reference", device: str = "cpu", **settings: Any
) -> Tensors:
    """Return `run_with_gradients` of the definition in float64, from the same (already rounded) inputs.

    A chunked ``impl`` (torch) on a GPU serves where the definition's loop over tokens takes too long.
    """
    exact = {name: x.to(device, torch.float64 if x.is_floating_point() else x.dtype) for name, x in tensors.items()}
    return run_with_gradients(operation, exact, impl=impl, **settings)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return ``|actual - expected| / |expected|`` by the Euclidean norm; infinite where ``actual`` is not finite.

    Entries below 0.01 count as 0.01: inputs and cotangents are of size 1, so what is smaller is what cancellation left.
    """
    expected = expected.double()
    error = (actual.to(expected) - expected).norm() / expected.norm().clamp_min(0.01 * expected.numel() ** 0.5)
    return float(error) if error.isfinite() else math.inf


def limit(name: str, dtype: torch.dtype) -> float:
    """Return the largest relative error that the tensor ``name`` may have: an output, or a gradient ``d_name``."""
    budget = BUDGETS[dtype]
    if name in SUMMED:
        return SUMMED_FACTOR * budget.gradient
    return budget.gradient if name.startswith("d_") else budget.output


def over_budget(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, float]:
    """Return the relative errors beyond the budget of ``dtype`` by tensor name: empty where all is well."""
    errors = {name: relative_error(actual[name], expected[name]) for name in expected}
    return {name: error for name, error in errors.items() if not error <= limit(name, dtype)}


def _gated_delta(case: Case, rng: torch.Generator) -> Tensors:
    value_heads = case.heads * case.group
    drawn = {
        "q": F.normalize(_normal(rng, case.batch, case.time, case.heads, case.key_dim), dim=-1),
        "k": _keys(case, rng),
        "v": _normal(rng, case.batch, case.time, value_heads, case.value_dim),
        "g": _log_decay(case, rng, _steps(rng, case.batch, case.time, value_heads)),
        "beta": _strength(case, rng, case.batch, case.time, value_heads),
    }
    return drawn | _state(case, rng, value_heads)


def _ssd(case: Case, rng: torch.Generator) -> Tensors:
    heads = case.heads * case.group
    dt = _steps(rng, case.batch, case.time, heads)
    drawn = {
        "c": _normal(rng, case.batch, case.time, case.heads, case.key_dim),
        "b": _keys(case, rng),
        "x": _normal(rng, case.batch, case.time, heads, case.value_dim),
        "g": _log_decay(case, rng, dt),
        "dt": dt,
    }
    return drawn | _state(case, rng, heads)


def _wkv7(case: Case, rng: torch.Generator) -> Tensors:
    size = (case.batch, case.time, case.heads, case.key_dim)
    removal = _keys(case, rng)
    logits = {"none": -math.inf, "default": -2.0, "strong": math.inf, "resets": 0.0}[case.decay]
    decay = (logits + _normal(rng, *size)).sigmoid()
    drawn = {
        "r": _normal(rng, *size),
        "w": WKV7_STRONGEST * (decay.round() if case.decay == "resets" else decay),
        "k": _normal(rng, *size) * case.key_dim**-0.5,
        "v": _normal(rng, *size[:3], case.value_dim),
        "a": -removal,
        "b": removal * _strength(case, rng, *size),
    }
    return drawn | _state(case, rng, case.heads)


def _kda(case: Case, rng: torch.Generator) -> Tensors:
    size = (case.batch, case.time, case.heads)
    steps = _steps(rng, case.batch, case.time, case.heads * case.key_dim).unflatten(-1, (case.heads, case.key_dim))
    drawn = {
        "q": F.normalize(_normal(rng, *size, case.key_dim), dim=-1),
        "k": _keys(case, rng),
        "v": _normal(rng, *size, case.value_dim),
        "g": _log_decay(case, rng, steps),
        "beta": _strength(case, rng, *size),
    }
    return drawn | _state(case, rng, case.heads)


def _attention(case: Case, rng: torch.Generator) -> Tensors:
    positions = case.past + case.time
    return {
        "q": _normal(rng, case.batch, case.time, case.heads * case.group, case.key_dim),
        "k": _keys(replace(case, time=positions), rng) * case.key_dim**0.5,
        "v": _normal(rng, case.batch, positions, case.heads, case.value_dim),
    }


def _short_convolution(case: Case, rng: torch.Generator) -> Tensors:
    channels = case.heads * case.group * case.value_dim
    drawn = {
        "x": _normal(rng, case.batch, case.time, channels),
        "weight": _normal(rng, channels, case.width) * case.width**-0.5,
        "bias": _normal(rng, channels),
    }
    state = {"initial_state": _normal(rng, case.batch, case.width - 1, channels)}
    return drawn | (state if case.state else {})


def _gated_norm(case: Case, rng: torch.Generator) -> Tensors:
    size = (case.batch, case.time, case.heads * case.group, case.value_dim)
    # Rows of different sizes, or the norm would have nothing to do.
    x = _normal(rng, *size) * _normal(rng, *size[:3], 1).exp()
    return {"x": x, "z": _normal(rng, *size), "weight": 1 + 0.3 * _normal(rng, case.value_dim)}


def _skipped_norm(case: Case, rng: torch.Generator) -> Tensors:
    """Draw what the gated norm takes where the gate comes first and something has gone around, all heads in a row."""
    heads = case.heads * case.group
    drawn = _gated_norm(replace(case, heads=1, group=1, value_dim=heads * case.value_dim), rng)
    rows = {name: x.squeeze(2) if x.ndim > 1 else x for name, x in drawn.items()}
    return rows | {"skipped": _normal(rng, *rows["x"].shape), "skip": 1 + 0.3 * _normal(rng, heads)}


def _add_norm(case: Case, rng: torch.Generator) -> Tensors:
    size = (case.batch, case.time, case.value_dim)
    x, y = (_normal(rng, *size) * _normal(rng, *size[:2], 1).exp() for _ in "xy")
    return {"x": x, "y": y, "weight": 1 + 0.3 * _normal(rng, case.value_dim)}


def _linear_cross_entropy(case: Case, rng: torch.Generator) -> Tensors:
    tokens, width, words = case.batch * case.time, case.key_dim, case.value_dim
    return {
        "x": _normal(rng, tokens, width),
        "weight": _normal(rng, words, width) * width**-0.5,
        "targets": torch.randint(words, (tokens,), generator=rng, device=rng.device),
    }


def _gated_delta_decode(case: Case, rng: torch.Generator) -> Tensors:
    value_heads = case.heads * case.group
    channels = 2 * case.heads * case.key_dim + value_heads * case.value_dim
    drawn = _convolved_next(case, rng, channels)
    return drawn | {
        "g": _normal(rng, case.batch, value_heads),
        "beta": _normal(rng, case.batch, value_heads),
        "memory": _normal(rng, case.batch, value_heads, case.key_dim, case.value_dim),
        "A_log": _normal(rng, value_heads),
        "dt_bias": _normal(rng, value_heads) - 3,
    }


def _ssd_decode(case: Case, rng: torch.Generator) -> Tensors:
    heads = case.heads * case.group
    channels = heads * case.value_dim + 2 * case.heads * case.key_dim
    drawn = _convolved_next(case, rng, channels)
    return drawn | {
        "dt": _normal(rng, case.batch, heads),
        "bias": _normal(rng, channels),
        "memory": _normal(rng, case.batch, heads, case.key_dim, case.value_dim),
        "A_log": _normal(rng, heads),
        "dt_bias": _normal(rng, heads) - 3,
        "D": _normal(rng, heads),
    }


def _convolved_next(case: Case, rng: torch.Generator, channels: int) -> Tensors:
    """Return a convolution's next input, its taps, and a ring of rows that are shorter than it and longer."""
    seen = torch.randint(3 * case.width, (case.batch,), generator=rng, device=rng.device, dtype=torch.int32)
    written = torch.arange(case.width, device=rng.device) < seen[:, None]
    return {
        "x": _normal(rng, case.batch, channels),
        "weight": _normal(rng, channels, case.width),
        "ring": _normal(rng, case.batch, case.width, channels) * written[:, :, None],
        "lengths": seen,
    }


def _normal(rng: torch.Generator, *size: int) -> Tensor:
    return torch.randn(size, generator=rng, dtype=torch.float64, device=rng.device)


def _uniform(rng: torch.Generator, *size: int) -> Tensor:
    return torch.rand(size, generator=rng, dtype=torch.float64, device=rng.device)


def _keys(case: Case, rng: torch.Generator) -> Tensor:
    """Return unit vectors ``[B, T, H, K]``."""
    own = _normal(rng, case.batch, case.time, case.heads, case.key_dim)
    common = _normal(rng, case.batch, 1, case.heads, case.key_dim)
    share = {"random": 0.0, "correlated": 0.95, "repeated": 1.0}[case.keys]
    return F.normalize(share * common + (1 - share**2) ** 0.5 * own, dim=-1)


def _steps(rng: torch.Generator, batch: int, time: int, heads: int) -> Tensor:
    """Return step sizes ``softplus(z + bias)`` whose bias makes them .001 to .1 by head, as models start."""
    start = (math.log(1e-3) + math.log(100.0) * _uniform(rng, heads)).exp()
    return F.softplus(start.expm1().log() + 0.3 * _normal(rng, batch, time, heads))


def _log_decay(case: Case, rng: torch.Generator, steps: Tensor) -> Tensor:
    if case.decay == "default":
        return -16 * _uniform(rng, steps.shape[-1]) * steps
    if case.decay == "strong":
        # Half of the tokens at the bound itself.
        return STRONGEST * (2 * _uniform(rng, *steps.shape)).clamp(max=1)
    resets = _uniform(rng, *steps.shape) < (0.1 if case.decay == "resets" else 0.0)
    return STRONGEST * resets.double()


def _strength(case: Case, rng: torch.Generator, *size: int) -> Tensor:
    drawn = _normal(rng, *size).sigmoid()
    return drawn if case.beta is None else torch.full_like(drawn, case.beta)


def _state(case: Case, rng: torch.Generator, heads: int) -> Tensors:
    drawn = _normal(rng, case.batch, heads, case.key_dim, case.value_dim)
    return {"initial_state": drawn} if case.state else {}


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "gated_delta": gated_delta_rule,
    "ssd": ssd,
    "gated_delta_decode": gated_delta_decode,
    "ssd_decode": ssd_decode,
    "wkv7": wkv7,
    "kda": kda,
    "attention": attention,
    "short_convolution": short_convolution,
    "gated_norm": gated_norm,
    "skipped_norm": functools.partial(gated_norm, gate_first=True),
    "add_norm": add_norm,
    "linear_cross_entropy": linear_cross_entropy,
}
_FACTORIES = {
    "gated_delta": _gated_delta,
    "ssd": _ssd,
    "gated_delta_decode": _gated_delta_decode,
    "ssd_decode": _ssd_decode,
    "wkv7": _wkv7,
    "kda": _kda,
    "attention": _attention,
    "short_convolution": _short_convolution,
    "gated_norm": _gated_norm,
    "skipped_norm": _skipped_norm,
    "add_norm": _add_norm,
    "linear_cross_entropy": _linear_cross_entropy,
}
