"""Arguments, checks and shapes of one token of attention, from what is projected to what the heads put out."""

import torch
from torch import Tensor

from gdnbench_kernels import backends, checks


def attention_decode(
    inputs: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    frequencies: Tensor,
    *,
    heads: int,
    scale: float,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    conv_weight: Tensor | None = None,
    ring: Tensor | None = None,
    arrived: Tensor | None = None,
    settled: bool = False,
    impl: str = "torch",
) -> Tensor:
    """Attend with one token of every row to the tokens before it and to itself; its key and value join the caches.

    Each of q, k and v first passes what there is of: the short convolution with SiLU, the RMS norm by head (q and k),
    the rotation to its position (q and k). Nothing waits for the device: lengths are read there.

    Args:
        inputs: q, k and v side by side ``[B, (H + 2 HKV) D or more]``, any batch stride; what follows is not read.
        keys: ``[B, S, HKV, D]`` with a contiguous last dim, rotated already; position ``lengths[b]`` is written.
        values: the same of values.
        lengths: int32 ``[B]``: tokens before this one, less than S.
        frequencies: float64 ``[D / 2]``: turns a token of channels i and ``i + D / 2`` of a head.
        heads: query heads H, a multiple of HKV.
        scale: factor of the scores.
        q_norm: weights of the norm of q ``[D]``, with ``k_norm`` or neither.
        k_norm: the same of k.
        eps: added to the norms' mean squares.
        conv_weight: ``[(H + 2 HKV) D, size]``, with ``ring`` or neither.
        ring: the last inputs of the convolution ``[B, size, (H + 2 HKV) D]``, contiguous, that of position p at
            ``p % size``; that of this token is written.
        arrived: int32 ``[B, HKV]`` of zeros, and zeros again afterwards: where programs that share a head's cache count
            themselves. One buffer serves all layers; without it one is made.
        settled: the caller's word that the kernels that wrote the caches, the ring and the lengths have ended, whatever
            may still run of later ones (`gpu.pdl`): a GPU then reads them before the kernel that makes ``inputs`` has
            ended.
        impl: the backend, by name (`gdnbench_kernels.backends.names("attention_decode")`).

    Returns:
        What the heads put out, ``[B, H D]`` in the type of ``inputs``.

    Raises:
        ValueError: a shape, type or device does not fit; the message names the argument.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    if keys.ndim != 4:
        raise ValueError(f"keys: expected 4 dimensions [B, S, HKV, D], got {list(keys.shape)}")
    batch, capacity, key_heads, dim = keys.shape
    if batch < 1 or capacity < 1:
        raise ValueError(f"keys: expected at least one row of one token, got {list(keys.shape)}")
    if dim % 2:
        raise ValueError(f"keys: rotary positions need an even head dim, got {dim}")
    checks.multiple("heads", heads, key_heads, "heads of keys")
    channels = (heads + 2 * key_heads) * dim
    if inputs.ndim != 2 or inputs.shape[0] != batch or inputs.shape[1] < channels:
        raise ValueError(f"inputs: expected shape [{batch}, {channels} or more], got {list(inputs.shape)}")
    checks.shape("values", values, batch, capacity, key_heads, dim)
    checks.shape("lengths", lengths, batch)
    checks.shape("frequencies", frequencies, dim // 2)
    _check_pairs(q_norm=q_norm, k_norm=k_norm)
    _check_pairs(conv_weight=conv_weight, ring=ring)
    for name, weight in {"q_norm": q_norm, "k_norm": k_norm}.items():
        if weight is not None:
            checks.shape(name, weight, dim)
    if conv_weight is not None and ring is not None:
        checks.shape("ring", ring, batch, None, channels)
        checks.shape("conv_weight", conv_weight, channels, ring.shape[1])
    for name, count in {"lengths": lengths, "arrived": arrived}.items():
        if count is not None and (count.dtype != torch.int32 or count.device != keys.device):
            raise ValueError(f"{name}: expected int32 on {keys.device}, got {count.dtype} on {count.device}")
    checks.same_device_and_kind(keys=keys, inputs=inputs, values=values, frequencies=frequencies, ring=ring)
    checks.same_type(keys=keys, inputs=inputs, values=values)
    checks.contiguous_rows(inputs=inputs, keys=keys, values=values)
    tensors = inputs, keys, values, lengths, frequencies
    output: Tensor = backends.serving(
        "attention_decode", "attention_decode", impl, inputs, keys, values
    ).attention_decode(
        *tensors,
        heads=heads,
        scale=scale,
        q_norm=q_norm,
        k_norm=k_norm,
        eps=eps,
        conv_weight=conv_weight,
        ring=ring,
        arrived=arrived,
        settled=settled,
    )
    return output


def _check_pairs(**pair: Tensor | None) -> None:
    (first, a), (second, b) = pair.items()
    if (a is None) != (b is None):
        raise ValueError(f"{first} and {second}: expected both or neither")
