"""What a command does with a preset: choose it with overrides, look ahead, run it, and read its coordinate check."""

from gdnbench.launch.ahead import Outlook, outlook
from gdnbench.launch.choosing import Chosen, better_preset, check_machine, choose, experiments, repeating
from gdnbench.launch.coordinates import coordinate_check, coordinate_verdict
from gdnbench.launch.running import left_line, run

__all__ = [
    "Chosen",
    "Outlook",
    "better_preset",
    "check_machine",
    "choose",
    "coordinate_check",
    "coordinate_verdict",
    "experiments",
    "left_line",
    "outlook",
    "repeating",
    "run",
]
