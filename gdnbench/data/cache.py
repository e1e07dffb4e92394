"""The cache folder: token files, tokenizers and content hashes, all of which can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$GDNBENCH_CACHE``, else ``$XDG_CACHE_HOME/gdnbench``, else ``~/.cache/gdnbench``; it may not exist."""
    if own := os.environ.get("GDNBENCH_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gdnbench"
