"""What a mixer states of itself against what is there: parameters, the bytes of its state, FLOPs."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gdnbench.check.findings import Finding
from gdnbench.check.subject import Subject, mixers
from gdnbench.models.mixer import Mixer, State
from gdnbench.words import plural

CONTEXTS = (1, 7, 64, 130, 260)
# Operations on an entry of the state that the counter of matrix products does not see: decays, outer products, sums.
STATE_OPERATIONS = 8
FLOP_TOKENS = 16


def parameters(subject: Subject) -> Iterator[Finding]:
    """`parameter_count` is the number of parameters."""
    for index, mixer in enumerate(mixers(subject.exact)):
        stated, there = mixer.parameter_count(), sum(p.numel() for p in mixer.parameters())
        if stated != there:
            sizes = ", ".join(f"{name} {p.numel():,}" for name, p in mixer.named_parameters())
            yield Finding(
                place=f"layer {index}, parameter_count",
                found=f"it states {stated:,}, and has {there:,}",
                remedy=f"count {sizes}",
            )
            return


@torch.no_grad()
def state_bytes(subject: Subject) -> Iterator[Finding]:
    """`state_bytes` is what the state takes after one token and after many, in float32 and float64."""
    for dtype in (torch.float64, torch.float32):
        mixer = mixers(subject.decoder(dtype=dtype))[0]
        empty = mixer.init_state(1)
        for context in CONTEXTS:
            x = torch.randn(1, context, 2 * subject.base_width, dtype=dtype)
            _, state = mixer(x, mixer.init_state(1))
            assert state is not None
            stated, there = mixer.state_bytes(context, dtype.itemsize), _bytes(state, empty)
            if stated != there:
                parts = ", ".join(f"{name} {list(t.shape)} of {t.dtype}" for name, t in state.items())
                yield Finding(
                    place=f"state_bytes after {plural(context, 'token')}, {dtype}",
                    found=f"it states {stated:,} bytes, and the state takes {there:,}",
                    remedy=f"the state of one sequence is {parts}",
                )
                return


def _bytes(state: State, empty: State) -> int:
    """Return the bytes of a state; of a cache with room to grow only the filled part, by its ``length``."""
    total = 0
    for name, tensor in state.items():
        if name == "length":
            continue
        size = tensor.numel() * tensor.element_size()
        if "length" in state and tensor.shape != empty[name].shape:
            size = size // tensor.shape[1] * int(state["length"])
        total += size
    return total


@torch.no_grad()
def flops(subject: Subject) -> Iterator[Finding]:
    """`flops_per_token` is at least the matrix products of the steps, and at most these and what a state may take."""
    mixer = mixers(subject.exact)[0]
    x = torch.randn(1, FLOP_TOKENS, 2 * subject.base_width, dtype=torch.float64)
    state = mixer.init_state(1)
    with FlopCounterMode(display=False) as counter:
        for t in range(FLOP_TOKENS):
            _, state = mixer.step(x[:, t], state)
    least, stated = counter.get_total_flops() / FLOP_TOKENS, mixer.flops_per_token(FLOP_TOKENS)
    most = least + STATE_OPERATIONS * _entries(state) + 2 * _vectors(mixer)
    if not least * (1 - 1e-9) <= stated <= most:
        yield Finding(
            place=f"flops_per_token({FLOP_TOKENS})",
            found=f"it states {stated:,}; the matrix products of a step take {least:,.0f}, and with up to "
            f"{STATE_OPERATIONS} operations an entry of the state {most:,.0f}",
            remedy="count 2 for each weight of a matrix, and each multiply-add of the recurrence by its definition",
        )


def _entries(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())


def _vectors(mixer: Mixer) -> int:
    """Return how many parameters belong to no square of two growing dimensions: convolutions, gains, scalars."""
    return sum(_own(parameter) for parameter in mixer.parameters())


def _own(parameter: Tensor) -> int:
    return parameter.numel() if parameter.ndim < 2 or min(parameter.shape) <= 8 else 0
