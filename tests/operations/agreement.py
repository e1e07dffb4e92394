"""Calls of the recurrences as their kernels are tested with, and where a backend disagrees with float64.

Shared by the tests under the interpreter and those on a GPU.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from gdnbench_kernels import testing
from gdnbench_kernels.testing import Case
from torch import Tensor

# What a call may leave to the kernels.
RAW = ("norm", "gate", "beta")

# An entry may be off by this many times what a tensor may be off as a whole, relative to the largest entry: rounding
# errors are about as large everywhere, whereas a token or a head that is wrong is wrong by about its own size.
WORST_ENTRY = 4.0


@dataclass(frozen=True)
class Call:
    """Differentiable arguments by name, and the others."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    operation: str = "gated_delta"


def draw(
    case: Case,
    dtype: torch.dtype,
    *,
    raw: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Call:
    """Return a call of the gated delta rule with q, k, v in ``dtype`` and the rest in float32.

    Args:
        case: sizes and regime; with ``lengths``, those sequences packed into its one row, whatever its ``time``.
        dtype: of q, k and v.
        raw: which arguments come raw, of `RAW`: q and k not normalized, g and beta as logits.
        lengths: of packed sequences.
        device: where the tensors lie; a GPU draws other numbers than a CPU.
        seed: of the numbers.
    """
    if lengths is not None:
        case = Case(**{**vars(case), "batch": 1, "time": sum(lengths)})
    x = testing.inputs("gated_delta", case, dtype=torch.float32, device=device, draw_on=device, seed=seed)
    rng = torch.Generator(device).manual_seed(seed + 1)
    heads = x["v"].shape[2]
    settings: dict[str, Any] = {"scale": 2 * case.key_dim**-0.5}

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, device=device)

    if "norm" in raw:
        for name in ("q", "k"):
            x[name] = x[name] * (0.5 + 2 * normal(*x[name].shape[:3], 1).abs())
        settings["normalize_qk"] = True
    if "gate" in raw:
        # Rates of 0.1 to 4 at steps about softplus(-3) = 0.05.
        x |= {"g": normal(*x["g"].shape), "A_log": normal(heads), "dt_bias": normal(heads) - 3}
    if "beta" in raw:
        x["beta"] = 2 * normal(*x["beta"].shape)
        settings["beta_range"] = 2.0
    if "gate" in raw or "beta" in raw:
        settings["gate_scale"] = 0.7
    if lengths is not None:
        settings["cu_seqlens"] = torch.tensor([0, *lengths], device=device).cumsum(0, dtype=torch.int32)
        if case.state:
            x["initial_state"] = normal(len(lengths), heads, case.key_dim, case.value_dim)
    return Call(x | {name: x[name].to(dtype) for name in ("q", "k", "v")}, settings)


def draw_ssd(case: Case, dtype: torch.dtype, *, device: str = "cpu", seed: int = 0) -> Call:
    """Return a call of `ssd` with c, b, x in ``dtype`` and the rest in float32."""
    x = testing.inputs("ssd", case, dtype=torch.float32, device=device, draw_on=device, seed=seed)
    return Call(x | {name: x[name].to(dtype) for name in ("c", "b", "x")}, operation="ssd")


def run(call: Call, *, impl: str = "triton", **options: Any) -> dict[str, Tensor]:
    """Return output, final state and all gradients (``d_name``); `options` as of `testing.run_with_gradients`.

    Memory is NaN where nothing was written, and an operation that may differ from run to run is an error.
    """
    with deterministic():
        return testing.run_with_gradients(call.operation, call.tensors, impl=impl, **options, **call.settings)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Fill new memory with NaN (`torch.utils.deterministic`) and forbid what is not deterministic."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def exact(call: Call, **options: Any) -> dict[str, Tensor]:
    """Return the same in float64, from the same rounded arguments: by the recurrence, or the ``impl`` of `options`."""
    return testing.oracle(call.operation, call.tensors, **options, **call.settings)


def allowance(case: Case) -> float:
    """Return how many times its usual budget a kernel may take in this regime.

    Where keys resemble each other, a token's system takes large parts of the tokens before it away from each other:
    rounding its right-hand side costs up to the sum of 64 of them, the more the nearer ``beta`` is to 2. With one key,
    ``beta = 2`` and no decay that is all of the digits of half precision, whatever computes the inverse (exactly
    inverted and then rounded, it is off by as much), so there float32 alone is checked.
    """
    if case.keys == "random":
        return 4.0 if case.beta == 2 else 1.0
    return {0.0: 1.0, 2.0: 12.0}.get(case.beta, 4.0)


def disagreements(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype, *, slack: float = 1.0
) -> dict[str, float]:
    """Return what is off by more than ``slack`` times the budget of ``dtype``, with its error; empty if all agrees.

    As a whole (`testing.relative_error`), or in its worst entry, which is then named so. The kernels invert with
    products of float16 whatever the type of q, k and v, so float32 has the budget of float16.
    """
    dtype = torch.float16 if dtype == torch.float32 else dtype
    found = {}
    for name, reference in expected.items():
        limit = slack * testing.limit(name, dtype)
        whole, worst = testing.relative_error(actual[name], reference), worst_entry(actual[name], reference)
        if not whole <= limit:
            found[name] = whole
        elif not worst <= WORST_ENTRY * limit:
            found[f"worst entry of {name}"] = worst
    return found


def worst_entry(actual: Tensor, expected: Tensor) -> float:
    """Return the largest error of an entry, relative to the largest entry (or 0.01, as `testing.relative_error`)."""
    expected = expected.double()
    if not expected.numel():
        return 0.0
    error = (actual.to(expected) - expected).abs().max() / expected.abs().max().clamp_min(0.01)
    return float(error) if error.isfinite() else math.inf
