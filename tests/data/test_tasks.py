"""Synthetic tasks: what they ask and what the right answer is, by brute force; the same draws for the same key."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from gdnbench.data import corpus_label, open_corpus
from gdnbench.data.tasks import NOT_ASKED, Recall, TaskCorpus, Words, open_task
from gdnbench.data.tasks.draws import Draws
from gdnbench.data.tasks.words import group_elements, multiplication
from gdnbench.errors import GdnbenchError


def drawn(task, rows=40, seq_len=64, key=(0,)):
    return task.draw(Draws(*key), rows, seq_len)


@pytest.mark.parametrize("random_fillers", [False, True])
def test_a_recall_sequence_lists_pairs_and_asks_every_key_once(random_fillers):
    task = Recall(pairs=(3, 8), vocabulary=100, random_fillers=random_fillers)
    sequences = drawn(task)
    for row, (inputs, targets) in enumerate(zip(sequences.inputs, sequences.targets, strict=True)):
        pairs = (3, 8)[row % 2]
        memory = dict(zip(inputs[0 : 2 * pairs : 2].tolist(), inputs[1 : 2 * pairs : 2].tolist(), strict=True))
        asked = np.flatnonzero(targets != NOT_ASKED)
        assert len(memory) == len(set(memory.values())) == len(asked) == pairs
        assert all(1 <= key < 50 <= value < 100 for key, value in memory.items())
        assert sorted(inputs[asked].tolist()) == sorted(memory)
        assert [memory[key] for key in inputs[asked].tolist()] == targets[asked].tolist()
        assert all(place >= 2 * pairs and place % 2 == 0 for place in asked)
        rest = np.delete(inputs[2 * pairs :], asked - 2 * pairs)
        assert (rest != 0).any() == random_fillers


def test_gaps_follow_the_power_law():
    """With one pair a query's slot is one draw: slot i has the weight i^(power - 1)."""
    task = Recall(pairs=(1,), vocabulary=16, power=0.01)
    rows = 20_000
    places = np.argmax(drawn(task, rows, 22).targets != NOT_ASKED, axis=1)
    weights = [slot**-0.99 for slot in range(1, 11)]
    counts = Counter(((places - 2) // 2).tolist())
    for slot, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(counts[slot] / rows - share) < 5 * math.sqrt(share * (1 - share) / rows)


def test_draws_without_replacement_by_weight_are_successive_draws():
    weights, rows = np.array([4.0, 2.0, 1.0]), 30_000
    counts = Counter(map(tuple, Draws(0).weighted(weights, rows, 2).tolist()))
    for first, second in itertools.permutations(range(3), 2):
        share = weights[first] / 7 * weights[second] / (7 - weights[first])
        assert abs(counts[first, second] / rows - share) < 5 * math.sqrt(share / rows)


@pytest.mark.parametrize("below", [5, 12])
def test_distinct_draws_are_uniform_over_ordered_choices(below):
    """Both ways of drawing: by a whole permutation, and by the first different ones of many."""
    rows, size = 30_000, 2
    found = Draws(1).distinct(below, rows, size)
    counts, share = Counter(map(tuple, found.tolist())), 1 / (below * (below - 1))
    assert set(counts) == set(itertools.permutations(range(below), size))
    assert all(abs(count / rows - share) < 5 * math.sqrt(share / rows) for count in counts.values())


def test_distinct_draws_differ_where_most_are_taken():
    found = Draws(2).distinct(40, 500, 10)
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert found.min() == 0 and found.max() == 39


@pytest.mark.parametrize("group", ["z2", "s3", "s5"])
@pytest.mark.parametrize("elements", ["all", "transpositions"])
def test_answers_are_products_of_the_permutations_so_far(group, elements):
    tokens = group_elements(group)
    sequences = drawn(Words(group=group, elements=elements), 8, 30)
    for inputs, targets in zip(sequences.inputs.tolist(), sequences.targets.tolist(), strict=True):
        objects = list(range(len(tokens[0])))
        for token, answer in zip(inputs, targets, strict=True):
            objects = [tokens[token][place] for place in objects]
            assert tuple(objects) == tokens[answer]


def test_parity_is_the_sum_of_bits():
    sequences = drawn(open_task("task:parity", {}, "task"))
    assert (sequences.targets == sequences.inputs.cumsum(axis=1) % 2).all()
    assert 0.4 < sequences.inputs.mean() < 0.6


def test_every_element_is_drawn_and_transpositions_move_two_objects():
    assert len(np.unique(drawn(Words(group="s5"), 200).inputs)) == 120
    chosen = np.unique(drawn(Words(group="s5", elements="transpositions"), 200).inputs)
    moved = [sum(i != p for i, p in enumerate(group_elements("s5")[token])) for token in chosen]
    assert sorted(moved) == [0, *[2] * 10]


def test_the_table_of_s3_is_a_group_that_does_not_commute():
    table = multiplication("s3")
    assert (np.sort(table, axis=0) == np.arange(6)[:, None]).all()
    assert (table[0] == np.arange(6)).all() and (table[:, 0] == np.arange(6)).all()
    assert (table != table.T).any()


TASKS = [("task:mqar", {"pairs": [2, 4], "vocabulary": 32}), ("task:parity", {}), ("task:s5", {})]


@pytest.mark.parametrize(("name", "options"), TASKS)
def test_batches_are_a_function_of_seed_and_step(name, options):
    corpus = TaskCorpus(name, open_task(name, options, "task"))
    sizes = {"batch_size": 6, "seq_len": 16}
    first, again, other = (corpus.sampler(**sizes, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.batch(3), again.batch(3))
    assert not torch.equal(first.batch(3), first.batch(4))
    assert not torch.equal(first.batch(3), other.batch(3))
    assert tuple(first.batch(0).shape) == first.shape
    inputs, targets = first.parts(first.batch(0))
    assert inputs.shape == targets.shape == (6, 16)
    assert float(first.share(targets[:2], targets) + first.share(targets[2:], targets)) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "options"), TASKS)
def test_splits_are_drawn_apart_and_are_the_same_for_every_seed(name, options):
    task = open_task(name, options, "task")
    valid, test = (task.held_out(split, 8, 32).inputs.tobytes() for split in ("valid", "test"))
    train = {task.draw(Draws(0, seed, step), 8, 32).inputs.tobytes() for seed in range(3) for step in range(3)}
    assert len({valid, test, *train}) == 11
    assert task.held_out("valid", 8, 32).inputs.tobytes() == valid


def test_a_tasks_hash_tells_its_options_and_stays():
    """The literal hashes change only with the meaning of a task: stored runs would not be comparable any more."""
    hashes = {name: TaskCorpus(name, open_task(name, options, "task")).corpus_hash for name, options in TASKS}
    assert {name: digest[:10] for name, digest in hashes.items()} == {
        "task:mqar": "c0137a8a48",
        "task:parity": "9c3e7ca568",
        "task:s5": "bf78a5764e",
    }
    changed = TaskCorpus("task:mqar", open_task("task:mqar", {"pairs": [2, 4], "vocabulary": 33}, "task"))
    assert changed.corpus_hash != hashes["task:mqar"]


@pytest.mark.parametrize(
    ("name", "options", "seq_len", "said"),
    [
        ("task:mqar", {"pairs": [64]}, 128, "even seq_len of at least 256, got 128"),
        ("task:mqar", {"pairs": [4]}, 17, "even seq_len"),
        ("task:mqar", {"pairs": [9], "vocabulary": 16}, 64, "9 pairs need 20 words"),
        ("task:mqar", {"pairs": []}, 64, "at least 1"),
        ("task:mqar", {"pair": [4]}, 64, "did you mean pairs"),
        ("task:s4", {}, 64, "did you mean s5 or s3"),
        ("task:s5", {"elements": "transposition"}, 64, "did you mean transpositions"),
    ],
)
def test_what_cannot_be_drawn_is_told(name, options, seq_len, said):
    with pytest.raises(GdnbenchError, match=said):
        open_task(name, options, "task").check(seq_len)


def test_a_task_is_no_text():
    assert corpus_label("task:mqar") == "task:mqar"
    with pytest.raises(GdnbenchError, match="is no text"):
        open_corpus("task:mqar")
