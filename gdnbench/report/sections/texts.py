"""What scores by document say, in sentences that the numbers choose: leads on a text, and text known from training."""

from collections.abc import Sequence

from gdnbench.report import numbers
from gdnbench.report.documents import REPEATED, Difference, Place
from gdnbench.report.study import Study
from gdnbench.results import Record

WORDS = {
    "below": ("codes", "code", "it in fewer bits than {}"),
    "above": ("needs", "need", "more bits than {}"),
    "undecided": ("is", "are", "not shown to differ from {}"),
    "pending": ("has", "have", "too few seeds or documents to be told from {}"),
}


def document_sentences(found: Sequence[Difference], reference: str) -> list[str]:
    """Return, for each text, which arms lead the reference or trail it by both intervals, and which do neither."""
    sentences = []
    for place in dict.fromkeys(difference.place for difference in found):
        sides: dict[str, list[str]] = {}
        for difference in found:
            if difference.place == place and difference.by_document is not None:
                sides.setdefault(difference.side, []).append(difference.choice.runs.arm)
        if sides:
            sentences.append(_sentence(place, sides, reference))
    return sentences


def overlap_notices(records: Sequence[Record], study: Study) -> list[str]:
    """Return a sentence for each evaluated text of which documents are repeated in the train split."""
    texts: dict[tuple[str, str], str] = {}
    for record in records:
        own = record.spec["data"]["corpus"]
        rows = [row for row in study.rows(record.run_id) if row.get("type") == "document" and "in_train" in row]
        for key in dict.fromkeys((row["corpus"], row["split"]) for row in rows):
            here = [row for row in rows if (row["corpus"], row["split"]) == key]
            repeated = [row for row in here if row["in_train"] > REPEATED]
            if repeated:
                share = sum(row["bytes"] for row in repeated) / sum(row["bytes"] for row in here)
                highest = max(row["in_train"] for row in repeated)
                verb = "is" if len(repeated) == 1 else "are"
                texts[key] = (
                    f"{len(repeated)} of {numbers.plural(len(here), 'document')} of {key[0]} {key[1]} "
                    f"({share:.0%} of its bytes) {verb} repeated in the train split of {own}: up to {highest:.0%} of a "
                    "document's 13-grams stand there. Losses on all of this text say less about text that is new."
                )
    return list(texts.values())


def _sentence(place: Place, sides: dict[str, list[str]], reference: str) -> str:
    parts = []
    for side, (one, several, rest) in WORDS.items():
        if arms := sides.get(side):
            parts.append(f"{numbers.listed(arms)} {one if len(arms) == 1 else several} {rest.format(reference)}")
    return f"On {place.name}: {'; '.join(parts)}."
