"""The appendix: every run that the page was made from."""

import math

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.study import Study
from gdnbench.results import Record


def runs_table(study: Study) -> Table:
    """Return a row a run, with outcome, loss, commit and digest."""
    return Table(
        name="runs",
        caption="All runs of this set",
        columns=("run", "arm", "width", "log2 rate", "seed", "outcome", "result", "commit", "source digest", "seconds"),
        rows=tuple(_row(record) for record in study.records),
        runs_column=False,
        wide=(6,),
    )


def _row(record: Record) -> Row:
    commit = record.commit + (", changed" if record.environment.get("dirty") else "")
    return Row(
        cells=(
            plain(record.run_id),
            plain(record.spec["arm"]),
            plain(str(record.spec["model"]["width"])),
            plain(numbers.number(math.log2(record.spec["optimizer"]["lr"]), 2)),
            plain(str(record.spec["seed"])),
            Cell(text=record.outcome, tone="" if record.outcome == "finished" else "bad"),
            _result(record),
            plain(commit),
            plain(record.source_digest[:10]),
            plain(numbers.significant(record.duration_s), record.duration_s),
        ),
        anchor=f"run-{record.run_id}",
    )


def _result(record: Record) -> Cell:
    if record.outcome == "diverged":
        return missing(record.detail or "diverged")
    for name, text in (("val_loss", "{:.4f} nat/token"), ("tokens_per_s", "{:.4g} tokens/s")):
        if (value := record.metric(name)) is not None:
            return plain(text.format(value), value)
    return plain("activation sizes") if record.kind == "coord_check" else missing("no metric stored")
