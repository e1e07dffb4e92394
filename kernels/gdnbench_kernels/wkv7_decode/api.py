"""Arguments, checks and shapes of a token of RWKV-7's time mixing between its projections."""

from dataclasses import dataclass, fields

from torch import Tensor

from gdnbench_kernels import backends, checks

# The decay of a token is exp(-e^-0.5 sigmoid(...)) (Peng et al.: RWKV-7 "Goose", section 4.1).
DECAY_BOUND = 0.6065306597126334
REMOVAL_EPS = 1e-12  # added to the sum of squares of a removal key


@dataclass(frozen=True, kw_only=True)
class Maps:
    """A layer's parameters between its projections, by channel; ``up`` matrices are ``[D, rank]``.

    Attributes:
        decay_up, decay_bias: of the decay's low-rank map, tanh inside.
        rate_up, rate_bias: of the in-context learning rate's.
        gate_up: of the output gate's, sigmoid inside.
        value_up, value_bias: of the value residual's; None in the first layer.
        removal: factor that makes removal keys of keys (k_k).
        replacement: how much of the rate the replacement keys take (k_a).
        bonus: factor of what the token adds for itself (r_k, with its multiplier).
        norm_weight, norm_bias: of the norm by head.
    """

    decay_up: Tensor
    decay_bias: Tensor
    rate_up: Tensor
    rate_bias: Tensor
    gate_up: Tensor
    value_up: Tensor | None
    value_bias: Tensor | None
    removal: Tensor
    replacement: Tensor
    bonus: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def ranks(self) -> list[int]:
        """Return the ranks in the order of inputs: value, decay, rate, gate."""
        value = 0 if self.value_up is None else self.value_up.shape[1]
        return [value, *(up.shape[1] for up in (self.decay_up, self.rate_up, self.gate_up))]


def wkv7_decode(
    inputs: Tensor,
    first: Tensor | None,
    memory: Tensor,
    maps: Maps,
    *,
    eps: float,
    arrived: Tensor | None = None,
    settled: bool = False,
    impl: str = "torch",
) -> Tensor:
    """Advance ``memory`` by one token of every row, in place, and return what the last projection reads.

    With ``map(up, h) = up h + bias``, and all but the first line by head (`wkv7.wkv7_step` is the recurrence)::

        v = v + (first - v) sigmoid(map(value_up, h_value))     w = -e^-0.5 sigmoid(map(decay_up, tanh(h_decay)))
        rate = sigmoid(map(rate_up, h_rate))                    gate = gate_up sigmoid(h_gate)
        removed = normalize(k removal)                          k = k (1 + (rate - 1) replacement)
        o = recurrence(r, w, k, v, -removed, removed rate)
        result = (norm(o) norm_weight + norm_bias + (r . (k bonus)) v) gate

    Args:
        inputs: ``[B, 3 D + ranks or more]``, side by side: r, k and v of D channels each, then what the low-rank maps
            made of the input: of the value residual (where there is one), the decay, the rate, the gate. Any batch
            stride; what follows is not read.
        first: the first layer's v ``[B, D]``, any batch stride; with ``maps.value_up`` or neither.
        memory: ``[B, H, K, K]`` with ``H K = D``, contiguous, in float32, half precision, or the float64 of all.
        maps: the layer's parameters.
        eps: added to the variance of a head.
        arrived: int32 ``[B, H]`` of zeros, and zeros again afterwards: where programs that share a head count
            themselves. Without it one is made where it is needed.
        settled: the caller's word that the kernels that wrote ``memory`` have ended, whatever may still run of later
            ones (`gpu.pdl`): a GPU then reads it before the kernel that makes ``inputs`` has ended.
        impl: the backend, by name (`gdnbench_kernels.backends.names("wkv7_decode")`).

    Returns:
        ``[B, D]`` in the type of ``inputs``.

    Raises:
        ValueError: a shape, type or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    _check(inputs, first, memory, maps)
    backend = backends.serving("wkv7_decode", "wkv7_decode", impl, inputs, memory)
    settings = {"eps": eps, "arrived": arrived, "settled": settled}
    output: Tensor = backend.wkv7_decode(inputs, first, memory, maps, **settings)
    return output


def _check(inputs: Tensor, first: Tensor | None, memory: Tensor, maps: Maps) -> None:
    if memory.ndim != 4 or memory.shape[0] < 1 or memory.shape[2] != memory.shape[3]:
        raise ValueError(f"memory: expected [B, H, K, K] of at least one row, got {list(memory.shape)}")
    batch, heads, dim, _ = memory.shape
    width, given = heads * dim, {field.name: getattr(maps, field.name) for field in fields(maps)}
    for name, x in given.items():
        if x is not None:
            checks.shape(f"maps.{name}", x, width, *([None] if name.endswith("_up") else []))
    channels = 3 * width + sum(maps.ranks())
    if inputs.ndim != 2 or inputs.shape[0] != batch or inputs.shape[1] < channels:
        raise ValueError(f"inputs: expected shape [{batch}, {channels} or more], got {list(inputs.shape)}")
    if not (first is None) == (maps.value_up is None) == (maps.value_bias is None):
        raise ValueError("first, maps.value_up and maps.value_bias: expected all or none")
    if first is not None:
        checks.shape("first", first, batch, width)
        checks.contiguous_rows(first=first)
    tensors = {f"maps.{name}": x for name, x in given.items()}
    checks.same_device_and_kind(inputs=inputs, first=first, memory=memory, **tensors)
    checks.same_type(inputs=inputs, first=first, memory=memory)
    checks.contiguous(memory=memory, **{name: x for name, x in tensors.items() if x is not None})
    checks.contiguous_rows(inputs=inputs)
