"""The version of the suite, read by the package build and written into every record, and the commit a user states."""

import os
import re

from gdnbench.errors import GdnbenchError

__version__ = "0.1.0"
GIVEN_COMMIT = "GDNBENCH_COMMIT"


def stated_commit() -> str:
    """Return what the variable ``GDNBENCH_COMMIT`` states, or an empty string; raise `GdnbenchError` for a name."""
    stated = os.environ.get(GIVEN_COMMIT, "")
    if stated and not re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", stated):
        raise GdnbenchError(
            f"{GIVEN_COMMIT}={stated}: not a commit; state 7 to 40 hexadecimal digits (git rev-parse HEAD), with "
            "-dirty behind them where files were changed"
        )
    return stated
