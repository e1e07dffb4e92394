"""What the eigenvalues of GDN's transition allow: no parity while they lie in [0, 1], parity for ever with -1.

Grazzi et al., arXiv 2411.12537, theorem 1: on the word 1, 1, 1, ... a layer applies one transition again and again;
with eigenvalues in [0, 1] its state converges, so that long words of even and of odd length get the same answer.
"""

import pytest
import torch
from gdnbench_kernels.gated_delta import gated_delta_rule

from gdnbench.data.tasks import open_task


def outputs(bits, *, beta, alpha=1.0, seed=0):
    """Outputs [B, T, V] of one head that erases at a unit key where the bit is 1 and rests where it is 0.

    What it begins with, it was given by tokens before these.
    """
    generator = torch.Generator().manual_seed(seed)
    k = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    start = torch.randn(1, 1, 4, 3, generator=generator, dtype=torch.float64)
    batch, time = bits.shape
    keys = k.expand(batch, time, 1, 4)
    values = torch.zeros(batch, time, 1, 3, dtype=torch.float64)
    gates = torch.full((batch, time, 1), alpha, dtype=torch.float64).log()
    strengths = bits[..., None].double() * beta
    initial = start.expand(batch, 1, 4, 3).contiguous()
    o, _ = gated_delta_rule(keys, keys, values, gates, strengths, initial_state=initial, scale=1.0, impl="reference")
    return o[:, :, 0]


def test_beta_two_turns_the_state_over_at_every_one_for_ever():
    words = open_task("task:parity", {}, "task").held_out("test", 4, 600)
    o = outputs(torch.from_numpy(words.inputs), beta=2.0)
    even = torch.from_numpy(words.targets) == 0
    start = outputs(torch.zeros(1, 1, dtype=torch.int64), beta=2.0)[0, 0]
    assert torch.allclose(o, torch.where(even[..., None], start, -start), atol=1e-9)


@pytest.mark.parametrize("beta", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("alpha", [0.9, 1.0])
def test_beta_up_to_one_forgets_how_many_ones_there_were(beta, alpha):
    o = outputs(torch.ones(1, 400, dtype=torch.int64), beta=beta, alpha=alpha)
    steps = (o[:, 1:] - o[:, :-1]).abs().amax(dim=(0, 2))
    assert steps[-1] < 1e-9
    assert (steps[1:] <= steps[:-1] + 1e-12).all(), "it comes nearer with every token and never swings"


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0])
def test_the_transition_has_the_eigenvalue_one_minus_beta(beta):
    k = torch.nn.functional.normalize(torch.arange(1.0, 5.0, dtype=torch.float64), dim=0)
    values = torch.linalg.eigvalsh(torch.eye(4, dtype=torch.float64) - beta * torch.outer(k, k))
    expected = torch.tensor(sorted([1 - beta, 1.0, 1.0, 1.0]), dtype=torch.float64)
    assert torch.allclose(values, expected)
