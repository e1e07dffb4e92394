"""The floor: the time below which no kernel gets, from the operations it must do and the bytes it must move.

Counts are those of the chunked forms with chunks of C = 64 tokens; one multiply-add is two operations. A pass takes at
least max(bytes / copy bandwidth, operations / matmul rate). Forward and backward are two passes, one after the other:
their floors add up, because no cache holds the inputs of a whole batch from one to the other.

Gated delta rule, a chunk and head (notation of `gdnbench_kernels.gated_delta.gpu`):

- forward: k S, q S, k^T Delta (2CKV each); k k^T, q k^T (2C^2 K each); T X, P Delta (2C^2 V each)
  = 6CKV + 4C^2(K + V); the inverse of a 64 x 64 triangle (up to 8C^3) is left out, since it needs not be formed
- backward: two products for each of those, and S and Delta once more = 16CKV + 10C^2(K + V)
- bytes a token and head, each input read once and each output written once: forward q, k, v, g, beta -> o; backward
  q, k, v, g, beta, do -> dq, dk, dv, dg, dbeta; gates are float32
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import Direction, Shape

CHUNK_SIZE = 64
FLOAT32 = 4  # bytes of a gate


@dataclass(frozen=True)
class Work:
    """Operations and least bytes of one pass over the data."""

    flops: float
    bytes: float


def passes(forward: Work, backward: Work | None, direction: Direction) -> tuple[Work, ...]:
    """Return the passes that a direction consists of."""
    if direction == "forward":
        return (forward,)
    if backward is None:
        raise ValueError(f"direction {direction}: the operation has no backward pass")
    return (backward,) if direction == "backward" else (forward, backward)


def floor_ms(work: Sequence[Work], calibration: Calibration) -> float:
    """Return the least milliseconds of passes, one after the other, at the calibrated rates."""
    copy, matmul = 1e6 * calibration.copy_gb_s, 1e9 * calibration.matmul_tflop_s
    return sum(max(one.bytes / copy, one.flops / matmul) for one in work)


def gated_delta(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of the gated delta rule; ``element`` is the size of q, k, v in bytes."""
    square, state = _products(shape)
    tokens = shape.B * shape.T * shape.H
    inputs = (2 * shape.K + shape.V) * element + 2 * FLOAT32
    forward = Work(6 * state + 4 * square, tokens * (inputs + shape.V * element))
    backward = Work(16 * state + 10 * square, tokens * (2 * inputs + shape.V * element))
    return passes(forward, backward, direction)


def gated_delta_step(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the pass of one decode step: the float32 state is read and written, all else is small beside it.

    Operations a head: decay (KV), k S, k delta^T, q S (2KV each).
    """
    heads = shape.B * shape.H
    size = shape.K * shape.V
    vectors = 2 * (shape.K + shape.V) * element + 2 * FLOAT32
    return passes(Work(7 * heads * size, heads * (2 * size * FLOAT32 + vectors)), None, direction)


def ssd(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of Mamba-2's recurrence with one group of b and c for all heads.

    Forward, a chunk and head: the product of the masked c b^T with x, the state's write and read = 4CKV + 2C^2 V, and
    c b^T itself once for all heads, 2C^2 K; backward two products for each (those with c and b of what is summed over
    heads), and the state once more. Bytes: x, dt -> y by head; b, c once.
    """
    square, state = _products(shape)
    square *= (shape.V + shape.K / shape.H) / (shape.V + shape.K)
    by_head = shape.B * shape.T * shape.H
    shared = 2 * shape.B * shape.T * shape.K * element
    inputs = by_head * (shape.V * element + FLOAT32) + shared
    output = by_head * shape.V * element
    forward = Work(4 * state + 2 * square, inputs + output)
    return passes(forward, Work(10 * state + 4 * square, 2 * inputs + output), direction)


def wkv7(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of RWKV-7's recurrence.

    Forward, a chunk and head: a S, r S and the two writes of the state (2CKV each), four C x C matrices and their
    products = 8CKV + 8C^2(K + V); backward two products for each, and state and removed values once more. Bytes: r, w,
    k, v, a, b -> o.
    """
    square, state = _products(shape)
    tokens = shape.B * shape.T * shape.H
    inputs, output = (5 * shape.K + shape.V) * element, shape.V * element
    forward = Work(8 * state + 8 * square, tokens * (inputs + output))
    return passes(forward, Work(22 * state + 18 * square, tokens * (2 * inputs + output)), direction)


def kda(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of Kimi delta attention: the products of the gated delta rule, with a decay for every channel.

    Bytes: q, k, v, g (float32), beta -> o.
    """
    square, state = _products(shape)
    tokens = shape.B * shape.T * shape.H
    inputs = (2 * shape.K + shape.V) * element + (shape.K + 1) * FLOAT32
    forward = Work(6 * state + 4 * square, tokens * (inputs + shape.V * element))
    backward = Work(16 * state + 10 * square, tokens * (2 * inputs + shape.V * element))
    return passes(forward, backward, direction)


def attention(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of causal softmax attention: half of the T x T pairs; backward 2.5 times the products."""
    pairs = shape.B * shape.H * shape.T * shape.T / 2
    flops = 2 * pairs * (shape.K + shape.V)
    inputs = shape.B * shape.T * shape.H * (2 * shape.K + shape.V) * element
    output = shape.B * shape.T * shape.H * shape.V * element
    backward = Work(2.5 * flops, 2 * inputs + 2 * output)
    return passes(Work(flops, inputs + output), backward, direction)


def short_convolution(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of the convolution of q, k and v side by side: x -> y, and x, dy -> dx; 4 taps, SiLU."""
    numbers = shape.B * shape.T * shape.H * (2 * shape.K + shape.V)
    return passes(Work(8 * numbers, 2 * numbers * element), Work(24 * numbers, 3 * numbers * element), direction)


def gated_norm(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of the gated norm: x, z -> y, and x, z, dy -> dx, dz; about 8 operations a number and pass."""
    numbers = shape.B * shape.T * shape.H * shape.V
    return passes(Work(8 * numbers, 3 * numbers * element), Work(16 * numbers, 5 * numbers * element), direction)


def linear_cross_entropy(shape: Shape, element: int, direction: Direction) -> tuple[Work, ...]:
    """Return the passes of head and loss of N = B T tokens, width K, V words: 2NKV operations, and 4NKV backward.

    Bytes: x, W -> loss, and x, W -> dx, dW (in float32): nothing says that logits must reach the memory.
    """
    tokens, products = shape.B * shape.T, 2 * shape.B * shape.T * shape.K * shape.V
    inputs = (tokens + shape.V) * shape.K * element
    outputs = tokens * shape.K * element + shape.V * shape.K * FLOAT32
    return passes(Work(products, inputs), Work(2 * products, inputs + outputs), direction)


def _products(shape: Shape) -> tuple[float, float]:
    """Return C^2(K + V) and CKV, summed over chunks and heads."""
    chunks = shape.B * -(-shape.T // CHUNK_SIZE) * shape.H
    square = chunks * CHUNK_SIZE**2 * (shape.K + shape.V)
    return square, chunks * CHUNK_SIZE * shape.K * shape.V
