"""What a measurement covered, and how far that is from what a claim is made at; both by the records."""

from collections.abc import Sequence

from gdnbench.claims import ClaimCard, catalogue
from gdnbench.report.numbers import count, listed, plural
from gdnbench.report.study import model
from gdnbench.results import Record

OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}


def budget(records: Sequence[Record]) -> str:
    """Return what a measurement covered: models, widths, tokens, optimizer, corpus, device."""
    if not records:
        return ""
    widths = sorted({model(record)["width"] for record in records})
    shown = f"width {widths[0]}" if len(widths) == 1 else f"widths {listed([str(width) for width in widths])}"
    parts = [plural(len(records), "run"), shown]
    # A run that diverged ended early, and says nothing of what the others were given.
    whole = [record for record in records if record.outcome != "diverged"] or records
    if tokens := sorted({value for record in whole if (value := record.metric("train_tokens")) is not None}):
        parts.append(f"{_span(tokens)} training tokens a run{_steps(records)}")
    if sizes := sorted({value for record in records if (value := record.metric("params_total")) is not None}):
        parts.append(f"{_span(sizes)} parameters")
    parts.append(_names(record.spec["data"]["corpus"] for record in records))
    parts.append(_names(f"{record.environment.get('device', '?')} {record.spec['dtype']}" for record in records))
    return ", ".join(parts)


def distance(card: ClaimCard, records: Sequence[Record]) -> str:
    """Return how far a budget is from the claim's: tokens a run, parameters, widths, and what the card adds."""
    claimed, parts = catalogue().budget(card.claim), []
    for name, metric, words in (
        ("tokens", "train_tokens", "training tokens a run"),
        ("params", "params_total", "parameters"),
    ):
        most = max((value for record in records if (value := record.metric(metric)) is not None), default=0.0)
        if most and name in claimed:
            parts.append(f"{_share(most / claimed[name])} the claim's {count(claimed[name])} {words}")
    if records and "width" in claimed:
        parts.append(f"widths up to {max(model(record)['width'] for record in records):,} of {claimed['width']:,.0f}")
    return "; ".join([*parts, *([card.distance] if card.distance else [])])


def _share(ratio: float) -> str:
    """Return a ratio as ``1/250 of``, ``equal to`` or ``3.2 times``."""
    if 0.95 <= ratio <= 1.05:
        return "equal to"
    larger = float(f"{max(ratio, 1 / ratio):.2g}")
    shown = f"{larger:,.0f}" if larger >= 10 else f"{larger:g}"
    return f"1/{shown} of" if ratio < 1 else f"{shown} times"


def _steps(records: Sequence[Record]) -> str:
    """Return steps, tokens a step and the optimizer, where all training runs have the same."""
    found = set()
    for record in records:
        if (training := record.spec["training"]) is not None:
            step = training["batch_size"] * training["seq_len"]
            found.add((training["steps"], step, record.spec["optimizer"]["name"]))
    if len(found) != 1:
        return ""
    steps, step, optimizer = found.pop()
    return f" ({steps:,} steps of {step:,}, {OPTIMIZERS.get(optimizer, optimizer)})"


def _span(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((count(values[0]), count(values[-1]))))


def _names(values: object) -> str:
    return listed(sorted({str(value) for value in values}))  # type: ignore[attr-defined]
