"""Types and devices: float32, float64 and bfloat16, and no tensor that would stay behind when the model moves."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves

from gdnbench.check.findings import Finding
from gdnbench.check.subject import Subject

# bfloat16 rounds to 2^-9; a few layers of it stay near float32, a wrong type or an overflow does not.
NEAR, BFLOAT16_NEAR = 1e-3, 0.1
AUTOCAST = "float32 under autocast to bfloat16"
MOVES, NAMED_MOVES = (Tensor.to, Tensor.type_as), (Tensor.cpu, Tensor.cuda)
# An index may lie on the CPU.
INDEXING = (Tensor.__getitem__, Tensor.__setitem__, torch.index_select)


def types(subject: Subject) -> Iterator[Finding]:
    """Float32 and bfloat16 by autocast, which is how models train and generate, stay near float64."""
    tokens = subject.tokens(2, 70)
    with torch.no_grad():
        exact = subject.exact(tokens)[0]
    model = subject.decoder(dtype=torch.float32)
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, AUTOCAST)):
        try:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                logits, state = model(tokens[:, :-1], model.init_state(2))
                last, _ = model.step(tokens[:, -1], state)
        except Exception as error:
            yield Finding(
                place=f"{name}: {subject.line_of(error)}",
                found=f"{type(error).__name__}: {error}",
                remedy="make new tensors in the type of x (x.new_zeros, torch.zeros(..., dtype=x.dtype))",
            )
            continue
        yield from _near(torch.cat([logits, last[:, None]], 1), exact, dtype, name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens)[0]
    yield from _near(logits.detach(), exact, torch.bfloat16, f"{AUTOCAST}, without a state")
    logits.float().square().mean().backward()
    for name, parameter in model.named_parameters():
        # A parameter without a gradient is the finding of another check.
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            yield Finding(
                place=f"{AUTOCAST}, {name}",
                found="its gradient is no number",
                remedy="compute what may overflow or cancel in float32",
            )
            return


def _near(logits: Tensor, exact: Tensor, dtype: torch.dtype, place: str) -> Iterator[Finding]:
    limit = NEAR if dtype is torch.float32 else BFLOAT16_NEAR
    error = float((logits.double() - exact).norm() / exact.norm())
    if not error < limit:
        yield Finding(
            place=place,
            found=f"logits are off by {error:.1e} of their size from float64",
            remedy=f"up to {limit:g} is rounding: sum, exponentiate and carry decays in float32",
        )


def devices(subject: Subject) -> Iterator[Finding]:
    """No tensor is made on a fixed device; where there is a GPU, it computes there what it computes on the CPU."""
    watch = Placeless(subject.file.resolve())
    tokens = subject.tokens(1, 20)
    with torch.no_grad(), watch:
        model = subject.decoder()
        for tensor in (*model.parameters(), *model.buffers()):
            watch.forget(tensor)
        _, state = model(tokens, model.init_state(1))
        model.step(tokens[:, 0], state)
        model(tokens)
    for line, what in watch.found[:1]:
        yield Finding(place=f"line {line}", found=what, remedy="give it device=x.device, or register it as a buffer")
    if torch.cuda.is_available():
        yield from _on_gpu(subject, tokens)


def _on_gpu(subject: Subject, tokens: Tensor) -> Iterator[Finding]:
    model = subject.decoder(dtype=torch.float32)
    expected = model(tokens)[0]
    try:
        logits = model.cuda()(tokens.cuda())[0]
        logits.square().mean().backward()
    except Exception as error:
        yield Finding(
            place=f"on the GPU: {subject.line_of(error)}",
            found=f"{type(error).__name__}: {error}",
            remedy="make tensors on the device of x",
        )
        return
    yield from _near(logits.detach().cpu(), expected.detach().double(), torch.float32, "on the GPU")


class Placeless(TorchFunctionMode):
    """Follows tensors that the file makes without a device, or on one of its own, until they meet another one.

    A device of its own is a name, or an object that was not read from a tensor. Numbers (tensors without dimensions)
    and indices may lie on the CPU, as PyTorch allows; what is moved to the device of another tensor is at home again.
    """

    def __init__(self, file: Path):
        super().__init__()
        self.file = str(file)
        self.found: list[tuple[int, str]] = []
        self._made: dict[int, tuple[Tensor, str]] = {}
        self._read: list[torch.device] = []

    def forget(self, tensor: Tensor) -> None:
        """Take a tensor as one that moves with the model."""
        self._made.pop(id(tensor), None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and follow what it makes."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func == Tensor.device.__get__:
            self._read.append(result)
        meeting = args[:1] if func in INDEXING else (args, kwargs)
        inputs = [x for x in tree_leaves(meeting) if isinstance(x, Tensor)]
        made = [x for x in inputs if id(x) in self._made]
        how = None if self._line() is None else self._placed(func, args, kwargs)
        if how is not None:
            self._follow(result, how)
        elif made and any(x.ndim for x in inputs if id(x) not in self._made):
            if (line := self._line(anywhere=True)) is not None:
                self.found.append((line, f"{self._made[id(made[0])][1]}, and it meets another tensor in {_name(func)}"))
        elif made:
            self._follow(result, self._made[id(made[0])][1])
        return result

    def _placed(self, func: Any, args: Any, kwargs: Any) -> str | None:
        """Return how a call puts a tensor on a device of its own, "" if on another tensor's, None if on no other."""
        if func in NAMED_MOVES:
            return f"{_name(func)} moves it to a device by its name"
        if func in _device_constructors():
            device = kwargs.get("device")
            where = f"on {device}" if device else "without a device"
            return "" if self._is_read(device) else f"torch.{_name(func)} makes it {where}"
        targets = [x for x in (*args[1:], *kwargs.values()) if isinstance(x, str | torch.device | Tensor)]
        if func not in MOVES or not targets:
            return None
        settled = isinstance(targets[0], Tensor) or self._is_read(targets[0])
        return "" if settled else f"{_name(func)} moves it to the device {targets[0]}"

    def _is_read(self, device: Any) -> bool:
        """Return whether a device is an object that was read from a tensor (equal ones are made of names, too)."""
        return any(device is known for known in self._read)

    def _follow(self, result: Any, how: str) -> None:
        """Follow tensors that came to be so; forget them if they are where another tensor is."""
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.ndim:
                self._made[id(x)] = (x, how)  # the tensor is kept, so that its id is not given away
                if not how:
                    self.forget(x)

    def _line(self, *, anywhere: bool = False) -> int | None:
        """Return the line of the file that is calling, itself or through whatever it calls; None if it is not."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename != self.file:
            if not anywhere and "/torch/" not in frame.f_code.co_filename:
                return None
            frame = frame.f_back  # type: ignore[assignment]
        return None if frame is None else frame.f_lineno


def _name(func: Any) -> str:
    return getattr(func, "__name__", str(func))
