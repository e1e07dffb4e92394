"""The two ends of a step of generation: every backend does what the definition does, and done rows stay as they are."""

import pytest
import torch
from gdnbench_kernels.next_token import RowsOfTokens, append, append_likeliest, embed

VOCABULARY, PLACES, BATCH = 2100, 9, 6


def rows(device="cpu"):
    """Rows of several lengths: one that is done, one at its limit, one that a stop token ends."""
    rng = torch.Generator().manual_seed(0)
    held = RowsOfTokens(
        tokens=torch.randint(VOCABULARY, (BATCH, PLACES), generator=rng, dtype=torch.int32),
        lengths=torch.tensor([0, 3, 8, 2, 5, 1], dtype=torch.int32),
        limits=torch.tensor([9, 9, 9, 4, 9, 9], dtype=torch.int32),
        done=torch.tensor([False, False, True, False, False, False]),
        stops=torch.zeros(VOCABULARY, dtype=torch.bool),
    )
    held.stops[1234] = True
    return RowsOfTokens(*(value.to(device) for value in held))


def logits(device="cpu"):
    found = torch.randn(BATCH, VOCABULARY, generator=torch.Generator().manual_seed(1))
    found[4, 1234] = 9.0
    # Equal ones in one block and in several, and nothing but the last token.
    found[0, [5, 1023, 1024, 2099]] = 7.0
    found[1] = float("-inf")
    found[1, 2099] = 1.0
    return found.to(device)


def equal(found, expected):
    for name, value in found._asdict().items():
        assert torch.equal(value.cpu(), getattr(expected, name)), name


def check(impl, device="cpu"):
    """Compare two steps of both ways to choose, and both tables, with the definition."""
    chosen = torch.tensor([1, 1234, 3, 4, 5, 2099], device=device)
    for step in (
        lambda held, impl, to: append_likeliest(logits(to), held, impl=impl),
        lambda held, impl, to: append(chosen.to(to), held, impl=impl),
    ):
        found, expected = rows(device), rows()
        for _ in range(2):
            step(found, impl, device)
            step(expected, "reference", "cpu")
            equal(found, expected)
    for dtype in (torch.float32, torch.float16):
        table = torch.randn(VOCABULARY, 40, generator=torch.Generator().manual_seed(2)).to(device, dtype)
        made = embed(table, found, dtype=torch.float32, impl=impl)
        assert made.dtype == torch.float32
        assert torch.equal(made.cpu(), embed(table.cpu(), expected, dtype=torch.float32, impl="reference"))


def test_the_definition():
    held = rows()
    append_likeliest(logits(), held, impl="reference")
    assert held.lengths.tolist() == [1, 4, 8, 3, 6, 2]
    assert held.done.tolist() == [False, False, True, True, True, False]
    assert [int(held.tokens[row, held.lengths[row]]) for row in (0, 1, 4)] == [5, 2099, 1234]
    assert torch.equal(held.tokens[2], rows().tokens[2])


def test_torch_equals_the_definition():
    check("torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_on_a_gpu(impl):
    check(impl, "cuda")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lengths", torch.zeros(2, dtype=torch.int32), "lengths"),
        ("tokens", torch.zeros(BATCH, PLACES), "tokens: torch.float32, expected torch.int32"),
        ("done", torch.zeros(BATCH, dtype=torch.int32), "done: torch.int32, expected torch.bool"),
        ("tokens", torch.zeros(PLACES, BATCH, dtype=torch.int32).t(), "tokens: expected a contiguous"),
    ],
)
def test_what_does_not_fit_is_named(name, value, said):
    held = rows()._replace(**{name: value})
    if name == "lengths":
        held = held._replace(done=rows().done)
        said = "shape"
    with pytest.raises(ValueError, match=said):
        append_likeliest(logits(), held)


def test_chosen_tokens_are_whole_numbers_and_logits_of_the_vocabulary():
    with pytest.raises(ValueError, match=r"chosen: torch.int32"):
        append(torch.zeros(BATCH, dtype=torch.int32), rows())
    with pytest.raises(ValueError, match="logits"):
        append_likeliest(torch.zeros(BATCH, 3), rows())
    with pytest.raises(ValueError, match="table"):
        embed(torch.zeros(3, 4), rows(), dtype=torch.float32)
