"""Gates and norms on a GPU, in the one form that the chunked kernels, the decode step and their gradients share."""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
L2_EPS = tl.constexpr(1e-6)


@triton.jit
def softplus(x):
    """Return ``log(1 + e^x)`` without overflow."""
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def log_decay(g, A_log, dt_bias, gate_scale):
    """Return ``-exp(A_log) softplus(gate_scale g + dt_bias)``; ``g`` itself where ``A_log`` is None."""
    if A_log is not None:
        g = -tl.exp(A_log) * softplus(gate_scale * g + dt_bias)
    return g


@triton.jit
def log_decay_slope(g, A_log, dt_bias, gate_scale):
    """Return the derivative of `log_decay` by ``dt_bias``."""
    return -tl.exp(A_log) * tl.sigmoid(gate_scale * g + dt_bias)


@triton.jit
def writing_strength(beta, gate_scale, beta_range):
    """Return ``beta_range sigmoid(gate_scale beta)``; ``beta`` itself where ``beta_range`` is None."""
    if beta_range is not None:
        beta = beta_range * tl.sigmoid(gate_scale * beta)
    return beta


@triton.jit
def log_growth(beta, k_square):
    """Return by how many powers of two ``I - beta k k^T`` can grow a state: none, unless ``beta k^2`` exceeds 2."""
    return tl.log2(tl.maximum(tl.abs(1.0 - beta * k_square), 1.0))
