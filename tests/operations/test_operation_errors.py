"""What does not fit is refused before any backend runs, with the argument's name."""

import importlib

import pytest
import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.testing import Case

CASE = Case(batch=2, time=4, heads=2, group=1, key_dim=3, value_dim=3)
ARGUMENTS = [(op, name) for op in backends.TRAINING for name in testing.inputs(op, CASE, dtype=torch.float32)]
every_argument = pytest.mark.parametrize(("operation", "name"), ARGUMENTS)


def refuse(operation, name, change):
    """Change one argument and expect an error that names it."""
    x = testing.inputs(operation, CASE, dtype=torch.float32)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        testing.run(operation, {**x, name: change(x[name])}, impl="torch")


@every_argument
def test_number_of_dimensions(operation, name):
    refuse(operation, name, lambda x: x[0])


# Any number of words will do.
@pytest.mark.parametrize(("operation", "name"), [one for one in ARGUMENTS if one != ("linear_cross_entropy", "weight")])
def test_batch(operation, name):
    # The first argument sets the batch, so that a wrong one makes the next one the odd one out.
    x = testing.inputs(operation, CASE, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"^\w+: expected shape \["):
        testing.run(operation, {**x, name: x[name][:1]}, impl="torch")


@every_argument
def test_integers_for_numbers_and_numbers_for_integers(operation, name):
    refuse(operation, name, lambda x: x.long() if x.is_floating_point() else x.float())


@every_argument
def test_another_device(operation, name):
    refuse(operation, name, lambda x: x.to("meta"))


@pytest.mark.parametrize(("operation", "name"), [("gated_delta", "k"), ("ssd", "b"), ("wkv7", "k"), ("attention", "k")])
def test_another_float_type(operation, name):
    refuse(operation, name, lambda x: x.double())


@pytest.mark.parametrize("operation", ["gated_delta", "ssd", "wkv7"])
def test_state_of_another_size(operation):
    refuse(operation, "initial_state", lambda x: x[:, :, :-1])


@pytest.mark.parametrize("operation", backends.TRAINING)
@pytest.mark.parametrize("empty", [lambda x: x[:0], lambda x: x[:, :0] if x.ndim > 1 else x], ids=["batch", "time"])
def test_nothing_to_do(operation, empty):
    x = {name: empty(t) for name, t in testing.inputs(operation, CASE, dtype=torch.float32).items()}
    with pytest.raises(ValueError, match="at least"):
        testing.run(operation, x, impl="torch")


@pytest.mark.parametrize(
    ("operation", "shared"), [("gated_delta", ("q", "k")), ("ssd", ("c", "b")), ("attention", ("k", "v"))]
)
def test_heads_that_do_not_divide(operation, shared):
    x = testing.inputs(operation, CASE, dtype=torch.float32)
    tripled = {name: x[name].repeat(1, 1, 3, 1)[:, :, :3] for name in shared}
    with pytest.raises(ValueError, match=r"2 is not a positive multiple of .* = 3"):
        testing.run(operation, x | tripled, impl="torch")


@pytest.mark.parametrize("operation", backends.TRAINING)
def test_unknown_backend_names_those_that_exist(operation):
    with pytest.raises(BackendUnavailable, match=r"'tirton'.*reference.*torch"):
        testing.run(operation, testing.inputs(operation, CASE, dtype=torch.float32), impl="tirton")


def test_backend_without_its_library_says_which(monkeypatch):
    real = importlib.import_module

    def without_library(name, *rest):
        if name.endswith("impl.torch"):
            raise ModuleNotFoundError("No module named 'somelib'", name="somelib")
        return real(name, *rest)

    monkeypatch.setattr(backends, "_resolved", set())
    monkeypatch.setattr(importlib, "import_module", without_library)
    with pytest.raises(BackendUnavailable, match=r"'torch' of ssd cannot run here: somelib is not installed"):
        backends.load("ssd", "torch")
