"""The project's own training step as the bench measures it: a `Trainer` on random tokens, and nothing else."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from gdnbench_kernels import backends

from gdnbench.configuration import from_mapping
from gdnbench.data import TokenizedCorpus
from gdnbench.data.batches import BatchSampler
from gdnbench.measure.training.case import OURS, TrainingCase
from gdnbench.measure.training.text import tokens
from gdnbench.plan.spec import Execution, Optimizer, RunSpec, Schedule, Training
from gdnbench.runs.train import Trainer

FOREVER = 1_000_000  # steps: the bench says when it is enough


class OwnTrainer:
    """A `gdnbench.measure.training.stepping.Stepper` on the steps that runs are made of."""

    def __init__(self, case: TrainingCase):
        self.trainer = Trainer(spec_of(case), _corpus(case))
        model = self.trainer.model
        self.params_total = model.parameter_count(embedding=True)
        self.params_non_embedding = model.parameter_count(embedding=False)

    def step(self) -> None:
        """Train one step; losses are read as often as in a run."""
        self.trainer.advance()
        if self.trainer.step % self.trainer.training.log_every == 0:
            self.loss()

    def loss(self) -> float:
        """Return the last step's loss."""
        return float(self.trainer.losses[-1])

    def what_ran(self) -> Mapping[str, str]:
        """Return the backend of every operation, with what each says that it ran."""
        found = self.trainer.model.backends()
        said = {
            f"{op}.{key}": value for op, impl in found.items() for key, value in backends.what_ran(op, impl).items()
        }
        return {**found, **said}


def spec_of(case: TrainingCase) -> RunSpec:
    """Return the run that a case measures some steps of: AdamW at a constant rate, without warm-up."""
    settings: dict[str, Any] = dict(case.settings)
    execution = from_mapping(Execution, settings.pop("execution", {}), "execution")
    return RunSpec(
        experiment="bench",
        arm=OURS,
        model=case.model,
        optimizer=Optimizer(lr=1e-3),
        schedule=Schedule(kind="constant", warmup_steps=0),
        training=Training(steps=FOREVER, batch_size=case.batch, seq_len=case.seq_len, checkpoint_every=FOREVER),
        seed=case.seed,
        device=case.device,
        dtype=case.dtype,
        execution=execution,
        **(settings if case.dtype == "bfloat16" else {}),
    )


def _corpus(case: TrainingCase) -> TokenizedCorpus:
    """Return as much of a corpus as a trainer reads: the batches of its train split."""
    text = tokens(case.model.vocab_size, case.batch, case.seq_len, case.seed)
    return cast(TokenizedCorpus, SimpleNamespace(sampler=partial(BatchSampler, text)))
