"""A run specification: everything that determines one run's numbers, frozen, with an id made from it."""

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Literal

from gdnbench.configuration import LATER, NO_IDENTITY, digest
from gdnbench.data.corpora import corpus_label
from gdnbench.data.tasks import Recall, Words
from gdnbench.data.vocabulary import tokenizer_label
from gdnbench.models.config import ModelConfig
from gdnbench.models.parametrization import Parametrization


@dataclass(frozen=True, kw_only=True)
class Data:
    """A corpus and a tokenizer by name (`gdnbench.data`); ``tokenizer_corpus``: what it was trained on, if not that.

    ``task`` holds the options of a ``corpus`` that is a synthetic task (`gdnbench.data.tasks`), which has no tokenizer.
    """

    corpus: str = "stdlib"
    tokenizer: str = "bytes"
    tokenizer_corpus: str = field(default="", metadata=LATER)
    task: Recall | Words | None = field(default=None, metadata=LATER)

    def placeless(self) -> "Data":
        """Return all without the place of their files on this machine: what a record and an id may hold."""
        return Data(
            corpus=corpus_label(self.corpus),
            tokenizer=tokenizer_label(self.tokenizer),
            tokenizer_corpus=corpus_label(self.tokenizer_corpus),
            task=self.task,
        )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW, or SGD with Nesterov momentum; ``lr`` is the base rate that a table's factors multiply."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.98
    weight_decay: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then cosine to ``final_fraction``; constant; or wsd: constant with a linear end.

    ``minimum_lr`` is an absolute floor of the base rate (the paper's 5e-5), before a table's factors.
    """

    kind: Literal["cosine", "constant", "wsd"] = "cosine"
    warmup_steps: int = 10
    final_fraction: float = 0.1
    decay_fraction: float = 0.2
    minimum_lr: float = 0.0

    def decay_start(self, steps: int) -> int:
        """Return the last step of a run of ``steps`` until which a ``wsd`` schedule is a constant one."""
        return int(self.warmup_steps + (1 - self.decay_fraction) * (steps - self.warmup_steps))


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and in what batches; ``seconds`` replaces ``steps`` where wall-clock is what is matched.

    A loss above ``max_loss`` nats and above twice the first one, or one that is no number, ends the run as diverged.
    ``keep_checkpoint`` leaves the trained weights beside the record; ``keep_at`` keeps a checkpoint of each of these
    steps, for runs that begin there.
    """

    steps: int = 100
    seconds: float | None = None
    batch_size: int = 16
    seq_len: int = 64
    log_every: int = 10
    checkpoint_every: int = 50
    max_loss: float = 20.0
    keep_checkpoint: bool = False
    keep_at: tuple[int, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a run begins with, of another run of its set, which keeps it (`Training.keep_at`).

    Attributes:
        run: id of the other run, which ends in the hash of all that determines its numbers.
        step: step of the checkpoint.
        takes: ``state``: the run goes on from there as if it had trained those steps itself; ``weights``: it begins at
            step 0, with a new optimizer, on these weights.
    """

    run: str
    step: int
    takes: Literal["state", "weights"] = "state"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss on fixed, evenly spaced windows of a split after training.

    ``carry_state`` adds, on the first quarter as many tokens of the validation split, the loss with the state carried
    from window to window and the loss without, which are metrics of their own. ``documents`` scores every document of
    the splits but ``valid`` whole, one row each, and counts what 13-grams of all stand in the train split. ``also``
    names corpora (``name[:path]``) whose test split is scored, too: text that the model was not trained on.

    ``lengths`` adds, for a text, the loss of the last split in windows of each of these lengths, all of the same
    tokens, and its loss by position in the longest; for a task of state tracking, the accuracy at these lengths.
    """

    sequences: int = 96
    splits: tuple[str, ...] = ("valid",)
    carry_state: bool = False
    documents: bool = field(default=False, metadata=LATER)
    also: tuple[str, ...] = field(default=(), metadata=LATER)
    lengths: tuple[int, ...] = field(default=(), metadata=LATER)

    def placeless(self) -> "Evaluation":
        """Return it without the place of files on this machine: what a record and an id may hold."""
        return dataclasses.replace(self, also=tuple(map(corpus_label, self.also)))


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """A coordinate check: activation sizes at the start and update sizes after each number of steps."""

    after_steps: tuple[int, ...] = (1, 4)
    batch_size: int = 8
    seq_len: int = 64


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Generation: ``tokens`` steps timed after a prompt of ``context`` tokens."""

    context: int = 256
    batch_size: int = 1
    tokens: int = 32


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a training step is computed, not what: no part of a run's identity, and open to change when it is resumed.

    Attributes:
        compile: each kind of block is compiled (`torch.compile`) once, and serves all its layers.
        graph: a whole step (forward, backward, clipping, optimizer) is one CUDA graph; needs a GPU.
        recompute: ``cheap``: convolutions, activations, gates and inner norms are computed again in the backward pass
            instead of being kept; matrix products, mixers and residual sums are kept. ``some``: gated norms are, too.
        micro_batch: sequences of a pass; a step's batch goes through in several, whose gradients are summed. None: all
            at once.
    """

    compile: bool = False
    graph: bool = False
    recompute: Literal["none", "some", "cheap"] = "none"
    micro_batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What a comparison held equal, and how far this run is from it (relative, signed)."""

    by: str
    reference: str
    deviation: float


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run. Exactly one of ``training``, ``coordinates`` and ``decode`` is set, and gives its kind.

    Attributes:
        experiment: the preset's experiment that it belongs to.
        arm: the experiment's arm, as tables and figures name it.
        model: the decoder.
        parametrization: table and switches.
        data: corpus and tokenizer.
        optimizer: optimizer and base learning rate.
        schedule: course of the learning rate.
        training: set for a training run.
        origin: the checkpoint that a training run begins with; None: it begins with its seed's start.
        evaluation: what is measured after training.
        coordinates: set for a coordinate check.
        decode: set for a measurement of generation.
        matched: what a comparison held equal.
        seed: seeds the start and the order of batches; equal seeds see equal batches in all arms.
        device: ``cpu`` or ``cuda``.
        dtype: type of weights and arithmetic (``bfloat16``: autocast over float32 weights).
        residual: type of the residual stream under dtype ``bfloat16``. In ``bfloat16`` it takes half the memory and its
            sums round to 8 bits; libraries that let autocast decide keep it in ``float32``.
        threads: threads of one run, part of its identity because sums depend on them.
        execution: how a step is computed.
    """

    experiment: str
    arm: str
    model: ModelConfig
    parametrization: Parametrization = field(default_factory=Parametrization)
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    training: Training | None = None
    origin: Origin | None = field(default=None, metadata=LATER)
    evaluation: Evaluation = field(default_factory=Evaluation)
    coordinates: Coordinates | None = None
    decode: Decode | None = None
    matched: Matched | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    residual: Literal["float32", "bfloat16"] = field(default="float32", metadata=LATER)
    threads: int = 1
    execution: Execution = field(default_factory=Execution, metadata=NO_IDENTITY)

    @property
    def kind(self) -> str:
        """``train``, ``coord_check`` or ``decode``."""
        if self.training is not None:
            return "train"
        return "coord_check" if self.coordinates is not None else "decode"

    @property
    def first_step(self) -> int:
        """The step at which its own training begins."""
        return self.origin.step if self.origin is not None and self.origin.takes == "state" else 0

    def placeless(self) -> "RunSpec":
        """Return the specification without the place of files on this machine."""
        return dataclasses.replace(self, data=self.data.placeless(), evaluation=self.evaluation.placeless())

    @functools.cached_property
    def run_id(self) -> str:
        """A readable name that ends in 10 digits of the hash of the full configuration, wherever its files lie."""
        parts = [self.experiment, self.model.arch, self.parametrization.table, f"w{self.model.width}"]
        if self.decode is not None:
            parts.append(f"c{self.decode.context}")
        return "-".join([*parts, f"s{self.seed}", digest(self.placeless())[:10]])
