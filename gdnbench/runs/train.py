"""A training run: model, optimizer, data and step counter, with one method for a step and one to save them all."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from gdnbench.data import TokenizedCorpus
from gdnbench.data.batches import Feed, Sampler
from gdnbench.data.tasks import TaskCorpus
from gdnbench.graph import Replayed
from gdnbench.models import Decoder, build_decoder
from gdnbench.models.parametrization import parameter_groups
from gdnbench.models.running import running
from gdnbench.plan.spec import Execution, RunSpec
from gdnbench.runs.curve import Curve
from gdnbench.runs.schedule import learning_rate, rate_factor

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
WARM_UP_STEPS = 4  # not timed: first calls allocate and compile, the fourth may be captured


def build_model(spec: RunSpec) -> Decoder:
    """Return the run's initialized model on its device and in the type of its weights."""
    model = build_decoder(spec.model, spec.parametrization, seed=spec.seed)
    how = running(compile=spec.execution.compile, recompute=spec.execution.recompute)
    model.run(how, residual=torch.bfloat16 if spec.residual == "bfloat16" else None)
    return model.to(device=spec.device, dtype=DTYPES[spec.dtype])


def build_optimizer(spec: RunSpec, model: Decoder, *, weight_decay: float | None = None) -> torch.optim.Optimizer:
    """Return the optimizer with one group for each distinct rule; ``weight_decay`` overrides the specification's."""
    options, cuda = spec.optimizer, spec.device == "cuda"
    groups = parameter_groups(
        model,
        model.rules,
        options.name,
        lr=options.lr,
        weight_decay=options.weight_decay if weight_decay is None else weight_decay,
        eps=options.eps,
    )
    if options.name == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, fused=True, capturable=cuda)
    momentum = {"momentum": options.momentum, "nesterov": options.momentum > 0}
    return torch.optim.SGD(groups, lr=options.lr, **momentum, fused=cuda or None)  # type: ignore[arg-type]


def autocast(spec: RunSpec) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 autocast where that is the run's type."""
    if spec.dtype == "bfloat16":
        return torch.autocast(spec.device, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def in_force(spec: RunSpec) -> Execution:
    """Return how steps are really computed: there is no CUDA graph on a CPU."""
    return dataclasses.replace(spec.execution, graph=spec.execution.graph and spec.device == "cuda")


class Trainer:
    """A training run that can be saved after any step and goes on from there, on a CPU to the same bits.

    On a GPU no step waits for the one before: losses stay there until somebody asks for them.
    """

    def __init__(self, spec: RunSpec, corpus: TokenizedCorpus | TaskCorpus):
        assert spec.training is not None
        self.spec, self.training = spec, spec.training
        self.model = build_model(spec)
        self.optimizer = build_optimizer(spec, self.model)
        self._rates = torch.zeros(len(self.optimizer.param_groups), device=spec.device)
        self._factors = torch.tensor([group["lr_factor"] for group in self.optimizer.param_groups], device=spec.device)
        sizes = {"batch_size": self.training.batch_size, "seq_len": self.training.seq_len}
        self.sampler: Sampler = corpus.sampler(**sizes, seed=spec.seed)
        self.feed, self.curve = Feed(self.sampler, spec.device), Curve(spec.device)
        self.graph = Replayed(self._compute, self.optimizer.zero_grad) if in_force(spec).graph else None
        self.step, self.rate = 0, 0.0
        self.seconds = 0.0
        self.timed_seconds, self.timed_steps, self._steps_here, self._judged = 0.0, 0, 0, 0

    @property
    def fraction(self) -> float:
        """How much of the run is over, by steps or by seconds."""
        if self.training.seconds is not None:
            return min(1.0, self.seconds / self.training.seconds)
        return self.step / self.training.steps

    @property
    def tokens_per_step(self) -> int:
        """Tokens in a batch."""
        return self.training.batch_size * self.training.seq_len

    @property
    def tokens_per_s(self) -> float | None:
        """Training tokens per second, without the first steps of each process; None before any was timed."""
        return self.timed_steps * self.tokens_per_step / self.timed_seconds if self.timed_steps else None

    @property
    def losses(self) -> list[float]:
        """The losses of all steps in nats; on a GPU, waits for the last one."""
        with self._counted():
            self.curve.read()
        return self.curve.losses

    @property
    def known_loss(self) -> float | None:
        """The last loss that is known without waiting; None before any is."""
        return self.curve.losses[-1] if self.curve.losses else None

    def advance(self) -> None:
        """Train one step."""
        if self._steps_here == WARM_UP_STEPS and self.spec.device == "cuda":
            with self._counted():
                torch.cuda.synchronize()
        with self._counted(1):
            self._set_learning_rate()
            self.feed.load(self.step)
            (self.graph or self._compute)()
            self.curve.stepped()
        self.step += 1

    def _compute(self) -> None:
        """Do what a step does on the device: read the batch, change weights, state and curve, each in its place."""
        self.optimizer.zero_grad()
        loss = self._accumulate(self.feed.batch)
        parameters, clip = list(self.model.parameters()), self.spec.optimizer.clip
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        self.optimizer.step()
        self.curve.write(loss, norm)

    def _accumulate(self, batch: torch.Tensor) -> torch.Tensor:
        """Add the gradients of the mean loss over a batch, pass by pass, and return that loss."""
        total: torch.Tensor | None = None
        whole = self.sampler.parts(batch)[1]
        for part in batch.split(self.spec.execution.micro_batch or len(batch)):
            tokens, targets = self.sampler.parts(part)
            with autocast(self.spec):
                loss = self.model.loss(tokens, targets) * self.sampler.share(targets, whole)
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def row(self) -> dict[str, Any]:
        """Return the last step's row: step, tokens, loss in nats, learning rate and gradient norm."""
        return {
            "type": "train",
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": self.losses[-1],
            "lr": self.rate,
            "grad_norm": self.curve.norm,
        }

    def problem(self) -> str | None:
        """Return the first of the losses since the last call that shows divergence, in words, or None."""
        losses, begun = self.losses, self._judged
        self._judged = len(losses)
        # A start may be bad without having diverged: tied embeddings can begin with a loss far above log(vocabulary).
        bound = max(self.training.max_loss, 2 * losses[0]) if losses else self.training.max_loss
        for index, loss in enumerate(losses[begun:], begun):
            if not (math.isfinite(loss) and loss <= bound):
                step = self.step - len(losses) + index + 1
                return f"loss {loss:.4g} at step {step} (bound {bound:.3g})"
        return None

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as tensors and plain data; the data's position is the step."""
        losses = list(self.losses)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": losses,
            "seconds": self.seconds,
            "timed": [self.timed_seconds, self.timed_steps],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.spec.device == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.graph is not None:
            self.graph.forget()
        self.curve.losses, self._judged = list(state["losses"]), 0
        self.step, self.seconds = state["step"], state["seconds"]
        self.timed_seconds, self.timed_steps = state["timed"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])

    def _set_learning_rate(self) -> None:
        """Set all groups to the step's rate."""
        schedule, peak = self.spec.schedule, self.spec.optimizer.lr
        if self.training.seconds is None:
            self.rate = learning_rate(schedule, peak, self.step, self.training.steps)
        else:
            # By time: warm-up steps are read as a share of the planned steps.
            warmup = min(0.5, schedule.warmup_steps / max(1, self.training.steps))
            self.rate = peak * max(1e-3, rate_factor(schedule, self.fraction, warmup))
        if self.spec.device == "cuda":
            # On the device, where a graph reads them.
            torch.mul(self._factors, self.rate, out=self._rates)
        for index, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self._rates[index] if self.spec.device == "cuda" else self.rate * group["lr_factor"]

    @contextlib.contextmanager
    def _counted(self, steps: int = 0) -> Iterator[None]:
        """Count the time of a block: that of beginning so many steps, or of waiting for those that were begun."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self._steps_here += steps
        if self._steps_here > WARM_UP_STEPS:
            self.timed_seconds += seconds
            self.timed_steps += steps
