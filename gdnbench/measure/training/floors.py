"""The floor of a training step: the time below which no implementation of the model gets that keeps its parts apart.

One function a component, each with its derivation. Activations and weights in products have 2 bytes (bfloat16), stored
weights, gradients and moments 4; a multiply-add is two operations; N = batch * length tokens, d the width. Each pass
takes at least max(bytes / copy bandwidth, operations / matmul rate), both measured in the run that compares with it.
What a product reads and writes is taken to hide behind its arithmetic; what an element-wise operation reads and writes
is counted once, since it is not fused into a product. So this is the floor of unfused practice and not of physics: an
implementation that fuses such operations into products can be below it in that component.
"""

from collections.abc import Iterator

from gdnbench.errors import GdnbenchError
from gdnbench.measure.kernels import floors as operations
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import Shape
from gdnbench.measure.kernels.floors import Work, floor_ms
from gdnbench.measure.training import components
from gdnbench.models.convolution import ShortConvolution
from gdnbench.models.decoder import Decoder
from gdnbench.models.feedforward import ChannelMix
from gdnbench.models.mixer import Mixer
from gdnbench.models.roles import parameters_with_roles

HALF, SINGLE = 2, 4  # bytes

Works = tuple[Work, ...]

# Sequence operation -> the mixer's attributes that hold heads, key and value head dim.
DIMENSIONS = {
    "gated_delta": ("value_heads", "key_dim", "value_dim"),
    "ssd": ("heads", "state_dim", "head_dim"),
    "wkv7": ("heads", "head_dim", "head_dim"),
    "attention": ("heads", "head_dim", "head_dim"),
}
LEAST = {
    "gated_delta": operations.gated_delta,
    "ssd": operations.ssd,
    "wkv7": operations.wkv7,
    "attention": operations.attention,
}


def floors(model: Decoder, batch: int, seq_len: int, calibration: Calibration) -> dict[str, float]:
    """Return component -> least milliseconds of a training step; no entry where a model has no such part.

    Args:
        model: the decoder; its weights are not read, so that it may be on the meta device.
        batch: sequences of a step.
        seq_len: tokens of a sequence.
        calibration: copy bandwidth and matmul rate.

    Raises:
        GdnbenchError: a mixer calls no operation whose least work is known.
    """
    tokens = batch * seq_len
    works: dict[str, Works] = {
        components.MATMUL: matrix_products(model, tokens),
        components.MIXER: mixing(model, batch, seq_len, attention=False),
        components.ATTENTION: mixing(model, batch, seq_len, attention=True),
        components.CONVOLUTION: convolutions(model, tokens),
        components.ELEMENTWISE: elementwise(model, tokens),
        components.LOSS: loss(model, tokens),
        components.EMBEDDING: embedding(model, tokens),
        components.OPTIMIZER: optimizer(model),
        components.COPIES: casts(model),
    }
    return {name: floor_ms(work, calibration) for name, work in works.items() if work}


def matrix_weights(model: Decoder) -> int:
    """Return the weights that a token is multiplied with: all matrices, and the head, tied or not."""
    matrices = sum(_numel(module, local) for module, local, fan in _roles(model) if fan > 1)
    return matrices + (model.config.width * model.config.vocab_size if model.config.tied else 0)


def matrix_products(model: Decoder, tokens: int) -> Works:
    """6 operations a weight and token: forward, the gradient of the input and that of the weight, 2 each."""
    return (Work(6 * matrix_weights(model) * tokens, 0),)


def mixing(model: Decoder, batch: int, seq_len: int, *, attention: bool) -> Works:
    """The passes of every block's sequence operation, as `gdnbench.measure.kernels.floors` counts them."""
    found: list[Work] = []
    for mixer in _mixers(model):
        operation = sequence_operation(mixer)
        if (operation == "attention") == attention:
            heads, keys, values = (getattr(mixer, name) for name in DIMENSIONS[operation])
            shape = Shape(batch, seq_len, heads, keys, values)
            found += LEAST[operation](shape, HALF, "forward_backward")
    return tuple(found)


def convolutions(model: Decoder, tokens: int) -> Works:
    """Of all channels that a block convolves: x -> y forward, x, dy -> dx backward."""
    found: list[Work] = []
    for mixer in _mixers(model):
        channels = sum(conv.weight.shape[0] for conv in mixer.modules() if isinstance(conv, ShortConvolution))
        if channels:
            found += operations.short_convolution(Shape(tokens, 1, 1, 0, channels), HALF, "forward_backward")
    return tuple(found)


def elementwise(model: Decoder, tokens: int) -> Works:
    """Numbers a token that are read or written once, 2 bytes each: of the residual stream, mixers and feedforwards.

    Residual sum and norm, one operation a layer: forward it reads the stream and the layer's output and writes the
    stream and its norm (4d); backward it reads both gradients and the stream and writes the stream's gradient (4d).
    The first norm has nothing to add: 2d and 3d.
    """
    width = model.config.width
    layers = [layer for block in model.block_list() for _, layer in block.layers().values()]
    forward = backward = 4 * width * len(layers)
    forward, backward = forward + 2 * width, backward + 3 * width
    for layer in layers:
        numbers = _of_mixer(layer) if isinstance(layer, Mixer) else _of_feedforward(layer)
        forward, backward = forward + numbers[0], backward + numbers[1]
    return Work(0, HALF * tokens * forward), Work(0, HALF * tokens * backward)


def loss(model: Decoder, tokens: int) -> Works:
    """Logits N x vocabulary, 2 bytes: written by the head's product and read; their gradients written and read."""
    logits = HALF * tokens * model.config.vocab_size
    return Work(0, 2 * logits), Work(0, 2 * logits)


def embedding(model: Decoder, tokens: int) -> Works:
    """Forward, rows of 4-byte numbers read and 2-byte ones written; backward, these read and the table added to."""
    width, table = model.config.width, SINGLE * model.config.width * model.config.vocab_size
    return Work(0, (SINGLE + HALF) * tokens * width), Work(0, HALF * tokens * width + 2 * table)


def optimizer(model: Decoder) -> Works:
    """AdamW reads weight, gradient and both moments and writes all but the gradient; clipping reads the gradient."""
    parameters = sum(_numel(module, local) for module, local, _ in _roles(model))
    return (Work(0, (4 + 3) * SINGLE * parameters), Work(0, SINGLE * parameters))


def casts(model: Decoder) -> Works:
    """Every matrix is read in 4 bytes and written in 2, once a step; products write weight gradients as they stay."""
    return (Work(0, (SINGLE + HALF) * matrix_weights(model)),)


def sequence_operation(mixer: Mixer) -> str:
    """Return the operation by which a mixer mixes tokens; raise where its least work is not known."""
    known = [operation for operation in mixer.impl if operation in DIMENSIONS]
    if len(known) != 1:
        raise GdnbenchError(
            f"{type(mixer).__name__}: its floor is not known, since it calls none, or more than one, of "
            f"{', '.join(DIMENSIONS)}"
        )
    return known[0]


def _of_mixer(mixer: Mixer) -> tuple[int, int]:
    """Return numbers a token, forward and backward, around a mixer's operation.

    - gated_delta: gated norm of V by head, o, z -> y and o, z, dy -> do, dz
    - ssd: the same over the inner width (its skip is taken to be fused into it or into the operation)
    - attention: rotation of q and k in place; with an output gate, the gated norm, too
    - wkv7, d each: token shift x -> 6, 6, x -> dx; inputs of the operation (decay, rate, k, v, the first value, the
      value mix: 6 -> 5; backward 5 + 6 -> 6); group norm, bonus and gate o, r, k, v, z -> y, those and dy -> 5
    """
    operation = sequence_operation(mixer)
    heads, keys, values = (getattr(mixer, name) for name in DIMENSIONS[operation])
    normed = heads * values
    if operation in ("gated_delta", "ssd"):
        return 3 * normed, 5 * normed
    if operation == "wkv7":
        return (7 + 11 + 6) * normed, (8 + 17 + 11) * normed
    rotated = 2 * (heads + mixer.kv_heads) * keys
    gated = normed if getattr(mixer, "o_norm", None) is not None else 0
    return rotated + 3 * gated, rotated + 5 * gated


def _of_feedforward(layer: object) -> tuple[int, int]:
    """Return numbers a token, forward and backward.

    SwiGLU of m: gate, up -> product; those and its gradient -> two gradients. Channel mix: token shift x -> 1 and
    gradient, x -> dx; squared ReLU h -> y and h, dy -> dh.
    """
    hidden = layer.hidden  # type: ignore[attr-defined]
    if isinstance(layer, ChannelMix):
        return 2 * layer.width + 2 * hidden, 3 * layer.width + 3 * hidden
    return 3 * hidden, 5 * hidden


def _mixers(model: Decoder) -> list[Mixer]:
    return [block.mixer for block in model.block_list()]


def _roles(model: Decoder) -> Iterator[tuple[object, str, int]]:
    """Yield (module, name, fan in) of every parameter."""
    for _, module, local, role in parameters_with_roles(model):
        yield module, local, role.fan_in


def _numel(module: object, local: str) -> int:
    return int(getattr(module, local).numel())
