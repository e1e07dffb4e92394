"""Trained models evaluated on a text: every metric with its denominator and its windows."""

from gdnbench.report import numbers
from gdnbench.report.content import Row, Table, plain
from gdnbench.report.study import Study
from gdnbench.results import Record


def evaluations_table(study: Study) -> Table | None:
    """Return a row for each evaluation; None where the set has none."""
    if not study.evaluations:
        return None
    return Table(
        name="evaluations",
        caption="Evaluations of trained models on a text",
        columns=("arm", "metric", "value", "bits per byte", "denominator", "text", "windows", "domain"),
        rows=tuple(_row(record) for record in study.evaluations),
        wide=(4, 5, 6, 7),
        note="Word perplexities by different denominators are different metrics and cannot be compared.",
    )


def _row(record: Record) -> Row:
    data, main = record.data, next(iter(record.metrics))
    bits = record.metric("bits_per_byte")
    carried = ", state carried" if data.get("carry_state") else ""
    windows = f"{data['window']} tokens, stride {data.get('stride')}{carried}; {data['document_start']}"
    denominator = (
        f"{data['denominator']:,} {data['denominator_name']}" if "denominator" in data else f"{data['tokens']:,} tokens"
    )
    trained_on = data["trained_on"] if isinstance(data["trained_on"], str) else data["trained_on"]["corpus"]
    cells = (
        plain(record.spec["arm"]),
        plain(main),
        plain(numbers.significant(record.metrics[main]["value"], 4), record.metrics[main]["value"]),
        plain("" if bits is None else numbers.number(bits, 4), bits),
        plain(denominator),
        plain(f"{data['corpus']} {data['split']}"),
        plain(windows),
        plain(f"out of domain: trained on {trained_on}" if data["out_of_domain"] else "in domain"),
    )
    return Row(cells=cells, runs=())
