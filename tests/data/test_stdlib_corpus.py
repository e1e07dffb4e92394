"""The standard library as a corpus: whole units, no tests, and held-out splits of a useful size."""

import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdnbench.data.corpora import open_corpus
from gdnbench.data.stdlib import split_by_unit


@pytest.fixture(scope="module")
def stdlib():
    return open_corpus("stdlib")


def test_held_out_splits_are_neither_trivial_nor_large(stdlib):
    sizes = {s: sum(len(text.encode()) for text in stdlib.documents(s)) for s in ("train", "valid", "test")}
    assert min(sizes["valid"], sizes["test"]) >= 200_000
    assert 0.85 < sizes["train"] / sum(sizes.values()) < 0.95


def test_no_unit_lies_in_two_splits_and_no_test_is_included(stdlib):
    root = Path(__import__("sysconfig").get_path("stdlib"))
    units = {}
    for split in stdlib.splits:
        for path in stdlib.source(split).files():
            parts = path.relative_to(root).parts
            assert not {"test", "tests", "site-packages"}.intersection(parts)
            assert units.setdefault(parts[0].removesuffix(".py"), split) == split
    assert set(units.values()) == {"train", "valid", "test"}


def test_metadata_names_the_python(stdlib):
    assert stdlib.metadata["python"] == platform.python_version()


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 1000), min_size=1, max_size=40))
def test_any_units_are_all_assigned_and_held_out_shares_keep_to_their_quota(units: dict[str, int]):
    files = {Path(f"{name}.py"): (name, size) for name, size in units.items()}
    splits = split_by_unit(files)
    assert sorted(path for paths in splits.values() for path in paths) == sorted(files)
    for split in ("valid", "test"):
        assert sum(files[path][1] for path in splits[split]) <= 0.05 * sum(units.values())
    assert split_by_unit(dict(reversed(files.items()))).keys() == splits.keys()
    assert sorted(split_by_unit(dict(reversed(files.items())))["valid"]) == sorted(splits["valid"])
