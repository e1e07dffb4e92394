"""A rendering that is killed leaves the earlier report whole, and the next one cleans up after it."""

import random
import signal
import subprocess
import sys
import time

from gdnbench.report import render
from gdnbench.results import Store

CODE = """
import sys
from pathlib import Path
from gdnbench.report import render
from gdnbench.results import Store
root, out = map(Path, sys.argv[1:])
store = Store(root, "quick")
print("ready", flush=True)
for _ in range(1000):
    render(store, out, command="new")
"""


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_at_any_moment(synthetic, tmp_path):
    builder = synthetic.Builder(tmp_path / "results")
    builder.preset()
    builder.decode("GDN+μP", 500.0, grows=False)
    out = tmp_path / "reports" / "quick"
    render(Store(tmp_path / "results", "quick"), tmp_path / "reports" / "expected", command="new")
    expected = {"new": contents(tmp_path / "reports" / "expected")}
    render(builder.store, out, command="old")
    expected["old"] = contents(out)
    assert expected["old"] != expected["new"]
    rng = random.Random(1)
    for _ in range(3):
        arguments = [sys.executable, "-c", CODE, str(tmp_path / "results"), str(out)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.02, 0.8))
            process.send_signal(signal.SIGKILL)
        assert contents(out) in expected.values()
    render(builder.store, out, command="new")
    assert contents(out) == expected["new"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["expected", "quick"]
