"""Accuracy on synthetic tasks: every arm at every width at its own best rate, by what the task varies."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gdnbench.presets.schema import Experiment
from gdnbench.report.comparing import Choice, choose
from gdnbench.report.statistics import Interval, paired_difference
from gdnbench.report.study import ArmRuns, Study

# Metrics of a task's cases (`gdnbench.data.tasks.Case.metric`), and what they vary.
AXES = {"pairs": re.compile(r"accuracy_pairs_(\d+)"), "length": re.compile(r"accuracy_at_(\d+)")}
LENGTHS = re.compile(r"loss_at_(\d+)")


@dataclass(frozen=True, kw_only=True)
class TaskArm:
    """An arm of a task's experiment: by width the rate that it chose by validation loss, and its runs there."""

    runs: ArmRuns
    by_width: Mapping[int, Choice]

    def accuracy(self, width: int, metric: str) -> Interval | None:
        """Return the mean accuracy at a width over seeds; None where it was not measured."""
        choice = self.by_width.get(width)
        return None if choice is None else choice.mean(metric)


@dataclass(frozen=True, kw_only=True)
class TaskStudy:
    """An experiment on a task.

    Attributes:
        experiment: it.
        arms: its arms, those without runs too.
        axis: what is varied: ``pairs`` or ``length``; empty where no run says so.
        cases: value of that -> metric, ascending.
        seq_len: the training length; 0 where no run says so.
        chance: accuracy of a guess; None where it depends on more than the number of answers.
    """

    experiment: Experiment
    arms: tuple[TaskArm, ...]
    axis: str
    cases: Mapping[int, str]
    seq_len: int
    chance: float | None

    @property
    def title(self) -> str:
        """Its heading."""
        return self.experiment.title or self.experiment.name

    @property
    def shown(self) -> tuple[TaskArm, ...]:
        """The arms with finished runs."""
        return tuple(arm for arm in self.arms if any(choice.chosen for choice in arm.by_width.values()))

    @property
    def widths(self) -> list[int]:
        """The widths with runs."""
        return sorted({width for arm in self.arms for width in arm.by_width})

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind its numbers."""
        choices = [choice for arm in self.arms for choice in arm.by_width.values()]
        return tuple(sorted({run for choice in choices for run in choice.run_ids}))


def task_study(experiment: Experiment, study: Study) -> TaskStudy:
    """Return an experiment on a task with its arms' choices."""
    arms = tuple(
        TaskArm(runs=runs, by_width={width: choose(runs, width) for width in runs.widths()})
        for runs in study.arms(experiment)
    )
    records = [record for arm in arms for record in arm.runs.records]
    measured = sorted({name for record in records for name in record.metrics})
    axis, cases = next(((a, found) for a, rule in AXES.items() if (found := by_value(rule, measured))), ("", {}))
    lengths = [record.spec["training"]["seq_len"] for record in records]
    return TaskStudy(
        experiment=experiment,
        arms=arms,
        axis=axis,
        cases=cases,
        seq_len=max(lengths, default=0),
        chance=1 / records[0].spec["model"]["vocab_size"] if records and axis == "length" else None,
    )


def by_value(rule: re.Pattern[str], names: Sequence[str]) -> dict[int, str]:
    """Return the number in each name that a rule matches -> the name, ascending."""
    found = {int(match[1]): name for name in names if (match := rule.fullmatch(name))}
    return dict(sorted(found.items()))


def beside(found: TaskStudy, metric: str, width: int) -> list[tuple[TaskArm, TaskArm, Interval]]:
    """Return further arms of an architecture beside its first: both, and the paired difference of their accuracy.

    Equal seeds see equal sequences.
    """
    first: dict[str, TaskArm] = {}
    pairs = []
    for arm in found.shown:
        base = first.setdefault(arm.runs.arch, arm)
        if base is arm or arm.runs.arch == "hybrid" or width not in base.by_width or width not in arm.by_width:
            continue
        values = [chosen.by_width[width].by_seed(metric) for chosen in (arm, base)]
        if (difference := paired_difference(*values)) is not None:
            pairs.append((arm, base, difference))
    return pairs


@dataclass(frozen=True, kw_only=True)
class LengthStudy:
    """A comparison whose models read text longer than that of their training.

    Attributes:
        experiment: it.
        choices: its arms, those without runs too.
        cases: length of a window -> metric of its loss, ascending.
        seq_len: the training length.
    """

    experiment: Experiment
    choices: tuple[Choice, ...]
    cases: Mapping[int, str]
    seq_len: int


def length_studies(comparisons: Sequence[tuple[Experiment, Sequence[Choice]]]) -> tuple[LengthStudy, ...]:
    """Return the comparisons that measured loss at several lengths."""
    found = []
    for experiment, choices in comparisons:
        records = [record for choice in choices for record in choice.chosen]
        cases = by_value(LENGTHS, sorted({name for record in records for name in record.metrics}))
        if cases:
            seq_len = max(record.spec["training"]["seq_len"] for record in records)
            found.append(LengthStudy(experiment=experiment, choices=tuple(choices), cases=cases, seq_len=seq_len))
    return tuple(found)


def perplexities(choice: Choice, metric: str) -> dict[int, float]:
    """Return seed -> perplexity a token of a metric that is a loss in nats."""
    return {seed: math.exp(loss) if loss < 700 else math.inf for seed, loss in choice.by_seed(metric).items()}
