"""The decoder: embedding, blocks of (norm, mixer, norm, feedforward), norm, head; the same for every mixer."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gdnbench_kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_scores
from torch import Tensor, nn
from torch.nn import functional as F

from gdnbench.errors import GdnbenchError, WidthError
from gdnbench.models import registry
from gdnbench.models.apart import computed_apart
from gdnbench.models.config import ModelConfig
from gdnbench.models.feedforward import build_feedforward
from gdnbench.models.mixer import Mixer, Shared, State, StatefulLayer
from gdnbench.models.norm import LayerNorm, RMSNorm, add_and_norm, build_norm
from gdnbench.models.parametrization import Parametrization, Rule, apply
from gdnbench.models.pattern import layer_mixers
from gdnbench.models.projection import Projection
from gdnbench.models.roles import Multiplier, Role, declare, normal
from gdnbench.models.running import Running, running


class Embedding(nn.Module):
    """A table of token vectors ``[vocabulary, D]``."""

    weight: nn.Parameter

    def __init__(self, vocab_size: int, width: int, *, std: float):
        super().__init__()
        role = Role(row="embedding", fan_out=width, init=normal(std))
        declare(self, "weight", (vocab_size, width), role)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up ``[B, T]`` tokens as ``[B, T, D]``."""
        return F.embedding(tokens, self.weight)


class Block(nn.Module):
    """``x + c mixer(norm(x))``, then ``x + feedforward(norm(x))`` unless the block has none.

    The factor ``c`` is 1 but under the tables that follow the paper's second released file. Where an architecture's
    own block has layer norms (RWKV-7), its first one normalizes the embedding, too.
    """

    def __init__(self, config: ModelConfig, arch: str, layer: int):
        super().__init__()
        mixer = registry.find(arch)
        native = config.block == "native"
        kind = mixer.native_feedforward if native else "swiglu"
        norm = partial(build_norm, mixer.native_norm if native else "rms", config.width, eps=config.norm_eps)
        self.arch, self.impl = arch, config.backend_of("add_norm")
        self.input_norm = norm() if native and mixer.native_norm == "layer" and layer == 0 else None
        self.mixer_norm = norm()
        self.mixer: Mixer = mixer(config, layer)
        self.mixer_output = Multiplier("mixer_output", fan_in=config.width)
        self.feedforward = build_feedforward(kind, config, layer)
        self.feedforward_norm = norm() if self.feedforward else None

    def forward(
        self, x: Tensor, y: Tensor | None, state: dict[str, State] | None, shared: Shared, *, step: bool = False
    ) -> tuple[Tensor, Tensor | None, dict[str, State] | None]:
        """Map a residual stream ``x [B, T, D]`` and what is still to be added to it; with a state, return the next one.

        What the last layer puts out is added by the norm that comes next. Steps are without T.
        """
        new: dict[str, State] = {}
        if self.input_norm is not None:
            x = self.input_norm(x)
        for name, (norm, layer) in self.layers().items():
            x, normed = add_and_norm(norm, x, y, impl=self.impl)
            if step:
                assert state is not None
                y, carried = layer.step(normed, state[name], shared)
            else:
                y, carried = layer(normed, None if state is None else state[name], shared)
            y = self.mixer_output(y) if name == "mixer" else y
            if carried is not None:
                new[name] = carried
        if computed_apart():
            assert y is not None
            x, y = x + y, None
        return x, y, None if state is None else new

    def layers(self) -> dict[str, tuple[RMSNorm | LayerNorm, StatefulLayer]]:
        """Return the layers that are summed into the residual stream, each with its norm, in order."""
        layers: dict[str, tuple[RMSNorm | LayerNorm, StatefulLayer]] = {"mixer": (self.mixer_norm, self.mixer)}
        if self.feedforward is not None and self.feedforward_norm is not None:
            layers["feedforward"] = (self.feedforward_norm, self.feedforward)
        return layers


class _Nothing(torch.autograd.Function):
    """What is to be added before the first layer: zeros like what others add, so that one compiled block serves all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.zeros_like(x, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


class Decoder(nn.Module):
    """A language model over one kind of mixer, or a pattern of several.

    Build it with `build_decoder`, which also initializes it; ``rules`` then holds what each parameter got.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.rules: tuple[Rule, ...] = ()
        self.impl = {operation: config.backend_of(operation) for operation in ("add_norm", "linear_cross_entropy")}
        self.running = running()
        self.residual: torch.dtype | None = None
        self.embedding = Embedding(config.vocab_size, config.width, std=config.embedding_std)
        for name in config.options:
            registry.find(name)
        mixers = layer_mixers(config)
        # Layers see the real number of blocks, which a native form may have multiplied.
        config = dataclasses.replace(config, depth=len(mixers))
        self.blocks = nn.ModuleList(Block(config, arch, layer) for layer, arch in enumerate(mixers))
        kind = registry.find(mixers[-1]).native_norm if config.block == "native" else "rms"
        self.norm = build_norm(kind, config.width, eps=config.norm_eps)
        if config.tied:
            self.logit_scale = Multiplier("readout", fan_in=config.width)
        else:
            self.head = Projection(config.width, config.vocab_size, row="readout", init=normal(config.init_std))

    def forward(self, tokens: Tensor, state: list[Any] | None = None) -> tuple[Tensor, list[Any] | None]:
        """Return logits ``[B, T, vocabulary]`` of ``tokens [B, T]``; with a state, continue and return the new one."""
        x, new_state = self._run(tokens, state, step=False)
        return self.logits(x), new_state

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return what the head reads of ``tokens [B, T]``: the last norm's output ``[B, T, D]``."""
        return self._run(tokens, None, step=False)[0]

    def run(self, how: Running, *, residual: torch.dtype | None = None) -> None:
        """Choose how training passes run, and the type of the residual stream under autocast; None: the embedding's."""
        self.running, self.residual = how, residual

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of ``targets [B, T]`` after ``tokens [B, T]``; differentiable.

        Logits never exist whole; as everywhere, products are in the type of autocast and sums in float32 or wider.
        """
        x, targets = self.hidden(tokens).flatten(0, 1), targets.flatten()
        weight, scale = self.head_matrix()
        return linear_cross_entropy(x, weight, targets, scale=scale, impl=self.impl["linear_cross_entropy"])

    def scores(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log likelihood of each of ``targets [B, T]`` in nats, ``[B, T]``; without gradients.

        It is 0 where a target is -100. Logits never exist whole, and are not rounded.
        """
        x, (weight, scale) = self.hidden(tokens).flatten(0, 1), self.head_matrix()
        impl = self.impl["linear_cross_entropy"]
        return linear_cross_entropy_scores(x, weight, targets.flatten(), scale=scale, impl=impl).view_as(targets)

    def logits(self, x: Tensor) -> Tensor:
        """Map what `hidden` returns ``[..., D]`` to logits ``[..., vocabulary]``."""
        return self.logit_scale(F.linear(x, self.embedding.weight)) if self.config.tied else self.head(x)

    def head_matrix(self) -> tuple[Tensor, float]:
        """Return the matrix ``[vocabulary, D]`` and the factor that make logits."""
        if self.config.tied:
            return self.embedding.weight, self.logit_scale.value
        return self.head.weight, self.head.factor

    def step(self, tokens: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """Return logits ``[B, vocabulary]`` of one token each ``[B]``, and the state after; ``state`` is consumed."""
        x, new_state = self._run(tokens, state, step=True)
        assert new_state is not None
        return self.logits(x), new_state

    def prefill(self, tokens: Tensor, state: list[Any]) -> tuple[Tensor, Tensor | None, list[Any]]:
        """Continue a state by ``tokens [B, T]``, of which only the last position is read.

        Returns:
            The residual stream there ``[B, D]``, what the last norm still adds to it, and the new state.
        """
        x, y, new_state = self._through(self._stream(tokens), state, {}, step=False)
        return x[:, -1], None if y is None else y[:, -1], new_state

    def _stream(self, tokens: Tensor) -> Tensor:
        """Return the residual stream that tokens begin."""
        x = self.embedding(tokens)
        if self.residual is not None and torch.is_autocast_enabled(x.device.type):
            return x.to(self.residual)
        return x

    def _run(self, tokens: Tensor, state: list[Any] | None, *, step: bool) -> tuple[Tensor, list[Any] | None]:
        x = self._stream(tokens)
        shared: Shared = {}
        if state is None:
            for mixer in {block.arch: block.mixer for block in self.block_list()}.values():
                shared |= mixer.shares(x)
            if torch.is_grad_enabled():
                return self._train(x, shared), None
        x, y, states = self._through(x, state, shared, step=step)
        _, normed = add_and_norm(self.norm, x, y, impl=self.impl["add_norm"])
        return normed, None if state is None else states

    def _through(
        self, x: Tensor, state: list[Any] | None, shared: Shared, *, step: bool
    ) -> tuple[Tensor, Tensor | None, list[Any]]:
        """Run all blocks; return the residual stream, what is still to be added to it, and the blocks' new states."""
        y, states = None, []
        for index, block in enumerate(self.blocks):
            x, y, carried = block(x, y, None if state is None else state[index], shared, step=step)
            states.append(carried)
        return x, y, states

    def _train(self, x: Tensor, shared: Shared) -> Tensor:
        kind = x.device.type
        products = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        y: Tensor = _Nothing.apply(x, products)
        for block in self.blocks:
            x, y = self.running(block, x, y, shared)
        return add_and_norm(self.norm, x, y, impl=self.impl["add_norm"])[1]

    def init_state(self, batch_size: int) -> list[Any]:
        """Return the state before the first token, one entry a block."""
        blocks = (block.layers().items() for block in self.block_list())
        return [{name: layer.init_state(batch_size) for name, (_, layer) in layers} for layers in blocks]

    def state_bytes(self, context: int, element_size: int = 4) -> int:
        """Return the bytes of one sequence's state after ``context`` tokens."""
        return sum(layer.state_bytes(context, element_size) for layer in self._layers())

    def parameter_count(self, *, embedding: bool) -> int:
        """Return the number of parameters by formula, with or without the embedding and an untied head."""
        config = self.config
        tables = config.vocab_size * config.width * (1 if config.tied else 2)
        layers = [layer.parameter_count() for layer in self._layers()]
        norms = sum(norm.parameter_count() for norm in self._norms())
        return sum(layers) + norms + (tables if embedding else 0)

    def flops_per_token(self, context: int, *, training: bool = False) -> int:
        """Return the FLOPs of a token, averaged over a sequence of ``context`` tokens; a multiply-add is 2.

        The sum of the layers' formulas and of the head's ``2 D vocabulary``; the embedding is a look-up, and norms
        and residual sums are not counted. Training takes three times the forward pass.
        """
        forward = sum(layer.flops_per_token(context) for layer in self._layers())
        forward += 2 * self.config.width * self.config.vocab_size
        return 3 * forward if training else forward

    def backends(self) -> dict[str, str]:
        """Return the backend of every operation that is used."""
        mixers = (block.mixer.impl for block in self.block_list())
        return {operation: impl for choice in (*mixers, self.impl) for operation, impl in choice.items()}

    def block_list(self) -> list[Block]:
        """Return the blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _norms(self) -> list[RMSNorm | LayerNorm]:
        blocks = self.block_list()
        inputs = [block.input_norm for block in blocks if block.input_norm is not None]
        return [*inputs, *(norm for block in blocks for norm, _ in block.layers().values()), self.norm]

    def _layers(self) -> list[StatefulLayer]:
        return [layer for block in self.block_list() for _, layer in block.layers().values()]


def build_decoder(config: ModelConfig, parametrization: Parametrization, *, seed: int) -> Decoder:
    """Return an initialized decoder on the CPU in float32.

    Raises:
        GdnbenchError: a name that does not exist, a width that the heads do not divide, a parameter without a role.
    """
    model = with_nearest_widths(config, Decoder)
    with torch.device("meta"):
        base = Decoder(config.at_base())
    role_rows = {role: entry for block in model.block_list() for role, entry in block.mixer.role_rows.items()}
    model.rules = apply(model, base, parametrization, seed=seed, role_rows=role_rows)
    stated, actual = model.parameter_count(embedding=True), sum(p.numel() for p in model.parameters())
    if stated != actual:
        raise GdnbenchError(f"{config.arch}: states {stated} parameters, but has {actual}")
    return model


def on_meta(config: ModelConfig) -> Decoder:
    """Return the decoder without memory for its weights, to count what it would have."""

    def build(config: ModelConfig) -> Decoder:
        with torch.device("meta"):
            return Decoder(config)

    return with_nearest_widths(config, build)


def with_nearest_widths(config: ModelConfig, build: Callable[[ModelConfig], Decoder]) -> Decoder:
    """Build a decoder; where its width does not fit, raise with the nearest widths that do."""
    try:
        return build(config)
    except WidthError as error:
        reach = range(1, 2 * config.base_width + 1)
        below = next((w for w in (config.width - k for k in reach) if w > 0 and _fits(config, w)), None)
        above = next((w for w in (config.width + k for k in reach) if _fits(config, w)), None)
        near = [str(width) for width in (below, above) if width is not None]
        raise WidthError(f"{error}; nearest widths that work: {', '.join(near) or 'none'}") from None


def _fits(config: ModelConfig, width: int) -> bool:
    try:
        with torch.device("meta"):
            Decoder(dataclasses.replace(config, width=width))
    except WidthError:
        return False
    return True
