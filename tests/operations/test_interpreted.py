"""The GPU kernels on a CPU: each file of `interpreted` runs in a process of its own, under Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("interpreted")
# The interpreter multiplies small tiles: threads cost it more than they save.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_*.py")))
def test_under_the_interpreter(file):
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FOLDER / file)],
        env={**os.environ, **ONE_THREAD, "TRITON_INTERPRET": "1"},
        cwd=FOLDER.parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # 5: nothing was collected, which would pass for a success.
    assert done.returncode == 0, f"pytest ended with {done.returncode}\n{done.stdout[-20_000:]}"
