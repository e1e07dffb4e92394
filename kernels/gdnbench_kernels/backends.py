"""A backend is one file of an operation's ``impl`` folder, chosen by name; nothing is ever chosen silently.

Beside the functions of its operation, which its ``api`` calls, a backend's module may define

    FUSED = True                              it takes raw arguments and activates them itself
                                              (`gated_delta.arguments` has the two signatures)
    why_unavailable() -> str | None           why it cannot run on this machine
    refuses(*tensors, **facts) -> str | None  from metadata alone: the argument and dimension it does not serve, what
                                              that is and what it wants ("q: K is 96, wants 128")
    what_ran() -> dict[str, str]              versions and switches that decided which kernels ran, for a record
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import gdnbench_kernels

TRAINING = (
    "gated_delta", "ssd", "wkv7", "kda", "attention", "short_convolution", "gated_norm", "add_norm",
    "linear_cross_entropy",
)  # fmt: skip
# Of one token of generation: without gradients.
DECODING = ("fused_linear", "gated_delta_decode", "ssd_decode", "attention_decode", "wkv7_decode", "next_token")
OPERATIONS = TRAINING + DECODING

_resolved: set[tuple[str, str]] = set()


class BackendUnavailable(RuntimeError):
    """The backend that was asked for does not exist for this operation, or cannot run on this machine."""


class BackendRefusal(BackendUnavailable, ValueError):
    """The backend can run here, but does not serve what it was called with."""


def names(operation: str) -> list[str]:
    """Return the backends that ``operation`` has, runnable here or not, in alphabetical order."""
    package = importlib.import_module(f"gdnbench_kernels.{operation}.impl")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(operation: str, impl: str) -> ModuleType:
    """Return the module of backend ``impl``; raise `BackendUnavailable` with the reason and the alternatives."""
    _resolve(operation, impl)
    module: ModuleType = getattr(getattr(gdnbench_kernels, operation).impl, impl)
    return module


def serving(operation: str, function: str, impl: str, *tensors: Any, **facts: Any) -> ModuleType:
    """Return `load`'s module if its ``function`` serves a call with these tensors.

    Raises:
        BackendRefusal: it does not; the message names the dimension and the backends that would serve it here.
        BackendUnavailable: as `load`.
    """
    module = load(operation, impl)
    reason = _refusal(module, function, tensors, facts)
    if reason is not None:
        others = [name for name in names(operation) if why_unavailable(operation, name) is None]
        able = [name for name in others if _refusal(load(operation, name), function, tensors, facts) is None]
        raise BackendRefusal(f"{reason} (backend {impl!r}); served here by: {', '.join(able) or 'none'}")
    return module


def why_unavailable(operation: str, impl: str) -> str | None:
    """Return why backend ``impl`` cannot run on this machine, or None where it can."""
    try:
        module = importlib.import_module(f"gdnbench_kernels.{operation}.impl.{impl}")
    except ImportError as error:
        if (error.name or "").startswith("gdnbench_kernels"):
            raise  # a mistake of ours, not of the machine
        return f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    probe = getattr(module, "why_unavailable", None)
    return probe() if probe else None


def what_ran(operation: str, impl: str) -> dict[str, str]:
    """Return what decided which kernels backend ``impl`` ran, beyond this repository's commit; empty if nothing did."""
    report = getattr(load(operation, impl), "what_ran", None)
    return report() if report else {}


def _refusal(module: ModuleType, function: str, tensors: tuple[Any, ...], facts: dict[str, Any]) -> str | None:
    if not hasattr(module, function):
        return f"impl: it has no {function}"
    refuses = getattr(module, "refuses", None)
    return refuses(*tensors, **facts) if refuses else None


def _resolve(operation: str, impl: str) -> None:
    """Import the backend once, or say why not."""
    if (operation, impl) in _resolved:
        return
    known = names(operation)
    if impl not in known:
        raise BackendUnavailable(f"backend {impl!r} does not serve {operation}; these do: {', '.join(known)}")
    reason = why_unavailable(operation, impl)
    if reason:
        raise BackendUnavailable(f"backend {impl!r} of {operation} cannot run here: {reason}")
    _resolved.add((operation, impl))


# Tells torch.compile to run this while tracing, where imports cannot be traced. It is the mark that
# torch.compiler.assume_constant_result sets; calling that would import the whole compiler here (seconds, and triton).
_resolve._dynamo_marked_constant = True  # type: ignore[attr-defined]
