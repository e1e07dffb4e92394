"""The budget of seconds: nothing is begun that would end too late, by the longest of its kind so far."""

import time

import pytest

from gdnbench.runs.bench import Budget


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def step(budget, clock, kind, seconds):
    started, clock[0] = clock[0], clock[0] + seconds
    budget.took(kind, started)


def test_a_step_that_would_end_too_late_is_not_begun(clock):
    budget = Budget(60.0)
    step(budget, clock, "check", 20.0)
    step(budget, clock, "check", 5.0)
    assert budget.allows("check"), "35 seconds are left, and the longest took 20"
    step(budget, clock, "time", 16.0)
    assert not budget.allows("check"), "19 seconds are left"
    assert budget.allows("time")


def test_what_was_never_done_is_begun_until_the_end(clock):
    budget = Budget(60.0)
    clock[0] += 59.0
    assert budget.allows("check")
    clock[0] += 2.0
    assert not budget.allows("check")


def test_without_a_budget_everything_is_begun(clock):
    budget = Budget(None)
    step(budget, clock, "check", 1e6)
    assert budget.allows("check")
