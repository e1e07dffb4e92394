"""The kernels of both ends of a step on the CPU against the definition."""

import torch
from gdnbench_kernels.next_token import append_likeliest

from tests.operations.test_next_token import BATCH, VOCABULARY, check, rows


def test_kernels_equal_the_definition():
    check("triton")


def test_what_is_no_number_stays_in_the_vocabulary():
    held = rows()
    append_likeliest(torch.full((BATCH, VOCABULARY), float("nan")), held, impl="triton")
    assert held.tokens.max() < VOCABULARY
