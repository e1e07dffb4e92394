"""Exporting records as flat tables."""

import csv
import io
import json
from collections.abc import Sequence

from gdnbench.results.record import Record


def to_json(records: Sequence[Record]) -> str:
    """Return a JSON array with one flat object a record."""
    return json.dumps([record.flat() for record in records], indent=1, ensure_ascii=False) + "\n"


def to_csv(records: Sequence[Record]) -> str:
    """Return a CSV table with one row a record; its columns are all keys that any record has."""
    rows = [record.flat() for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
