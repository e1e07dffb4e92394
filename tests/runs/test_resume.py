"""A run that was interrupted goes on from its checkpoint, to the same bits."""

import dataclasses
from pathlib import Path

import pytest
import torch

from gdnbench.data import corpora
from gdnbench.errors import GdnbenchError
from gdnbench.measure import memory
from gdnbench.results import Store
from gdnbench.runs import checkpoint, loop
from gdnbench.runs import execute as execution
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.train import Trainer
from tests.runs.tiny import make_books, numbers, specs, sweep

STEPS = 12
ARMS = {
    "transformer": {"name": "T", "arch": "transformer", "table": "mup_derived"},
    "gdn": {"name": "G", "arch": "gdn", "table": "mup_gdn"},
    "mamba2": {"name": "M", "arch": "mamba2", "table": "sp", "model": {"geometry": "fixed_head"}},
    "rwkv7": {"name": "R", "arch": "rwkv7", "table": "sp", "model": {"geometry": "fixed_head"}},
    "hybrid": {"name": "H", "arch": "hybrid", "model": {"pattern": "gdn transformer", "depth": 2}},
}


class Killed(Exception):
    """Stands for a process that ends without a chance to save."""


@pytest.fixture(autouse=True)
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run_of(books, arch="transformer", **changes):
    (spec,) = specs(books, sweep(arms=[ARMS[arch]]), **{"training": {"keep_checkpoint": True}, **changes})
    return spec


def stopping_after(steps):
    """An observer that asks the run to stop after some of its steps."""
    seen = []
    return Observer(beat=seen.append, stop=lambda: len(seen) >= steps)


def killing_after(steps):
    seen = []

    def beat(sign):
        seen.append(sign)
        if len(seen) == steps:
            raise Killed

    return Observer(beat=beat)


def interrupted(spec, store, observer):
    with pytest.raises((Interrupted, Killed)):
        execute(spec, store, observer)
    assert store.read(spec.run_id) is None
    return checkpoint.load(store.checkpoint_path(spec.run_id))


def weights(store, spec):
    return checkpoint.load(store.checkpoint_path(spec.run_id))["model"]


def trained_steps(monkeypatch):
    """Count the steps that are really trained from here on."""
    counted = []
    advance = Trainer.advance
    monkeypatch.setattr(Trainer, "advance", lambda trainer: counted.append(trainer.step) or advance(trainer))
    return counted


@pytest.mark.parametrize("interruption", [stopping_after, killing_after])
@pytest.mark.parametrize("arch", ARMS)
def test_resumed_is_uninterrupted(tmp_path, books, monkeypatch, arch, interruption):
    spec = run_of(books, arch)
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    execute(spec, whole, Observer())
    saved = interrupted(spec, parts, interruption(7))
    counted = trained_steps(monkeypatch)
    execute(spec, parts, Observer())
    assert 0 < saved["step"] <= 7
    assert counted == list(range(saved["step"], STEPS)), "it goes on from the checkpoint, not from the start"
    assert numbers(parts, spec.run_id) == numbers(whole, spec.run_id)
    for name, weight in weights(whole, spec).items():
        assert torch.equal(weight, weights(parts, spec)[name]), name


def test_a_kill_takes_back_what_came_after_the_checkpoint_only(tmp_path, books):
    spec, store = run_of(books), Store(tmp_path, "s")
    assert interrupted(spec, store, killing_after(7))["step"] == 4
    assert interrupted(spec, store, stopping_after(7))["step"] == 11


def test_a_run_may_be_interrupted_at_every_step(tmp_path, books):
    spec = run_of(books)
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    execute(spec, whole, Observer())
    for _ in range(STEPS - 1):
        interrupted(spec, parts, stopping_after(1))
    execute(spec, parts, Observer())
    assert numbers(parts, spec.run_id) == numbers(whole, spec.run_id)


def test_a_run_that_was_stopped_before_its_first_step(tmp_path, books):
    spec, store = run_of(books), Store(tmp_path, "s")
    assert interrupted(spec, store, stopping_after(0))["step"] == 0
    assert execute(spec, store, Observer()) is not None


def test_the_times_of_all_parts_are_added(tmp_path, books):
    spec, store = run_of(books), Store(tmp_path, "s")
    saved = interrupted(spec, store, stopping_after(7))
    record = execute(spec, store, Observer())
    assert record.duration_s >= saved["seconds"]
    assert record.started == saved["started"]


def test_a_stored_run_is_not_run_again(tmp_path, books, monkeypatch):
    spec, store = run_of(books), Store(tmp_path, "s")
    execute(spec, store, Observer())
    counted = trained_steps(monkeypatch)
    assert execute(spec, store, Observer()) is None
    assert not counted


def test_a_checkpoint_is_kept_only_if_that_was_asked_for(tmp_path, books):
    for keep in (False, True):
        spec, store = run_of(books, training={"keep_checkpoint": keep}), Store(tmp_path, "s")
        execute(spec, store, Observer())
        assert store.checkpoint_path(spec.run_id).exists() == keep


def with_other_sources(monkeypatch):
    monkeypatch.setattr(execution, "source_digest", lambda model: "f" * 64)


def test_a_checkpoint_of_other_sources_is_refused(tmp_path, books, monkeypatch):
    spec, store = run_of(books), Store(tmp_path, "s")
    interrupted(spec, store, stopping_after(7))
    with_other_sources(monkeypatch)
    with pytest.raises(GdnbenchError, match="--changed-code accept") as caught:
        execute(spec, store, Observer())
    assert "ffffffffff" in str(caught.value)
    assert checkpoint.load(store.checkpoint_path(spec.run_id))["step"] == 7, "refusing leaves it as it was"


def test_a_checkpoint_of_other_sources_is_accepted_and_that_is_recorded(tmp_path, books, monkeypatch):
    spec, store = run_of(books), Store(tmp_path, "s")
    saved = interrupted(spec, store, stopping_after(7))
    with_other_sources(monkeypatch)
    counted = trained_steps(monkeypatch)
    execute(spec, store, Observer(), changed_code="accept")
    assert counted[0] == 7
    (note,) = [note for note in store.read(spec.run_id).notes if "ffffffffff" in note]
    assert "step 7" in note
    assert saved["digest"][:10] in note


def test_an_accepted_digest_stays_on_record_through_another_interruption(tmp_path, books, monkeypatch):
    spec, store = run_of(books), Store(tmp_path, "s")
    interrupted(spec, store, stopping_after(5))
    with_other_sources(monkeypatch)
    with pytest.raises(Interrupted):
        execute(spec, store, stopping_after(2), changed_code="accept")
    execute(spec, store, Observer())
    assert any("step 5" in note and "ffffffffff" in note for note in store.read(spec.run_id).notes)


def test_a_checkpoint_of_other_sources_is_thrown_away_on_request(tmp_path, books, monkeypatch):
    spec, store = run_of(books), Store(tmp_path, "s")
    interrupted(spec, store, stopping_after(7))
    with_other_sources(monkeypatch)
    counted = trained_steps(monkeypatch)
    execute(spec, store, Observer(), changed_code="restart")
    assert counted == list(range(STEPS))
    assert [row["step"] for row in store.rows(spec.run_id)] == [1, 2, 4, 6, 8, 10, 12]


def flip(content):
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"not a checkpoint"],
    ids=["one bit", "half", "empty", "another file"],
)
def test_a_damaged_checkpoint_is_set_aside_named_and_run_again(tmp_path, books, damage):
    spec = run_of(books)
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    execute(spec, whole, Observer())
    interrupted(spec, parts, stopping_after(7))
    path = parts.checkpoint_path(spec.run_id)
    path.write_bytes(damage(path.read_bytes()))
    execute(spec, parts, Observer())
    assert numbers(parts, spec.run_id) == numbers(whole, spec.run_id)
    (note,) = (note for note in parts.read(spec.run_id).notes if note != memory.NOT_RESET)
    assert "checkpoint.pt.corrupt" in note
    assert str(tmp_path) not in note, "records are published; where this machine keeps them is nobody's business"
    assert path.with_name("checkpoint.pt.corrupt").exists()


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harmed").touch, ())

    checkpoint.save(tmp_path / "c.pt", {"harm": Harm()})
    with pytest.raises(checkpoint.Corrupt):
        checkpoint.load(tmp_path / "c.pt")
    assert not (tmp_path / "harmed").exists()


def test_rows_that_are_shorter_than_the_checkpoint_knows_are_not_invented(tmp_path, books):
    """Truncating a file to more than it has fills it with zeros, which no reader takes for rows."""
    spec = run_of(books)
    whole, parts = Store(tmp_path, "whole"), Store(tmp_path, "parts")
    execute(spec, whole, Observer())
    interrupted(spec, parts, stopping_after(7))
    parts.rows_path(spec.run_id).write_bytes(b"")
    execute(spec, parts, Observer())
    assert numbers(parts, spec.run_id) == numbers(whole, spec.run_id)


def test_a_text_that_changed_meanwhile_is_refused_or_on_record(tmp_path, monkeypatch):
    """Otherwise a record states the hash of one text for losses of two."""
    books = make_books(tmp_path / "books")
    spec, store = run_of(books), Store(tmp_path, "s")
    saved = interrupted(spec, store, stopping_after(7))
    text = tmp_path / "books" / "train.txt"
    text.write_text(text.read_text().replace("question", "answer"))
    execution.load_corpus.cache_clear()
    try:
        execute(spec, store, Observer())
    except GdnbenchError as error:
        assert "corpus" in str(error) or "data" in str(error)
    else:
        notes = " ".join(store.read(spec.run_id).notes)
        assert "corpus" in notes or "data" in notes, f"resumed at step {saved['step']} on another text without a word"


def test_batches_are_those_of_the_step(books):
    """Where the data is follows from the step alone, so a checkpoint need not hold it."""
    corpora.open_corpus(books)
    spec = run_of(books)
    corpus = execution.load_corpus(books, "bytes", ("valid",))
    first, second = Trainer(spec, corpus), Trainer(run_of(books, "gdn"), corpus)
    for step in (0, 3, 11):
        assert torch.equal(first.sampler.batch(step), second.sampler.batch(step))


def test_a_peak_that_cannot_be_measured_anew_is_on_record(tmp_path, books, monkeypatch):
    def refused(path, *arguments, write=Path.write_text, **settings):
        if path == Path("/proc/self/clear_refs"):
            raise PermissionError
        return write(path, *arguments, **settings)

    monkeypatch.setattr(Path, "write_text", refused)
    spec, store = run_of(books), Store(tmp_path, "s")
    interrupted(spec, store, stopping_after(7))
    execute(spec, store, Observer())
    assert store.read(spec.run_id).notes.count(memory.NOT_RESET) == 1


@pytest.mark.parametrize("when", ["a step", "the evaluation"])
def test_a_run_out_of_memory_says_what_would_fit_and_goes_on_with_it(tmp_path, books, monkeypatch, when):
    """A GPU of made-up size; what ends the run is the error that PyTorch raises there."""
    spec, store = run_of(books), Store(tmp_path, "s")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 4 * 2**30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with monkeypatch.context() as patch:
        advance = Trainer.advance

        def too_much(*args):
            if when == "a step" and args[0].step < 7:
                return advance(*args)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        patch.setattr(*((Trainer, "advance") if when == "a step" else (loop, "score")), too_much)
        with pytest.raises(GdnbenchError) as raised:
            execute(spec, store, Observer())
    line = str(raised.value)
    assert "\n" not in line and f"{spec.run_id}: out of GPU memory with 2 sequences a pass (4.0 GiB in all" in line
    assert "execution: {micro_batch: 1} would fit" in line and store.read(spec.run_id) is None
    smaller = dataclasses.replace(spec, execution=dataclasses.replace(spec.execution, micro_batch=1))
    assert smaller.run_id == spec.run_id
    counted = trained_steps(monkeypatch)
    assert execute(smaller, store, Observer()).outcome == "finished"
    assert len(counted) == (STEPS - 4 if when == "a step" else 0)
