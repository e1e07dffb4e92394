"""Statistics of the report: pure functions of numbers, with no record, file or figure in sight."""

from gdnbench.report.statistics.intervals import Interval, Position, position, t_interval
from gdnbench.report.statistics.optimum import Optimum, SeedCurves, fit_optimum, fit_seed_optima, mean_curve
from gdnbench.report.statistics.ratios import ratio_of_means
from gdnbench.report.statistics.regret import SeedRegret, paired_difference, transfer_regrets
from gdnbench.report.statistics.slopes import log_width_slopes

__all__ = [
    "Interval",
    "Optimum",
    "Position",
    "SeedCurves",
    "SeedRegret",
    "fit_optimum",
    "fit_seed_optima",
    "log_width_slopes",
    "mean_curve",
    "paired_difference",
    "position",
    "ratio_of_means",
    "t_interval",
    "transfer_regrets",
]
