"""Texts by document: each arm's difference to the reference, and how much of the texts stands in the train split."""

from collections.abc import Sequence

from gdnbench.presets.schema import Experiment
from gdnbench.report import numbers
from gdnbench.report.content import Cell, Row, Table, Tone, missing, plain
from gdnbench.report.documents import REPEATED, Difference
from gdnbench.report.statistics import Interval
from gdnbench.report.statistics.bootstrap import MIN_DOCUMENTS
from gdnbench.report.study import Study
from gdnbench.report.tables.cells import interval_cell
from gdnbench.results import Record

TONES: dict[str, Tone] = {"below": "good", "above": "bad"}


def documents_table(experiment: Experiment, found: Sequence[Difference], reference: str) -> Table:
    """Return a row for each text and arm."""
    rows = [
        Row(
            cells=(
                plain(difference.place.name),
                plain(difference.choice.runs.arm),
                plain(str(difference.documents), difference.documents),
                interval_cell(difference.level, 4),
                *(
                    _difference_cell(interval, difference.choice.runs.arm == reference, TONES.get(difference.side, ""))
                    for interval in (difference.by_document, difference.by_seed)
                ),
            ),
            runs=difference.runs,
        )
        for difference in found
    ]
    return Table(
        name=f"documents_{experiment.name}",
        caption=f"Bits per byte by document, beside {reference}",
        columns=(
            "text",
            "arm",
            "documents",
            "bits per byte",
            f"minus {reference}: over documents",
            f"minus {reference}: over seeds",
        ),
        rows=tuple(rows),
        note=(
            "Whole documents, each read from its start in windows of the training length. Over documents: n documents "
            "are drawn with replacement, the same for both arms, all seeds in each draw: what other text of this kind "
            "could have shown, without the seeds' variance. Over seeds: Student t interval of the same difference on "
            "this very text. Both count: marked are differences whose two intervals lie on one side of zero (green: "
            f"lower). No limits below {MIN_DOCUMENTS} documents or 3 seeds. Repeated: more than {REPEATED:.0%} of a "
            "document's 13-grams stand in the train split."
        ),
        wide=(0,),
    )


def overlap_table(records: Sequence[Record], study: Study) -> Table | None:
    """Return a row for each evaluated text of which the overlap with the train split is known; None without any."""
    rows: dict[tuple[str, str, str], Row] = {}
    for record in records:
        for name, counts in (record.data.get("overlap") or {}).items():
            key = (record.spec["data"]["corpus"], str(record.data.get("corpus_hash")), name)
            rows.setdefault(key, Row(cells=_overlap_cells(key[0], name, counts, _shares(record, study, name))))
    if not rows:
        return None
    return Table(
        name="overlap",
        caption="How much of the evaluated texts stands in the train split",
        columns=(
            "train split of",
            "text",
            "13-grams",
            "of them in the train split",
            "documents",
            "with one such 13-gram or more",
            f"with more than {REPEATED:.0%} of theirs",
            "highest share in a document",
        ),
        rows=tuple(rows.values()),
        note=(
            "13 words in a row, case and punctuation left out, counted at every position. A model may know repeated "
            "text by heart; differences between arms are therefore shown without repeated documents, too, where there "
            "are any."
        ),
        runs_column=False,
    )


def _difference_cell(value: Interval | None, is_reference: bool, tone: Tone) -> Cell:
    if is_reference:
        return plain("the reference")
    if value is None:
        return missing(numbers.MISSING)
    text = numbers.number(value.mean, 4)
    if value.low is not None and value.high is not None:
        text += f" [{numbers.number(value.low, 4)}, {numbers.number(value.high, 4)}]"
    return Cell(text=f"{text} (n = {value.n})", value=value.mean, interval=value, tone=tone)


def _shares(record: Record, study: Study, name: str) -> list[float]:
    """Return the share of each document of a text, by the run's rows."""
    own = record.spec["data"]["corpus"]
    rows = [row for row in study.rows(record.run_id) if row.get("type") == "document" and "in_train" in row]
    return [row["in_train"] for row in rows if name == _text_name(row["corpus"], row["split"], own)]


def _text_name(corpus: str, split: str, own: str) -> str:
    return split if corpus == own else f"{corpus} {split}"


def _overlap_cells(corpus: str, name: str, counts: dict[str, int], shares: list[float]) -> tuple[Cell, ...]:
    share = counts["in_train"] / counts["ngrams"] if counts["ngrams"] else 0.0
    repeated = sum(value > REPEATED for value in shares)
    return (
        plain(corpus),
        plain(name),
        plain(numbers.count(counts["ngrams"]), counts["ngrams"]),
        plain(f"{counts['in_train']:,} ({share:.2%})", share),
        plain(f"{counts['documents']:,}", counts["documents"]),
        plain(f"{counts['documents_with']:,}", counts["documents_with"]),
        plain(str(repeated), repeated) if shares else missing("no document scored"),
        plain(f"{max(shares):.1%}", max(shares)) if shares else missing("no document scored"),
    )
