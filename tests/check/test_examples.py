"""The worked examples: every check, and the equations of their papers, one token and one head after another."""

import pytest
import torch
from torch.nn import functional as F

from gdnbench.check import check
from gdnbench.models import ModelConfig, Parametrization, build_decoder, registry
from tests.check.test_new_mixer import EVERYTHING

T, D = 6, 32


@pytest.fixture
def example(root):
    return lambda name: root / "examples" / f"{name}.py"


@pytest.mark.parametrize("name", ["kimi_delta", "gdn_negative"])
def test_it_passes_every_check(name, example):
    report = check(example(name), only=EVERYTHING)
    assert not report.failed, "\n".join(report.lines())


def mixer_of(path, **options):
    arch = registry.resolve(str(path))
    config = ModelConfig(arch=arch, width=D, base_width=16, depth=1, options={arch: options} if options else {})
    model = build_decoder(config, Parametrization(table="mup_derived"), seed=0).double()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    return model.block_list()[0].mixer, torch.randn(T, D, dtype=torch.float64, generator=rng)


def convolved(conv, x):
    rows = [sum(conv.weight[:, 3 - j] * x[t - j] for j in range(min(t, 3) + 1)) for t in range(len(x))]
    return F.silu(torch.stack(rows))


def unit(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def rms(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


@pytest.mark.parametrize("beta_range", [1.0, 2.0])
def test_kimi_delta_attention_is_its_equations(beta_range, example):
    """Kimi Linear, section 4: eq. 1 for the memory; alpha and the output's gate by low-rank maps, beta by head."""
    m, x = mixer_of(example("kimi_delta"), heads=3, beta_range=beta_range)
    assert (m.heads, m.dim, m.rank) == (3, 4, 2)
    q, k, v = (convolved(getattr(m, f"{n}_conv"), x @ getattr(m, f"{n}_proj").weight.T) for n in "qkv")
    steps = F.softplus(x @ m.decay.down.weight.T @ m.decay.up.weight.T + m.dt_bias)
    beta = beta_range * torch.sigmoid(x @ m.b_proj.weight.T)
    heads = []
    for h in range(3):
        c = slice(4 * h, 4 * h + 4)
        S, rows = torch.zeros(4, 4, dtype=x.dtype), []
        for t in range(T):
            key, alpha = unit(k[t, c]), torch.exp(-m.A_log[h].exp() * steps[t, c])
            removal = torch.eye(4, dtype=x.dtype) - beta[t, h] * torch.outer(key, key)
            S = removal @ torch.diag(alpha) @ S + beta[t, h] * torch.outer(key, v[t, c])
            rows.append(unit(q[t, c]) @ S)
        heads.append(rms(4**0.5 * torch.stack(rows)) * m.o_norm.weight)
    gate = torch.sigmoid(x @ m.gate.down.weight.T @ m.gate.up.weight.T)
    expected = (torch.cat(heads, -1) * gate) @ m.o_proj.weight.T
    torch.testing.assert_close(m(x[None])[0][0], expected, rtol=1e-9, atol=1e-9)


def test_gdn_with_negative_eigenvalues_is_its_equations(example):
    """Grazzi et al., section 4: the strength is 2 sigmoid(z), so that a token's transition may turn a key round."""
    m, x = mixer_of(example("gdn_negative"), heads=2)
    q, k, v = (convolved(getattr(m, f"{n}_conv"), x @ getattr(m, f"{n}_proj").weight.T) for n in "qkv")
    alpha = (-m.A_log.exp() * F.softplus(x @ m.a_proj.weight.T + m.dt_bias)).exp()
    beta = 2 * torch.sigmoid(x @ m.b_proj.weight.T)
    assert (beta > 1).any(), "or nothing is negative here"
    heads = []
    for h in range(2):
        keys, values = slice(4 * h, 4 * h + 4), slice(8 * h, 8 * h + 8)
        S, rows = torch.zeros(8, 4, dtype=x.dtype), []
        for t in range(T):
            key = unit(k[t, keys])
            S = alpha[t, h] * S @ (torch.eye(4, dtype=x.dtype) - beta[t, h] * torch.outer(key, key))
            S = S + beta[t, h] * torch.outer(v[t, values], key)
            rows.append(S @ unit(q[t, keys]))
        heads.append(rms(4**0.5 * torch.stack(rows)) * m.o_norm.weight)
    expected = (torch.cat(heads, -1) * F.silu(x @ m.g_proj.weight.T)) @ m.o_proj.weight.T
    torch.testing.assert_close(m(x[None])[0][0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strength", [0.0, 8.0])
def test_only_strengths_above_1_remember_parity(strength, example):
    """A memory that each token turns round is the parity of their number: beta near 2 does it, beta 1 forgets."""
    m, _ = mixer_of(example("gdn_negative"), heads=2)
    from gdnbench_kernels.gated_delta import gated_delta_rule

    key = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 5, 1, 2)
    start = torch.tensor([[1.0], [0.0]], dtype=torch.float64)[None, None]
    beta = torch.full((1, 5, 1), m.beta_range / (1 + torch.exp(torch.tensor(-strength)).item()), dtype=torch.float64)
    zero = torch.zeros(1, 5, 1, 1, dtype=torch.float64)
    o, _ = gated_delta_rule(key, key, zero, zero[..., 0], beta, scale=1.0, initial_state=start)
    signs = o.flatten().sign().tolist()
    assert signs == ([-1, 1, -1, 1, -1] if strength else [0] * 5)
