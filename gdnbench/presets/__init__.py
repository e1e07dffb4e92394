"""Presets: studies as readable files. Those that ship with the suite lie beside this one."""

from gdnbench.presets.load import load_preset, preset_names
from gdnbench.presets.schema import Arm, Experiment, Match, Preset

__all__ = ["Arm", "Experiment", "Match", "Preset", "load_preset", "preset_names"]
