"""How a decoder's blocks run in training: as they are or compiled, and what of them is computed again backward."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from gdnbench.models.mixer import Shared

# PyTorch's operators whose results are kept: products; what norms divide by, which is small and would cost gradients of
# weights a pass of their own; what is put together: rotated queries and keys, whose gradients want no others, and
# matrices. All others are one pass over memory, as are these of ours.
KEPT = ("mm", "addmm", "bmm", "baddbmm", "rsqrt", "cat")
ATTENTION = "_scaled_dot_product_"
SOME = ("gdnbench::short_convolution", "gdnbench::short_convolutions")
CHEAP = (*SOME, "gdnbench::gated_norm")
# Rows of products stay as long as they are: views of padded ones would be copied for our operators.
OPTIONS: dict[str, Any] = {"comprehensive_padding": False}
# A process may train many widths and architectures: each compiles the same function anew.
FORMS = 256


Running = Callable[[nn.Module, Tensor, Tensor, Shared], tuple[Tensor, Tensor]]
"""Maps a block, its residual stream ``[B, T, D]``, what is still to be added to that, and what layers share (which it
adds to) to the next stream and what is then to be added."""


def running(
    *, compile: bool = False, recompute: Literal["none", "some", "cheap"] = "none", compiler: str = "inductor"
) -> Running:
    """Return a way to run blocks.

    Args:
        compile: each is one graph, without breaks; layers of one kind and shape share the code.
        recompute: ``cheap``: products and mixers of a block are kept for its backward pass, the rest is computed again;
            ``some``: gated norms are kept, too.
        compiler: backend of `torch.compile`.
    """
    run: Running = {"none": _plain, "some": _recomputing_some, "cheap": _recomputing_cheap}[recompute]
    if not compile:
        return run
    torch._dynamo.config.recompile_limit = max(FORMS, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.accumulated_recompile_limit = max(FORMS, torch._dynamo.config.accumulated_recompile_limit)
    options = OPTIONS if compiler == "inductor" else None
    compiled: Running = torch.compile(run, fullgraph=True, dynamic=False, backend=compiler, options=options)
    return compiled


def _plain(block: nn.Module, x: Tensor, y: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    x, y, _ = block(x, y, None, shared)
    return x, y


def _recomputing_some(block: nn.Module, x: Tensor, y: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    return _recomputing(block, x, y, shared, _contexts_of_some)


def _recomputing_cheap(block: nn.Module, x: Tensor, y: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    return _recomputing(block, x, y, shared, _contexts_of_cheap)


def _recomputing(
    block: nn.Module, x: Tensor, y: Tensor, shared: Shared, contexts: Callable[[], Any]
) -> tuple[Tensor, Tensor]:
    # No random numbers are drawn in a block, and to look for their state would make the host wait.
    settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
    x, y, new = checkpoint(lambda x, y, given: _alone(block, x, y, given), x, y, shared, **settings)
    shared.update(new)
    return x, y


def _alone(block: nn.Module, x: Tensor, y: Tensor, given: Shared) -> tuple[Tensor, Tensor, Shared]:
    """Return what `_plain` does and what it adds to ``given``, which stays as it is: it may be called again."""
    held = dict(given)
    x, y = _plain(block, x, y, held)
    return x, y, {name: value for name, value in held.items() if name not in given}


def _policy(again: tuple[str, ...], context: Any, operator: Any, *arguments: Any, **settings: Any) -> CheckpointPolicy:
    """Return whether the result of an operator of PyTorch is kept; ``again`` names those of ours that are not."""
    namespace, _, name = str(operator._schema.name).partition("::")
    known = name in KEPT or name.startswith(ATTENTION)
    kept = known if namespace in ("aten", "prims") else operator._schema.name not in again
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _contexts(again: tuple[str, ...]) -> Callable[[], Any]:
    return functools.partial(create_selective_checkpoint_contexts, functools.partial(_policy, again))


_contexts_of_some, _contexts_of_cheap = _contexts(SOME), _contexts(CHEAP)
