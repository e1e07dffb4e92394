"""The commit of a record: what the user states, else git's where there is a checkout, else unknown."""

import pytest

from gdnbench import environment
from gdnbench.errors import GdnbenchError


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """The package as on a machine that has its files but no checkout."""
    monkeypatch.setattr(environment, "PACKAGE", tmp_path / "gdnbench")
    monkeypatch.setattr(environment, "git_state", environment.git_state.__wrapped__)
    monkeypatch.delenv("GDNBENCH_COMMIT", raising=False)
    return monkeypatch


def stated(about):
    return about["commit"], about["dirty"], about["commit_source"]


def test_without_a_checkout_the_commit_is_unknown(copied):
    assert stated(environment.describe("cpu")) == (None, None, None)


def test_without_a_checkout_the_user_states_it(copied):
    copied.setenv("GDNBENCH_COMMIT", "0123abc")
    assert stated(environment.describe("cpu")) == ("0123abc", None, "GDNBENCH_COMMIT")


def test_a_stated_commit_may_be_of_a_changed_tree(copied):
    copied.setenv("GDNBENCH_COMMIT", "0123abc-dirty")
    assert stated(environment.describe("cpu")) == ("0123abc", True, "GDNBENCH_COMMIT")


def test_in_a_checkout_git_says_it_unless_it_is_stated(copied, tmp_path):
    (tmp_path / ".git").mkdir()
    copied.setattr(environment, "_output", lambda *command: "" if "status" in command else "fedcba9")
    assert stated(environment.describe("cpu")) == ("fedcba9", False, "git")
    copied.setenv("GDNBENCH_COMMIT", "0123abc")
    assert stated(environment.describe("cpu")) == ("0123abc", None, "GDNBENCH_COMMIT")


@pytest.mark.parametrize("given", ["HEAD", "main", "0123ab", "0123abc-changed", "0123ABC"])
def test_a_name_is_not_a_commit(copied, given):
    copied.setenv("GDNBENCH_COMMIT", given)
    with pytest.raises(GdnbenchError, match=f"^GDNBENCH_COMMIT={given}: not a commit; state 7 to 40 hex"):
        environment.describe("cpu")
