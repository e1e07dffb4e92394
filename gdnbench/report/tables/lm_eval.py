"""Trained models evaluated by tasks of lm-eval: every metric with its standard error, and what was asked."""

from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, missing, plain
from gdnbench.report.study import Study
from gdnbench.results import Record

ERROR = "_stderr"


def harness_table(study: Study) -> Table | None:
    """Return a row for each metric of each task; None where the set has none."""
    if not study.harness:
        return None
    return Table(
        name="lm_eval",
        caption="Evaluations of trained models by tasks of lm-eval",
        columns=(
            *("arm", "width", "seed", "task", "version", "shots", "metric", "value", "standard error", "examples"),
            *("requests", "window (tokens)", "harness"),
        ),
        rows=tuple(row for record in study.harness for row in _rows(record)),
        note=(
            "Standard errors are the harness's, over the task's examples: what other examples could have shown, not "
            "other seeds. A limited task was asked its first examples only."
        ),
    )


def _rows(record: Record) -> list[Row]:
    names = [name for name in record.metrics if ERROR not in name]
    return [Row(cells=_cells(record, name), runs=()) for name in names]


def _cells(record: Record, name: str) -> tuple[Cell, ...]:
    data, value = record.data, record.metrics[name]["value"]
    stem, space, kind = name.partition(" ")
    error = record.metric(f"{stem}{ERROR}{space}{kind}")
    limited = "" if data["limit"] is None else " (limited)"
    return (
        plain(record.spec["arm"]),
        plain(record.spec["model"]["width"], record.spec["model"]["width"]),
        plain(record.spec["seed"], record.spec["seed"]),
        plain(data["task"]),
        plain(data["version"]),
        plain(data["num_fewshot"], data["num_fewshot"]),
        plain(name),
        plain(numbers.significant(value, 4), value),
        missing("not given") if error is None else plain(numbers.significant(error, 2), error),
        plain(f"{data['examples']:,}{limited}", data["examples"]),
        plain(f"{data['requests']:,}", data["requests"]),
        plain(data["window"], data["window"]),
        plain(data["harness"]),
    )
