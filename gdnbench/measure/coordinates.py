"""The coordinate check: sizes of activations at the start, and of their updates after a few steps, by site.

One run is one width and seed; the slopes over widths are the report's (Yang et al. 2022, appendix D.1).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from gdnbench.models import Decoder
from gdnbench.models.apart import apart
from gdnbench.models.mixer import Mixer

Sizes = list[dict[str, object]]


def check(
    model: Decoder,
    tokens: Tensor,
    optimizer: torch.optim.Optimizer,
    after_steps: tuple[int, ...],
    beat: Callable[[float], None] = lambda fraction: None,
    forward: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Sizes:
    """Train on one repeated batch ``tokens [B, T + 1]`` and return the sizes on that batch, one row a site and time.

    Rows hold ``site``, ``after_steps``, ``rms`` (of the activation over batch, time and channel) and, after the
    start, ``update_rms`` (of its difference to the start). There is no warm-up, clipping or decay. ``forward`` is the
    context of forward passes (autocast).
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with forward():
        start = activations(model, inputs)
    rows: Sizes = [{"site": site, "after_steps": 0, "rms": _rms(x)} for site, x in start.items()]
    for step in range(1, max(after_steps) + 1):
        optimizer.zero_grad()
        with forward():
            loss = model.loss(inputs, targets)
        loss.backward()
        optimizer.step()
        if step in after_steps:
            with forward():
                found = activations(model, inputs)
            for site, x in found.items():
                row = {"site": site, "after_steps": step, "rms": _rms(x), "update_rms": _rms(x - start[site])}
                rows.append(row)
        beat(step / max(after_steps))
    return rows


@torch.no_grad()
def activations(model: Decoder, inputs: Tensor) -> dict[str, Tensor]:
    """Return what every part of the model puts out for ``inputs [B, T]``, by module name.

    Parts are all modules with parameters; ``<name>.in`` is what enters a norm inside a mixer (``o`` before its
    norm), and a mixer adds what its ``probes`` names (GDN: the gates alpha and beta).
    """
    found: dict[str, Tensor] = {}
    with apart(), _recording(model, found):
        logits, _ = model(inputs)
    found["logits"] = logits
    return {site: x.detach().clone() for site, x in found.items()}


@contextmanager
def _recording(model: Decoder, found: dict[str, Tensor]) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        if name and any(True for _ in module.parameters()) and not isinstance(module, nn.ModuleList):
            handles.append(module.register_forward_hook(_hook(name, module, found)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, module: nn.Module, found: dict[str, Tensor]) -> Callable[..., None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        assert isinstance(first, Tensor)
        found[name] = first
        if name.endswith("o_norm"):
            found[f"{name}.in"] = inputs[0]
        if isinstance(module, Mixer):
            found.update({f"{name}.{probe}": x for probe, x in module.probes(inputs[0]).items()})

    return record


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()
