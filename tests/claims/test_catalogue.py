"""The catalogue of claims is complete, strict and readable."""

import pytest

from gdnbench.claims.catalogue import catalogue, read_catalogue
from gdnbench.errors import GdnbenchError

IDS = [
    *(f"A1.{i}" for i in range(1, 9)),
    *(f"A2.{i}" for i in range(1, 6)),
    *(f"A3.{i}" for i in range(1, 10)),
    *(f"B{i}" for i in range(1, 8)),
]


def test_every_claim_is_there_in_order():
    assert [claim.id for claim in catalogue().claims] == IDS


def test_sources_are_known():
    assert {claim.source for claim in catalogue().claims} == set(catalogue().sources)


def test_some_figures():
    find = catalogue().find
    assert find("A1.4").claimed["perplexity"].value == 15.1
    assert find("A1.2").claimed["transfer"].value is False
    assert find("A2.2").claimed["tokens_per_s"].value == 2800
    mup = find("B2").claimed["mup"]
    assert dict(zip(mup.at, mup.value))[1536] == 2.7449


def test_an_unknown_claim_has_near_names():
    with pytest.raises(GdnbenchError, match=r"unknown claim 'A1.9'; did you mean A"):
        catalogue().find("A1.9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {}\nclaims: [{id: A, source: paper, place: p, statement: s, clamed: {}}]", "did you mean claimed"),
        ("sources: {}\nclaims: [{id: A, source: blog, place: p, statement: s}]", "blog"),
        (
            "sources: {}\nclaims: [{id: A, source: paper, place: p, statement: s, claimed: {x: {value: [1, 2]}}}]",
            "2 val",
        ),
        (
            "sources: {}\nclaims: [{id: A, source: paper, place: p, statement: s},"
            " {id: A, source: paper, place: p, statement: s}]",
            "more than once",
        ),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GdnbenchError, match=message):
        read_catalogue(path)
