"""How passes on a GPU become operators of PyTorch, in one place.

Each is a custom op with a fake and autograd, for `torch.compile` and whatever else looks on calls. Where nothing looks
on, the dispatcher is left out, which takes longer than all else: same pass, same autograd.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gdnbench_kernels.launching import on_its_device
from gdnbench_kernels.replay import replayed

_LIBRARY = torch.library.Library("gdnbench", "FRAGMENT")
_PLAIN = frozenset({Tensor, torch.nn.Parameter, float, int, bool, type(None)})

Run = Callable[..., Any]


def _refuse(ctx: Any, *gradients: Tensor | None) -> Any:
    raise RuntimeError("this backend has no second derivatives; impl='torch' and impl='reference' have")


class Operator:
    """A pass as an operator of PyTorch.

    Attributes:
        run: the pass, on the device of its first argument, replayed where it was made before.
        traced: the custom op.
    """

    def __init__(
        self,
        name: str,
        function: Run,
        *,
        fake: Run,
        save: Callable[[Any, tuple[Any, ...], Any], None] = lambda ctx, arguments, results: None,
        differentiate: Callable[..., Any] = _refuse,
        mutates: tuple[str, ...] = (),
    ):
        """Define ``gdnbench::name``.

        Args:
            name: of the custom op.
            function: the pass: tensors, None and numbers, by position, to a tensor or several, none a view of another.
                Its annotations make the schema; `replay.replayed` says what else it must keep to.
            fake: the same, from metadata alone.
            save: ``(ctx, arguments, results)``, keeps for the backward pass what that needs.
            differentiate: ``(ctx, *gradients of results)``, returns those of the arguments.
            mutates: the arguments that it writes.
        """
        written = [i for i, argument in enumerate(inspect.signature(function).parameters) if argument in mutates]
        self.run = on_its_device(_marking(replayed(function), written))
        self.save, self.differentiate = save, differentiate
        _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=mutates))
        for backend in ("CUDA", "CPU"):  # on a CPU by Triton's interpreter, for tests
            _LIBRARY.impl(name, self.run, backend)
        torch.library.register_fake(f"gdnbench::{name}", fake, lib=_LIBRARY)
        # What `torch.library.register_autograd` registers looks the schema's arguments up one by one, in every call.
        _LIBRARY.impl(name, self._dispatched, "Autograd", with_keyset=True)
        self.traced = getattr(torch.ops.gdnbench, name).default

    def __call__(self, *arguments: Any) -> Any:
        """Run the pass; results as its own."""
        if torch.compiler.is_compiling() or _looked_on() or not _PLAIN.issuperset(map(type, arguments)):
            return self.traced(*arguments)
        return self._differentiable(self.run, arguments)

    def _dispatched(self, keys: Any, *arguments: Any) -> Any:
        return self._differentiable(partial(self._below_autograd, keys), arguments)

    def _below_autograd(self, keys: Any, *arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self.traced.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    def _differentiable(self, run: Run, arguments: tuple[Any, ...]) -> Any:
        wanted = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments)
        return _Differentiable.apply(self, run, *arguments) if wanted else run(*arguments)


def _marking(run: Run, written: list[int]) -> Run:
    """Let autograd know of the arguments that ``run`` writes."""

    def marked(*arguments: Any) -> Any:
        results = run(*arguments)
        torch.autograd.graph.increment_version([arguments[i] for i in written])
        return results

    return marked if written else run


def _looked_on() -> bool:
    """Return whether a mode or a transform wants to see operators."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active()


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operator: Operator, run: Run, *arguments: Any) -> Any:
        results = run(*arguments)
        operator.save(ctx, arguments, results)
        ctx.operator = operator
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        return None, None, *ctx.operator.differentiate(ctx, *gradients)
