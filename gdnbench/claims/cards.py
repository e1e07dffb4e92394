"""A claim card: the test of one claim, its number of seeds and its thresholds, written before the runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Test = Literal[
    "lr_transfer",  # drift of the fitted optimum: arm inside +-bound, control outside
    "transfer_regret",  # cross-fitted loss from taking the base width's optimum: arm below bound, control above arm
    "coordinate_check",  # slopes over width of activations and updates: arm inside +-bound, control above control_bound
    "gate_variance",  # slopes of the gates' pre-activations at the start: likewise
    "gate_outputs",  # slopes of the gates' outputs and of alpha, beta: arm inside +-bound
    "readout_scale",  # slope of o = S q before its norm: inside expected +-bound
    "loss_gap",  # difference of the best mean loss or perplexity between two arms of a comparison
    "decode_ratio",  # tokens/s of an arm over that of the reference arm, at each context
    "tuning_cost",  # search at the base width against one at the target, and what the transferred rate loses there
    "gating_cost",  # time of a forward call with the gating normalization over one without, from another set's timings
    "inference",  # tokens/s and memory of a row, or ratios to the Transformer, from another set's speeds of generation
    "measured",  # shows measured values, passes no verdict beyond `verdict`
]


@dataclass(frozen=True, kw_only=True)
class ClaimCard:
    """How a preset tests a claim.

    Attributes:
        claim: id in ``claims.yaml``.
        test: the statistic and its rule; ``measured`` for a claim that this preset can only illustrate.
        experiment: the preset's experiment whose records the test reads; empty where nothing is measured.
        arm: the arm under test.
        control: the arm that must behave otherwise, or that a gap or ratio is taken to.
        metric: which metric, where the test leaves a choice.
        base: experiment whose sweep at the smallest width found the rate that is transferred (``tuning_cost``).
        set: result set beside this one that has the records (``gating_cost``, ``inference``).
        min_seeds: fewer seeds give ``pending``.
        bounds: thresholds of the test, by name, with their unit in the name where they have one.
        verdict: fixed verdict of a ``measured`` card.
        reason: why the verdict is fixed, or what it would take; shown in the ledger.
        distance: what else this preset's budget lacks; shown beside the verdict, behind tokens, parameters and widths,
            which are compared by the records.
    """

    claim: str
    test: Test = "measured"
    experiment: str = ""
    arm: str = ""
    control: str = ""
    metric: str = ""
    base: str = ""
    set: str = ""
    min_seeds: int = 3
    bounds: Mapping[str, float] = field(default_factory=dict)
    verdict: Literal["", "not testable here", "pending"] = ""
    reason: str = ""
    distance: str = ""
