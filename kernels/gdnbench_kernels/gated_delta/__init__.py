"""The gated delta rule: a linear recurrence that forgets by a gate and overwrites by a delta."""

from gdnbench_kernels.gated_delta.api import gated_delta_rule, gated_delta_rule_step

__all__ = ["gated_delta_rule", "gated_delta_rule_step"]
