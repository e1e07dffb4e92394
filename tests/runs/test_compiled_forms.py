"""Each worker compiles its own share of a study's forms, instead of all workers the same one at once."""

from pathlib import Path

from gdnbench.runs.pool import Pool, Worker, form
from gdnbench.runs.worker import Settings
from tests.runs import tiny


class Pipe:
    def send(self, message):
        self.sent = message


class Idle(Pool):
    def _spawn(self):
        self.workers.append(Worker(process=None, pipe=Pipe()))
        return self.workers[-1]


def specs(compile=True):
    arms = [{"name": table, "arch": "transformer", "table": table} for table in ("sp", "mup_derived")]
    grid = tiny.sweep(widths=[16, 32], seeds=[0, 1], log2_lrs=[-8, -7], refine="all", arms=arms)
    return list(tiny.specs("text:books", grid, execution={"compile": compile}))


def assigned(pool, runs):
    """Give a run to each idle place; return the forms in that order."""
    forms = []
    while runs and len(pool.running) < pool.size:
        spec = pool.suited(runs)
        pool.start(spec, {})
        runs.remove(spec)
        forms.append(form(spec))
    return forms


def test_rates_and_seeds_share_a_form_and_widths_and_tables_do_not():
    runs = specs()
    assert len({form(spec) for spec in runs}) == len({(s.model.width, s.parametrization.table) for s in runs}) > 2
    assert {form(spec) for spec in specs(compile=False)} == {None}


def test_workers_compile_different_forms_and_keep_to_them():
    runs, pool = specs(), Idle(2, Settings(root=Path(), set="x"))
    first = assigned(pool, runs)
    assert len(set(first)) == 2
    for worker in reversed(pool.workers):  # whichever ends first goes on with what it has compiled
        worker.run = None
        (again,) = assigned(pool, runs)
        assert worker.forms == {again}


def test_with_nothing_of_its_own_left_a_worker_takes_what_no_other_has_and_then_any():
    runs, pool = specs(), Idle(2, Settings(root=Path(), set="x"))
    assigned(pool, runs)
    mine = pool.workers[0]
    seen = set()
    while runs:
        mine.run = None
        (taken,) = assigned(pool, runs)
        if taken in pool.workers[1].forms:
            assert {form(spec) for spec in runs} <= pool.workers[1].forms
        seen.add(taken)
    assert seen == {form(spec) for spec in specs()}


def test_what_is_not_compiled_goes_in_the_order_given():
    runs, pool = specs(compile=False), Idle(3, Settings(root=Path(), set="x"))
    expected = runs[:3]
    assigned(pool, runs)
    assert [worker.run for worker in pool.workers] == expected
