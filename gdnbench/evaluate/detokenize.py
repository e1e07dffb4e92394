"""WikiText's spaced-out tokens turned back into running text, as lm-eval's `wikitext` task does before scoring.

The task scores ordinary text (`lm_eval/tasks/wikitext`, version 2.0), so its numbers are comparable only if the text
is the same to the byte; the order of the steps, and a few oddities named below, therefore follow it.
"""

import re
from collections.abc import Callable, Iterable

# WikiText writes a mark inside a word or number as " @-@ ".
JOINERS = "-,."
# Marks that lose the space before them, one after the other: an earlier mark can use up a later one's space.
MARKS = ":;.!?,"
# What encloses text, in the order in which the space just inside is removed. A quote pairs with the next of its kind
# anywhere in the page, apostrophes included: an oddity of the task.
ENCLOSURES = (("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"))
DEEPEST_HEADING = 4


def detokenize(page: str) -> str:
    """Return the running text of a page in WikiText's spacing; ``<unk>`` stays as it is."""
    for step in _STEPS:
        page = step(page)
    return page


def _replace(pairs: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    def step(text: str) -> str:
        for old, new in pairs:
            text = text.replace(old, new)
        return text

    return step


def _tighten(opening: str, closing: str) -> Callable[[str], str]:
    """Return the step that removes the space just inside ``opening`` … ``closing``."""
    inside = re.compile(rf"{re.escape(opening)}\s*([^{re.escape(closing)}]*?)\s*{re.escape(closing)}")
    return lambda text: inside.sub(lambda match: f"{opening}{match[1]}{closing}", text)


_STEPS: tuple[Callable[[str], str], ...] = (
    _replace([("s '", "s'")]),
    _replace([(f" @{mark}@ ", mark) for mark in JOINERS]),
    _replace([(f" {mark} ", f"{mark} ") for mark in MARKS]),
    *(_tighten(opening, closing) for opening, closing in ENCLOSURES),
    _replace([(" ".join("=" * level), "=" * level) for level in range(DEEPEST_HEADING, 1, -1)]),
    _replace([(" ° ", "°"), (" \n", "\n"), ("\n ", "\n")]),
    # The first is an oddity of the task: it comes from another corpus, where N stands for a number.
    _replace([(" N ", " 1 "), (" 's", "'s")]),
)
