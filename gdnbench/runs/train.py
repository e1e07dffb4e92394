"""A training run: model, optimizer, data and step counter, with one method for a step and one to save them all."""

import contextlib
import math
import time
from typing import Any

import torch

from gdnbench.data import TokenizedCorpus
from gdnbench.data.batches import BatchSampler
from gdnbench.models import Decoder, build_decoder
from gdnbench.models.parametrization import parameter_groups
from gdnbench.plan.spec import RunSpec
from gdnbench.runs.schedule import learning_rate, rate_factor

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
WARM_UP_STEPS = 3  # not timed: first calls allocate and compile


def build_model(spec: RunSpec) -> Decoder:
    """Return the run's initialized model on its device and in the type of its weights."""
    model = build_decoder(spec.model, spec.parametrization, seed=spec.seed)
    return model.to(device=spec.device, dtype=DTYPES[spec.dtype])


def build_optimizer(spec: RunSpec, model: Decoder, *, weight_decay: float | None = None) -> torch.optim.Optimizer:
    """Return the optimizer with one group for each distinct rule; ``weight_decay`` overrides the specification's."""
    options = spec.optimizer
    groups = parameter_groups(
        model,
        model.rules,
        options.name,
        lr=options.lr,
        weight_decay=options.weight_decay if weight_decay is None else weight_decay,
        eps=options.eps,
    )
    if options.name == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, fused=True)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)


def autocast(spec: RunSpec) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 autocast where that is the run's type."""
    if spec.dtype == "bfloat16":
        return torch.autocast(spec.device, dtype=torch.bfloat16)
    return contextlib.nullcontext()


class Trainer:
    """A training run that can be saved after any step and goes on from there, on a CPU to the same bits."""

    def __init__(self, spec: RunSpec, corpus: TokenizedCorpus):
        assert spec.training is not None
        self.spec, self.training = spec, spec.training
        self.model = build_model(spec)
        self.optimizer = build_optimizer(spec, self.model)
        tokens = corpus.split("train").tokens
        self.sampler = BatchSampler(
            tokens, batch_size=self.training.batch_size, seq_len=self.training.seq_len, seed=spec.seed
        )
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        self.timed_seconds, self.timed_steps, self._steps_here = 0.0, 0, 0

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

    def advance(self) -> dict[str, Any]:
        """Train one step and return its row: step, tokens, loss in nats, learning rate and gradient norm."""
        started = time.perf_counter()
        rate = self._set_learning_rate()
        batch = self.sampler.batch(self.step).to(self.spec.device)
        with autocast(self.spec):
            loss = self.model.loss(batch[:, :-1], batch[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()
        clip = self.spec.optimizer.clip if self.spec.optimizer.clip > 0 else math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.losses.append(loss.item())
        self.step += 1
        self._count(time.perf_counter() - started)
        return {
            "type": "train",
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": self.losses[-1],
            "lr": rate,
            "grad_norm": norm.item(),
        }

    def problem(self) -> str | None:
        """Return how the last loss shows divergence, or None."""
        loss = self.losses[-1]
        if math.isfinite(loss) and loss <= self.training.max_loss:
            return None
        return f"loss {loss:.4g} at step {self.step} (bound {self.training.max_loss:g})"

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as tensors and plain data; the data's position is the step."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
            "seconds": self.seconds,
            "timed": [self.timed_seconds, self.timed_steps],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.spec.device == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses, self.seconds = state["step"], list(state["losses"]), state["seconds"]
        self.timed_seconds, self.timed_steps = state["timed"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])

    def _set_learning_rate(self) -> float:
        """Set all groups to the step's rate and return the base rate."""
        schedule, peak = self.spec.schedule, self.spec.optimizer.lr
        if self.training.seconds is None:
            rate = learning_rate(schedule, peak, self.step, self.training.steps)
        else:
            # By time: warm-up steps are read as a share of the planned steps.
            warmup = min(0.5, schedule.warmup_steps / max(1, self.training.steps))
            rate = peak * max(1e-3, rate_factor(schedule, self.fraction, warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        return rate

    def _count(self, seconds: float) -> None:
        self.seconds += seconds
        self._steps_here += 1
        if self._steps_here > WARM_UP_STEPS:
            self.timed_seconds += seconds
            self.timed_steps += 1
