"""Scores by document of a comparison's arms: their difference to a reference, with the errors of text and seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench.presets.schema import Experiment
from gdnbench.report.comparing import Choice
from gdnbench.report.statistics import Interval, position, t_interval
from gdnbench.report.statistics.bootstrap import document_interval, seed_interval
from gdnbench.report.study import Study, seed_of
from gdnbench.results import Record

# A document is repeated in the train split, and not only quoted, where more than this share of its 13-grams is there.
REPEATED = 0.1

Rows = Mapping[int, Mapping[str, Any]]
"""document -> its row."""


@dataclass(frozen=True, order=True)
class Place:
    """Documents that are scored together: a split of a corpus, all of it or what is not repeated in the train split."""

    out_of_domain: bool
    corpus: str
    split: str
    unrepeated: bool = False

    @property
    def name(self) -> str:
        """The text in words."""
        where = f"{self.corpus} {self.split}" + (" (out of domain)" if self.out_of_domain else "")
        return f"{where} without repeated documents" if self.unrepeated else where


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm on a text, beside the reference.

    Attributes:
        choice: the arm.
        place: the text.
        documents: documents that count.
        level: bits per byte, over seeds.
        by_document: bits per byte minus the reference's, with the interval over documents; None without a reference.
        by_seed: the same with the interval over seeds.
        runs: run ids behind them.
    """

    choice: Choice
    place: Place
    documents: int
    level: Interval | None
    by_document: Interval | None
    by_seed: Interval | None
    runs: tuple[str, ...]

    @property
    def side(self) -> str:
        """On which side of zero both intervals lie; undecided where they disagree, pending where one has no limits."""
        sides = {position(interval, 0.0, 0.0) for interval in (self.by_document, self.by_seed)}
        if "pending" in sides:
            return "pending"
        side = sides.pop() if len(sides) == 1 else "undecided"
        return "undecided" if side == "inside" else side


def reference_of(experiment: Experiment, choices: Sequence[Choice]) -> Choice | None:
    """Return the arm that others are compared with: the first Transformer that has runs, else the matched one."""
    found = [choice for choice in choices if choice.chosen]
    first = next((choice for choice in found if choice.runs.arch == "transformer"), None)
    named = experiment.match.reference if experiment.match is not None else ""
    return first or next((choice for choice in found if choice.runs.arm == named), None)


def differences(experiment: Experiment, choices: Sequence[Choice], study: Study) -> list[Difference]:
    """Return every arm on every text that its runs scored by document, but for the split that chose its rate."""
    reference = reference_of(experiment, choices)
    rows = {choice.runs.arm: {seed_of(r): _by_place(r, study) for r in choice.chosen} for choice in choices}
    known = {place for by_seed in rows.values() for found in by_seed.values() for place in found}
    return [
        _difference(choice, reference, place, rows)
        for place in sorted(known)
        for choice in choices
        if any(place in found for found in rows[choice.runs.arm].values())
    ]


def _by_place(record: Record, study: Study) -> Mapping[Place, Rows]:
    """Return a run's documents by text; a text of which documents are repeated in the train split is there twice."""
    places: dict[Place, dict[int, dict[str, Any]]] = {}
    own = record.spec["data"]["corpus"]
    for row in study.rows(record.run_id):
        if row.get("type") != "document" or (row["corpus"] == own and row["split"] == "valid"):
            continue
        place = Place(row["corpus"] != own, row["corpus"], row["split"])
        places.setdefault(place, {})[row["document"]] = row
    for place, rows in list(places.items()):
        kept = {document: row for document, row in rows.items() if row.get("in_train", 0.0) <= REPEATED}
        if 0 < len(kept) < len(rows):
            places[Place(place.out_of_domain, place.corpus, place.split, unrepeated=True)] = kept
    return places


def _difference(
    choice: Choice, reference: Choice | None, place: Place, rows: Mapping[str, Mapping[int, Mapping[Place, Rows]]]
) -> Difference:
    own = {seed: found[place] for seed, found in rows[choice.runs.arm].items() if place in found}
    documents = sorted(next(iter(own.values())))
    level = t_interval(_bits(scored, documents) / _size(scored, documents) for scored in own.values())
    runs = tuple(record.run_id for record in choice.chosen if seed_of(record) in own)
    by_document = by_seed = None
    if reference is not None and reference is not choice:
        other = {seed: found[place] for seed, found in rows[reference.runs.arm].items() if place in found}
        paired = {s: _paired(own[s], other[s], documents) for s in sorted(own) if s in other}
        paired = {s: values for s, values in paired.items() if values}
        sizes = [own[next(iter(own))][document]["bytes"] for document in documents]
        by_document, by_seed = document_interval(paired, sizes), seed_interval(paired, sizes)
        runs += tuple(record.run_id for record in reference.chosen if seed_of(record) in paired)
    return Difference(
        choice=choice,
        place=place,
        documents=len(documents),
        level=level,
        by_document=by_document,
        by_seed=by_seed,
        runs=runs,
    )


def _paired(own: Rows, other: Rows, documents: Sequence[int]) -> list[float]:
    """Return the difference in bits by document; none where the two scored different documents."""
    if sorted(own) != sorted(other) or any(own[d]["bytes"] != other[d]["bytes"] for d in documents):
        return []
    return [(own[d]["nll"] - other[d]["nll"]) / math.log(2) for d in documents]


def _bits(rows: Rows, documents: Sequence[int]) -> float:
    return math.fsum(rows[document]["nll"] for document in documents) / math.log(2)


def _size(rows: Rows, documents: Sequence[int]) -> int:
    return sum(rows[document]["bytes"] for document in documents)
