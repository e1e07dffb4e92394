"""The parametrization rules of the set's arms, as they were when it was run."""

import json

from gdnbench.report.content import Row, Table, plain
from gdnbench.report.study import Study

HEADINGS = {
    "init": "start",
    "forward": "forward factor",
    "adamw": "AdamW rate",
    "sgd": "SGD rate",
    "decay": "weight decay",
    "epsilon": "epsilon",
}


def rules_table(study: Study) -> Table | None:
    """Return a row for each role of each parametrization; None where the set has no snapshot of its rules."""
    rules: dict[str, dict[str, dict[str, str]]] = {}
    for path in study.snapshots("*.rules.json"):
        rules |= json.loads(path.read_text(encoding="utf-8"))
    if not rules:
        return None
    rows = [
        Row(cells=tuple(map(plain, (title, role, *(cells[column] for column in HEADINGS)))))
        for title, roles in rules.items()
        for role, cells in roles.items()
    ]
    return Table(
        name="rules",
        caption="Parametrization rules",
        columns=("parametrization", "role", *HEADINGS.values()),
        rows=tuple(row for row in rows if any(cell.text not in ("0", "1") for cell in row.cells[2:])),
        more=tuple(row for row in rows if all(cell.text in ("0", "1") for cell in row.cells[2:])),
        note=(
            "Factors on the values at the base width, in the multiplicities of width (m), fan-in and fan-out; roles "
            "that a parametrization does not scale are in the files only. Decay 0: the role never decays."
        ),
        runs_column=False,
    )
