"""A worker serves many runs one after the other, and keeps nothing of those that are over."""

import weakref

import pytest

from gdnbench.runs import execute as module
from gdnbench.runs.worker import Settings, _run
from tests.runs.tiny import Pipe, specs


class Trainer:
    """Refers to itself, as a trainer and its CUDA graph do."""

    def __init__(self):
        self.graph = self


@pytest.mark.parametrize("broken", [False, True])
def test_what_a_run_held_is_freed_before_the_next(tmp_path, books, monkeypatch, broken):
    held = []

    def execute(spec, store, observer, **settings):
        trainer = Trainer()
        held.append(weakref.ref(trainer))
        store.run_folder(spec.run_id).mkdir(parents=True)
        if broken:
            raise RuntimeError("broke")

    monkeypatch.setattr(module, "execute", execute)
    (spec,) = specs(books)
    pipe = Pipe()
    assert _run(pipe, Settings(root=tmp_path, set="s"), spec, {})
    assert pipe.said[0][:2] == ("failed" if broken else "done", spec.run_id)
    assert held[0]() is None
