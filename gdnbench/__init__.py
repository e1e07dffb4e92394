"""gdnbench: does this architecture beat a Transformer, at what cost, and do its hyperparameters transfer?

The pipeline, in the order in which data flows through the sub-packages:
``presets`` -> ``plan`` -> ``runs`` -> files under ``results/`` -> ``results`` -> ``report``.
"""

import importlib.util
import sys
from pathlib import Path

from gdnbench.version import __version__

__all__ = ["__version__"]

_root = Path(__file__).resolve().parent.parent
if importlib.util.find_spec("gdnbench_kernels") is None and (_root / "kernels" / "gdnbench_kernels").is_dir():
    # A clone that was never installed: its two sibling packages are found beside this one.
    sys.path += [str(_root / "kernels"), str(_root / "baselines")]
