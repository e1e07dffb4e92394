"""A backend is one file of an operation's ``impl`` folder, chosen by name; nothing is ever chosen silently."""

import importlib
import pkgutil
from types import ModuleType

OPERATIONS = ("gated_delta", "ssd", "wkv7", "attention")


class BackendUnavailable(RuntimeError):
    """The backend that was asked for does not exist for this operation, or cannot run on this machine."""


def names(operation: str) -> list[str]:
    """Return the backends that ``operation`` has, runnable here or not, in alphabetical order."""
    package = importlib.import_module(f"gdnbench_kernels.{operation}.impl")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(operation: str, impl: str) -> ModuleType:
    """Return the module of backend ``impl``; raise `BackendUnavailable` with the reason and the alternatives."""
    known = names(operation)
    if impl not in known:
        raise BackendUnavailable(f"backend {impl!r} does not serve {operation}; these do: {', '.join(known)}")
    reason = why_unavailable(operation, impl)
    if reason:
        raise BackendUnavailable(f"backend {impl!r} of {operation} cannot run here: {reason}")
    return importlib.import_module(f"gdnbench_kernels.{operation}.impl.{impl}")


def why_unavailable(operation: str, impl: str) -> str | None:
    """Return why backend ``impl`` cannot run on this machine, or None where it can."""
    try:
        module = importlib.import_module(f"gdnbench_kernels.{operation}.impl.{impl}")
    except ImportError as error:
        return f"{error.name or error} is not installed"
    probe = getattr(module, "why_unavailable", None)
    return probe() if probe else None
