"""All that the page needs of a study, analysed once."""

from collections.abc import Mapping
from dataclasses import dataclass

from gdnbench.presets.schema import Experiment
from gdnbench.report import activations, transfer
from gdnbench.report.activations import CoordinateCheck
from gdnbench.report.comparing import Choice, choose
from gdnbench.report.documents import Difference, differences
from gdnbench.report.horizon import Horizons, horizons
from gdnbench.report.study import ArmRuns, Study
from gdnbench.report.tasks import LengthStudy, TaskStudy, length_studies, task_study
from gdnbench.report.transfer import Transfer
from gdnbench.report.verdicts import Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A study with its fits and verdicts; arms without runs of their own are left out and named by the warnings.

    Attributes:
        study: the records and presets.
        sweeps: learning-rate sweeps and their fitted arms.
        horizons: sweeps over the length of training and their fitted arms.
        continued: sweeps of fine-tuning and their fitted arms.
        comparisons: comparisons and their arms' choices, those without runs too.
        texts: name of a comparison -> its arms on the texts that they scored by document.
        checks: coordinate checks and their arms' slopes.
        decodes: generation experiments and their arms.
        tasks: experiments on tasks and their arms.
        lengths: the comparisons that read text longer than that of the training.
        verdicts: at least one a claim.
    """

    study: Study
    sweeps: tuple[tuple[Experiment, tuple[Transfer, ...]], ...]
    horizons: tuple[tuple[Experiment, tuple[Horizons, ...]], ...]
    continued: tuple[tuple[Experiment, tuple[Transfer, ...]], ...]
    comparisons: tuple[tuple[Experiment, tuple[Choice, ...]], ...]
    texts: Mapping[str, tuple[Difference, ...]]
    checks: tuple[tuple[Experiment, tuple[CoordinateCheck, ...]], ...]
    decodes: tuple[tuple[Experiment, tuple[ArmRuns, ...]], ...]
    tasks: tuple[TaskStudy, ...]
    lengths: tuple[LengthStudy, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def tests_claims(self) -> bool:
        """Whether the set is there for claims of the sources: what a study of tasks alone is not."""
        return bool(self.study.cards) or not self.tasks


def analyse(study: Study) -> Analysis:
    """Fit and judge everything in a study."""

    def present(experiment: Experiment) -> list[ArmRuns]:
        return [runs for runs in study.arms(experiment) if runs.own]

    comparisons = tuple((e, tuple(map(choose, study.arms(e)))) for e in study.of_kind("comparison"))
    return Analysis(
        study=study,
        sweeps=tuple((e, tuple(map(transfer.analyse, present(e)))) for e in study.of_kind("lr_sweep")),
        horizons=tuple((e, tuple(map(horizons, present(e)))) for e in study.of_kind("horizon")),
        continued=tuple((e, tuple(map(transfer.analyse, present(e)))) for e in study.of_kind("fine_tune")),
        comparisons=comparisons,
        texts={experiment.name: tuple(differences(experiment, choices, study)) for experiment, choices in comparisons},
        checks=tuple(
            (e, tuple(activations.analyse(runs, study) for runs in present(e))) for e in study.of_kind("coord_check")
        ),
        decodes=tuple((e, tuple(present(e))) for e in study.of_kind("decode")),
        tasks=tuple(task_study(experiment, study) for experiment in study.of_kind("task")),
        lengths=length_studies(comparisons),
        verdicts=judge(study),
    )
