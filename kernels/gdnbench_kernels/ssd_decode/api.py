"""Arguments, checks and shapes of a Mamba-2 layer's token between its projections."""

from torch import Tensor

from gdnbench_kernels import backends, checks
from gdnbench_kernels.short_convolution import ring as rings


def ssd_decode(
    x: Tensor,
    dt: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    *,
    settled: bool = False,
    impl: str = "torch",
) -> Tensor:
    """Run one token: u, b and c of a short convolution under SiLU, then `ssd.ssd_step` of them, and the skip ``D u``.

    The step size is ``softplus(dt + dt_bias)``, the log decay ``-exp(A_log)`` times that. ``ring`` and ``memory`` are
    written in place; there are no gradients.

    Args:
        x: inputs of the convolution ``[B, H V + 2 G K]``: values of all heads, input vectors of the G groups, readout
            vectors (K is Mamba's state size, V its head dim); as slices of a wider projection, like dt.
        dt: raw step sizes ``[B, H]``.
        weight: taps ``[H V + 2 G K, size]``, the current input's last, any strides.
        bias: of the convolution, a number a channel.
        ring: its last inputs ``[B, size, H V + 2 G K]``, contiguous (`short_convolution.ring`), in x's type.
        memory: ``[B, H, K, V]``, contiguous, in float32, half precision, or the float64 of all.
        lengths: int32 ``[B]``: tokens that each row has seen before this one.
        A_log: ``[H]``.
        dt_bias: ``[H]``.
        D: ``[H]``.
        settled: the caller's word that the kernels that wrote ``ring``, ``memory`` and ``lengths`` have ended, whatever
            may still run of later ones (`gpu.pdl`): a GPU then reads them before the kernel that makes x has ended.
        impl: the backend, by name.

    Returns:
        The output ``[B, H V]`` in the type of x.

    Raises:
        ValueError: an argument does not fit; the message names it.
        BackendUnavailable: the backend does not exist or cannot run here.
        BackendRefusal: both of these: the backend does not serve such a call; the message names those that do.
    """
    _check(x, dt, weight, bias, ring, memory, lengths, A_log, dt_bias, D)
    backend = backends.serving("ssd_decode", "ssd_decode", impl, x, memory)
    output: Tensor = backend.ssd_decode(x, dt, weight, bias, ring, memory, lengths, A_log, dt_bias, D, settled=settled)
    return output


def _check(
    x: Tensor,
    dt: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ring: Tensor,
    memory: Tensor,
    lengths: Tensor,
    A_log: Tensor,
    dt_bias: Tensor,
    D: Tensor,
) -> None:
    """Raise `ValueError` for the first argument that does not fit, from metadata."""
    checks.token_channels(x, memory, of_memory="heads", of_x="groups")
    heads = memory.shape[1]
    checks.shape("dt", dt, len(x), heads)
    for name, each in (("A_log", A_log), ("dt_bias", dt_bias), ("D", D)):
        checks.shape(name, each, heads)
    rings.check(x, weight, bias, ring, lengths, channels=(x.shape[1],))
    checks.same_device_and_kind(x=x, dt=dt, memory=memory, A_log=A_log, dt_bias=dt_bias, D=D)
    checks.same_type(x=x, dt=dt, memory=memory, A_log=A_log, dt_bias=dt_bias, D=D)
    checks.contiguous(memory=memory)
    checks.contiguous_rows(x=x)
