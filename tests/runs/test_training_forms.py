"""Optimizers, types, schedules and budgets of a training run."""

import dataclasses
import math

import pytest
import torch

from gdnbench.plan.spec import Schedule
from gdnbench.results import Store
from gdnbench.runs.execute import execute, load_corpus
from gdnbench.runs.progress import Interrupted, Observer
from gdnbench.runs.schedule import learning_rate
from gdnbench.runs.train import Trainer, build_model, build_optimizer
from tests.runs.tiny import specs, sweep

STEPS = 40


def rates(**settings):
    schedule = Schedule(**{"warmup_steps": 4, "final_fraction": 0.1, **settings})
    return [learning_rate(schedule, 1.0, step, STEPS) for step in range(STEPS)]


def test_warm_up_is_linear_and_moves_from_the_first_step():
    assert rates()[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_is_half_way_in_the_middle_and_ends_at_its_fraction():
    values = rates(kind="cosine")
    middle = 4 + (STEPS - 4) // 2
    assert values[middle] == pytest.approx(0.1 + 0.9 / 2)
    assert 0.1 < values[-1] < 0.11
    assert values[4:] == sorted(values[4:], reverse=True)


def test_constant_stays():
    assert set(rates(kind="constant")[4:]) == {1.0}


def test_wsd_is_flat_and_then_linear():
    values = rates(kind="wsd", decay_fraction=0.5)
    middle = 4 + (STEPS - 4) // 2
    assert values[4 : middle + 1] == pytest.approx([1.0] * 19)
    assert values[middle:] == pytest.approx([1 - 0.9 * step / 18 for step in range(18)])


def test_the_absolute_floor_holds_but_never_raises_the_peak():
    assert min(rates(final_fraction=0.0, minimum_lr=0.3)[4:]) == 0.3
    assert max(rates(final_fraction=0.0, minimum_lr=5.0)) == 1.0


def test_without_warm_up_the_first_step_has_the_peak():
    assert rates(warmup_steps=0)[0] == 1.0


@pytest.mark.parametrize("micro_batch", [1, 3, 5])
def test_a_batch_in_several_passes_trains_the_same(books, micro_batch):
    """Also where the last pass is smaller: losses are means, weighted by the sequences of a pass."""
    training = {"batch_size": 5, "steps": 6}
    trainers = []
    for passes in (None, micro_batch):
        changes = {"dtype": "float64", "training": training, "execution": {"micro_batch": passes}}
        (spec,) = specs(books, **changes)
        trainer = Trainer(spec, load_corpus(books, "bytes", ("valid",)))
        for _ in range(6):
            trainer.advance()
        trainers.append(trainer)
    whole, parts = trainers
    assert parts.spec.run_id == whole.spec.run_id, "how it is computed is no part of what is computed"
    assert parts.losses == pytest.approx(whole.losses, rel=1e-12)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def run(tmp_path, books, *experiments, observer=None, **changes):
    (spec,) = specs(books, *experiments, **changes)
    store = Store(tmp_path, "s")
    execute(spec, store, observer or Observer())
    return store, store.read(spec.run_id)


@pytest.mark.parametrize("kind", ["cosine", "constant", "wsd"])
def test_a_run_follows_its_schedule(tmp_path, books, kind):
    store, record = run(tmp_path, books, schedule={"kind": kind}, training={"log_every": 1})
    found = [row["lr"] for row in store.rows(record.run_id)]
    schedule = Schedule(kind=kind, warmup_steps=2)
    assert found == [learning_rate(schedule, 2.0**-7, step, 12) for step in range(12)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sgd_and_float64_train(tmp_path, books, momentum, dtype):
    arm = {"name": "G", "arch": "gdn", "table": "mup_gdn"}
    store, record = run(
        tmp_path,
        books,
        sweep(arms=[arm], widths=[32], log2_lrs=[-3]),
        optimizer={"name": "sgd", "momentum": momentum},
        dtype=dtype,
        training={"steps": 30},
    )
    losses = [row["loss"] for row in store.rows(record.run_id)]
    assert record.outcome == "finished"
    assert losses[-1] < losses[0]


def test_the_type_of_the_weights_is_the_runs(books):
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.float32)):
        (spec,) = specs(books, dtype=name)
        assert {p.dtype for p in build_model(spec).parameters()} == {dtype}


def test_every_parameter_is_in_one_optimizer_group_with_its_own_rate(books):
    arms = [{"name": "G", "arch": "gdn", "table": "mup_gdn"}]
    (spec,) = specs(books, sweep(arms=arms, widths=[32]))
    model = build_model(spec)
    groups = build_optimizer(spec, model).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(map(id, model.parameters()))
    assert len({group["lr_factor"] for group in groups}) > 1


def test_the_factor_of_a_group_holds_at_every_step(books):
    arms = [{"name": "G", "arch": "gdn", "table": "mup_gdn"}]
    (spec,) = specs(books, sweep(arms=arms, widths=[32]))
    trainer = Trainer(spec, load_corpus(books, "bytes", ("valid",)))
    for _ in range(3):
        trainer.advance()
        for group in trainer.optimizer.param_groups:
            assert group["lr"] == trainer.row()["lr"] * group["lr_factor"]


def test_equal_seeds_give_equal_losses_and_other_seeds_others(books):
    def losses(seed):
        (spec,) = specs(books, sweep(seeds=[seed]))
        trainer = Trainer(spec, load_corpus(books, "bytes", ("valid",)))
        for _ in range(4):
            trainer.advance()
        return trainer.losses

    assert losses(0) == losses(0) != losses(1)


def test_wall_clock_ends_a_run(tmp_path, books):
    store, record = run(tmp_path, books, training={"seconds": 2.0, "steps": 1})
    assert record.outcome == "finished"
    assert 2 <= record.duration_s < 60, "a step that was begun is finished, however slow the machine"
    assert record.metric("train_tokens") > 32, "the steps do not end it"
    rates = [row["lr"] for row in store.rows(record.run_id)]
    assert all(0 < rate <= 2.0**-7 for rate in rates)
    assert rates[-1] < max(rates)


def test_wall_clock_that_was_used_before_an_interruption_counts(tmp_path, books):
    (spec,) = specs(books, training={"seconds": 1.5})
    store, seen = Store(tmp_path, "s"), []
    with pytest.raises(Interrupted):
        execute(spec, store, Observer(beat=seen.append, stop=lambda: bool(seen) and seen[-1].fraction > 0.5))
    beats = []
    execute(spec, store, Observer(beat=beats.append))
    assert beats[0].fraction > 0.5
    assert beats[-1].fraction == 1.0


def test_test_and_valid_are_separate_metrics(tmp_path, books):
    _, record = run(tmp_path, books, evaluation={"splits": ["valid", "test"]})
    for prefix in ("", "test_"):
        assert math.isfinite(record.metric(f"{prefix}bits_per_byte"))
    assert record.metric("val_loss") != record.metric("test_loss")


def test_a_native_block_trains(tmp_path, books):
    arm = {"name": "R", "arch": "rwkv7", "model": {"block": "native", "geometry": "fixed_head"}}
    _, record = run(tmp_path, books, sweep(arms=[arm]))
    assert record.outcome == "finished"


def test_a_model_smaller_than_its_tokenizer_is_refused(books):
    from gdnbench.errors import GdnbenchError
    from gdnbench.runs.execute import _check_vocabulary

    (spec,) = specs(books)
    small = dataclasses.replace(spec, model=dataclasses.replace(spec.model, vocab_size=100))
    with pytest.raises(GdnbenchError, match="256"):
        _check_vocabulary(small, load_corpus(books, "bytes", ("valid",)))


def test_a_carried_state_is_a_metric_of_its_own(tmp_path, books):
    """The model reads on, so the two losses differ; both are on the same tokens."""
    _, record = run(tmp_path, books, evaluation={"sequences": 8, "carry_state": True})
    carried, fresh = record.metric("carried_val_loss"), record.metric("uncarried_val_loss")
    assert carried is not None
    assert fresh is not None
    assert carried != fresh
    assert abs(carried - fresh) < 1
