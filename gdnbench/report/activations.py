"""Coordinate checks of one arm: how the size of every activation, and of its update, grows with the width."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gdnbench.report.statistics import Interval, log_width_slopes, t_interval
from gdnbench.report.study import ArmRuns, Study, model, seed_of, width_of

Sizes = Mapping[int, Mapping[int, float]]
"""width -> seed -> root mean square over batch, time and channel."""

START = 0
READOUT = ".o_norm.in"

# Reports use these words for the modules of the suite's decoders.
NAMES = {
    "embedding": "embedding",
    "logits": "logits",
    "mixer.q_proj": "q",
    "mixer.k_proj": "k",
    "mixer.v_proj": "v",
    "mixer.g_proj": "output gate",
    "mixer.a_proj": "gate z_α",
    "mixer.b_proj": "gate z_β",
    "mixer.alpha": "gate α",
    "mixer.beta": "gate β",
    "mixer.o_norm.in": "readout o, before its norm",
    "mixer.o_norm": "readout o, after its norm",
    "mixer.o_proj": "mixer output",
    "mixer.out_proj": "mixer output",
    "mixer.x_proj": "x",
    "mixer.z_proj": "z",
    "mixer.c_proj": "C",
    "mixer.dt_proj": "step size",
    "feedforward.down_proj": "MLP output",
    "": "residual stream",
}
STATE_SPACE_NAMES = {"mixer.b_proj": "B"}
GATES = {"gdn": (".a_proj", ".b_proj"), "mamba2": (".dt_proj",), "rwkv7": (".w_proj", ".a_proj")}


@dataclass(frozen=True, kw_only=True)
class SiteSlope:
    """Growth of one activation over width.

    Attributes:
        site: module name, as ``blocks.1.mixer.q_proj``.
        after_steps: 0: size at the start; else size of the update after so many steps.
        sizes: width -> seed -> root mean square.
        slope: interval of the slope of log2 size over log2 width; None without enough widths.
        exempt: why it counts for no verdict; empty where it counts.
    """

    site: str
    after_steps: int
    sizes: Sizes
    slope: Interval | None
    exempt: str = ""


@dataclass(frozen=True, kw_only=True)
class CoordinateCheck:
    """All slopes of one arm."""

    runs: ArmRuns
    slopes: tuple[SiteSlope, ...]

    @property
    def counted(self) -> tuple[SiteSlope, ...]:
        """Slopes that count for the verdict."""
        return tuple(slope for slope in self.slopes if not slope.exempt)

    def sites(self) -> list[str]:
        """Return the sites, in the order of the model."""
        return list(dict.fromkeys(slope.site for slope in self.slopes))

    def steps(self) -> list[int]:
        """Return the numbers of steps, in order."""
        return sorted({slope.after_steps for slope in self.slopes})

    def find(self, site: str, after_steps: int) -> SiteSlope | None:
        """Return the slope of a site after a number of steps."""
        found = (s for s in self.slopes if s.site == site and s.after_steps == after_steps)
        return next(found, None)


def analyse(runs: ArmRuns, study: Study) -> CoordinateCheck:
    """Fit one slope a seed, site and number of steps, from the rows of an arm's coordinate checks."""
    sizes: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for record in runs.records:
        for row in study.rows(record.run_id):
            if row.get("type") == "coordinate" and (size := _size(row)) is not None:
                by_width = sizes.setdefault((row["site"], row["after_steps"]), {})
                by_width.setdefault(width_of(record), {})[seed_of(record)] = size
    tied = bool(runs.records) and bool(model(runs.records[0])["tied"])
    slopes = (_slope(key, values, tied) for key, values in sizes.items())
    return CoordinateCheck(runs=runs, slopes=tuple(_judged_once(slope, sizes, runs.arch) for slope in slopes))


def site_name(site: str, arch: str, *, block: bool = True) -> str:
    """Return a site in words, as ``q (block 1)``; with ``block`` off, without the block."""
    parts = site.split(".")
    inside = ".".join(parts[2:]) if parts[0] == "blocks" else site
    names = {**NAMES, **(STATE_SPACE_NAMES if arch == "mamba2" else {})}
    words = names.get(inside, inside.removeprefix("mixer."))
    return f"{words} (block {parts[1]})" if block and parts[0] == "blocks" else words


def is_named(site: str) -> bool:
    """Say whether a site is one of those that reports have a word for; the others are shown in the files."""
    parts = site.split(".")
    return (".".join(parts[2:]) if parts[0] == "blocks" else site) in NAMES


def is_gate_input(site: str, arch: str) -> bool:
    """Say whether a site is a pre-activation of the architecture's gates."""
    return site.endswith(GATES.get(arch, ())) and ".mixer." in site


def is_gate_output(site: str) -> bool:
    """Say whether a site is a gate's output, alpha or beta."""
    return site.endswith((".alpha", ".beta"))


def _size(row: dict[str, Any]) -> float | None:
    return row.get("rms") if row["after_steps"] == START else row.get("update_rms")


def _slope(key: tuple[str, int], sizes: Sizes, tied: bool) -> SiteSlope:
    site, after_steps = key
    logs = {w: {s: math.log2(v) for s, v in by_seed.items() if v > 0} for w, by_seed in sizes.items()}
    slopes = log_width_slopes(logs)
    exempt = _exemption(site, after_steps, sizes, tied)
    interval = t_interval(slopes.values())
    return SiteSlope(site=site, after_steps=after_steps, sizes=sizes, slope=interval, exempt=exempt)


def _judged_once(slope: SiteSlope, sizes: Mapping[tuple[str, int], Sizes], arch: str) -> SiteSlope:
    """Leave a module out of the verdict whose output is that of its last part, which is judged itself."""
    for (site, after_steps), values in sizes.items():
        if after_steps == slope.after_steps and site.startswith(f"{slope.site}.") and values == slope.sizes:
            return replace(slope, exempt=slope.exempt or f"the same as {site_name(site, arch, block=False)}")
    return slope


def _exemption(site: str, after_steps: int, sizes: Sizes, tied: bool) -> str:
    """Return why a slope counts for no verdict, by the rules fixed before the runs."""
    if not any(value > 0 for by_seed in sizes.values() for value in by_seed.values()):
        return "starts at zero" if after_steps == START else "does not move"
    if site.endswith(READOUT):
        return "before its norm: shown, not judged"
    if site == "logits" and after_steps == START and tied:
        return "tied head: the input token's own logit is of order 1"
    return ""
