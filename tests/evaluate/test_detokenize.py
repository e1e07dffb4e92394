"""Detokenizing: WikiText's spacing undone, equal to lm-eval's own where that is installed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.evaluate.detokenize import detokenize

EXAMPLES = {
    "a guest @-@ starring role": "a guest-starring role",
    "1 @,@ 234 @.@ 5 km": "1,234.5 km",
    "He came , saw ; and left . Then : what ? No ! Good .\n": "He came, saw; and left. Then: what? No! Good .\n",
    "( born 1980 ) and [ sic ] in { braces }": "(born 1980) and [sic] in {braces}",
    'the role " Craig " in " Teddy " .': 'the role "Craig" in "Teddy" .',
    "the film 's cast": "the film's cast",
    "the actors ' roles": "the actors' roles",
    " = Title = \n \n = = Part = = \n = = = Deep = = = \n = = = = Deepest = = = = \n": (
        " = Title =\n\n== Part ==\n=== Deep ===\n==== Deepest ====\n"
    ),
    "at 20 ° C": "at 20°C",
    "a <unk> ( <unk> ) , <unk> .": "a <unk> (<unk>), <unk> .",
}


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples(page: str):
    assert detokenize(page) == EXAMPLES[page]


PIECES = ["s", "'", '"', "\n", "=", "°", "@-@", "@,@", "@.@", *":;.!?,()[]{}", "N", "'s", "word", "12", "<unk>"]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_only_white_space_and_markers_change_and_unk_is_kept(pieces: list[str]):
    before = " ".join(pieces)
    after = detokenize(before)
    assert after.count("<unk>") == before.count("<unk>")
    assert visible(after) == visible(before)


def visible(text: str) -> str:
    """What may not change: all but white space, the @ of joiners, and N, which the task turns into 1."""
    return "".join(text.split()).replace("@", "").replace("N", "1")


def test_equal_to_the_task_itself():
    task = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext", reason="needs lm-eval")
    for page in [*EXAMPLES, " ".join(EXAMPLES), " N ' s ' a ' 's \" \" ( ) = = = ="]:
        assert detokenize(page) == task.wikitext_detokenizer({"page": page})
