"""Arguments, checks and shapes of a GDN layer's token between its projections."""

from torch import Tensor

from gdnbench_kernels import backends, checks
from gdnbench_kernels.short_convolution import ring as rings


def gated_delta_decode(
    x: Tensor,
    g: Tensor,
    beta: Tensor,
    weight: Tensor,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    *,
    scale: float = 1.0,
    gate_scale: float = 1.0,
    beta_range: float = 1.0,
    settled: bool = False,
    impl: str = "torch",
) -> Tensor:
    """Run one token: q, k and v of a short convolution under SiLU, then `gated_delta.gated_delta_rule_step` of them.

    q and k are normalized, decay and writing strength made of ``g`` and ``beta``, as that function does it. ``ring``
    and ``memory`` are written in place; there are no gradients.

    Args:
        x: inputs of the convolution ``[B, 2 H K + HV V]``: queries of all heads, keys, values; as slices of a wider
            projection, like g and beta: any stride between rows.
        g: raw decays ``[B, HV]``.
        beta: raw writing strengths ``[B, HV]``.
        weight: taps ``[C, size]`` of the first C channels of x, the current input's last, any strides. C is all of
            them, or ``2 H K``: then values are not convolved and only go through SiLU.
        ring: the last inputs of these channels ``[B, size, C]``, contiguous (`short_convolution.ring`), in x's type.
        memory: ``[B, HV, K, V]``, contiguous, in float32, half precision, or the float64 of all.
        lengths: int32 ``[B]``: tokens that each row has seen before this one.
        A_log: ``[HV]``.
        dt_bias: ``[HV]``.
        scale: factor of the output.
        gate_scale: multiplier of g and beta.
        beta_range: at most 2: the largest writing strength.
        settled: the caller's word that the kernels that wrote ``ring``, ``memory`` and ``lengths`` have ended, whatever
            may still run of later ones (`gpu.pdl`): a GPU then reads them before the kernel that makes x has ended.
        impl: the backend, by name.

    Returns:
        The output ``[B, HV V]`` in the type of x.

    Raises:
        ValueError: an argument does not fit; the message names it.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    _check(x, g, beta, weight, ring, memory, lengths, A_log, dt_bias, beta_range)
    backend = backends.serving("gated_delta_decode", "gated_delta_decode", impl, x, memory)
    settings = {"scale": scale, "gate_scale": gate_scale, "beta_range": beta_range, "settled": settled}
    output: Tensor = backend.gated_delta_decode(x, g, beta, weight, ring, memory, lengths, A_log, dt_bias, **settings)
    return output


def _check(
    x: Tensor,
    g: Tensor,
    beta: Tensor,
    weight: Tensor,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    beta_range: float,
) -> None:
    """Raise `ValueError` for the first argument that does not fit, from metadata."""
    keys, value_heads = checks.token_channels(x, memory, of_memory="value heads", of_x="heads"), memory.shape[1]
    for name, each in (("g", g), ("beta", beta)):
        checks.shape(name, each, len(x), value_heads)
    for name, each in (("A_log", A_log), ("dt_bias", dt_bias)):
        checks.shape(name, each, value_heads)
    rings.check(x, weight, None, ring, lengths, channels=(x.shape[1], keys))
    checks.same_device_and_kind(x=x, g=g, beta=beta, memory=memory, A_log=A_log, dt_bias=dt_bias)
    checks.same_type(x=x, g=g, beta=beta, memory=memory, A_log=A_log, dt_bias=dt_bias)
    checks.contiguous(memory=memory)
    checks.contiguous_rows(x=x)
    if not 0 < beta_range <= 2:
        raise ValueError(f"beta_range: {beta_range}, wants a number above 0 and at most 2")
