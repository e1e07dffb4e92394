"""Drawn tokens have the probabilities that were asked for, and their random numbers are independent."""

import pytest
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.inference import Greedy, Sampling
from gdnbench.inference.sampling import stream_keys, uniform

DRAWS = 40_000
LOGITS = torch.tensor([1.0, -2.0, 0.5, 3.0, float("-inf"), 2.5, 0.5, -1.0, 2.9])


def improbable(counts, probabilities):
    """Return Pearson's statistic's p-value; what has no probability must not occur."""
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = counts.sum() * probabilities[possible]
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def drawn(how, logits=LOGITS):
    keys, places = stream_keys(how.seed, range(DRAWS // 4)).repeat(4), torch.arange(4).repeat_interleave(DRAWS // 4)
    return how.choose(logits.expand(DRAWS, -1), keys, places).bincount(minlength=len(logits)).double()


def kept(logits, count):
    cut = torch.full_like(logits, float("-inf"))
    best = logits.topk(count)
    return cut.scatter(0, best.indices, best.values).double().softmax(0)


PLAIN = LOGITS.double()
CASES = {
    "all": (Sampling(), PLAIN.softmax(0)),
    "cold": (Sampling(temperature=0.5), (PLAIN / 0.5).softmax(0)),
    "hot": (Sampling(temperature=3.0, seed=7), (PLAIN / 3).softmax(0)),
    "three": (Sampling(top_k=3), kept(LOGITS, 3)),
    "one": (Sampling(top_k=1), kept(LOGITS, 1)),
    "more than there are": (Sampling(top_k=99), PLAIN.softmax(0)),
    # The three likeliest have 0.32, 0.29 and 0.19.
    "nucleus": (Sampling(top_p=0.7), kept(LOGITS, 3)),
    "nucleus of one": (Sampling(top_p=0.01), kept(LOGITS, 1)),
    # Of the four likeliest, made to sum to 1, the first three reach 0.9.
    "nucleus of four": (Sampling(top_k=4, top_p=0.9), kept(LOGITS, 3)),
}


@pytest.mark.parametrize(("how", "probabilities"), CASES.values(), ids=CASES)
def test_frequencies(how, probabilities):
    assert improbable(drawn(how), probabilities) > 1e-4 or probabilities.max() == 1


def test_another_distribution_would_be_found():
    assert improbable(drawn(Sampling()), (PLAIN / 1.1).softmax(0)) < 1e-9


def test_nucleus_keeps_what_reaches_it():
    p = PLAIN.softmax(0).sort(descending=True).values.cumsum(0)
    assert p[1] < 0.7 < p[2]
    four = kept(LOGITS, 4).sort(descending=True).values.cumsum(0)
    assert four[1] < 0.9 < four[2] or four[2] >= 0.9


@pytest.mark.parametrize("axis", ["streams", "places", "seeds"])
def test_neighbours_are_independent(axis):
    """Pairs of successive numbers fill an 8 x 8 grid evenly."""
    count = 20_000
    if axis == "streams":
        u = uniform(stream_keys(0, range(count)), torch.zeros(count))
    elif axis == "places":
        u = uniform(stream_keys(0, [5]).expand(count), torch.arange(count))
    else:
        keys = torch.cat([stream_keys(seed, [0]) for seed in range(2000)])
        u = uniform(keys, torch.zeros(2000))
    assert u.min() >= 0 and u.max() < 1
    cells = (u * 8).long()
    pairs = (cells[:-1:2] * 8 + cells[1::2]).bincount(minlength=64).double()
    assert improbable(pairs, torch.full((64,), 1 / 64, dtype=torch.float64)) > 1e-4


def test_greedy_is_the_likeliest():
    assert Greedy().choose(LOGITS[None], torch.zeros(1), torch.zeros(1)).tolist() == [3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 0}, "top-k 0"),
        ({"top_p": 0.0}, "top-p 0"),
        ({"top_p": 1.1}, "top-p 1.1"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_mistakes(options, said):
    with pytest.raises(GdnbenchError, match=said):
        Sampling(**options)
