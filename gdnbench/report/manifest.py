"""The manifest: which runs, digests and versions a report was made from."""

import json
from typing import Any

import matplotlib
import numpy
import scipy

from gdnbench.report.sections.reproduce import commits
from gdnbench.report.study import Study
from gdnbench.results import SCHEMA_VERSION
from gdnbench.version import __version__


def manifest_text(study: Study, command: str) -> str:
    """Return the manifest as JSON; equal records, presets and versions give equal text."""
    content: dict[str, Any] = {
        "set": study.name,
        "command": command,
        "presets": [preset.name for preset in study.presets],
        "record_schema": SCHEMA_VERSION,
        "runs": {record.run_id: record.source_digest for record in study.shown},
        "source_digests": sorted({record.source_digest for record in study.shown}),
        "commits": commits(study),
        "corpora": sorted({str(record.data.get("corpus_hash")) for record in study.records}),
        "rendered_with": {
            "gdnbench": __version__,
            "matplotlib": matplotlib.__version__,
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
        },
    }
    if study.title != study.name:
        content["sets"] = [store.name for store in study.stores]
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
