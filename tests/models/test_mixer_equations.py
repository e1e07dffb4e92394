"""Each mixer against its paper's equations, written here one token and one head after another."""

import math

import pytest
import torch
from torch.nn import functional as F

T, D = 6, 32


def rms(x, eps=1e-6):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def unit(x, eps=1e-6):
    return x / (x.square().sum(-1, keepdim=True) + eps).sqrt()


def convolved(conv, x):
    """Return silu of the causal convolution: the last tap meets the present."""
    bias = 0 if conv.bias is None else conv.bias
    rows = [sum(conv.weight[:, 3 - j] * x[t - j] for j in range(min(t, 3) + 1)) + bias for t in range(len(x))]
    return F.silu(torch.stack(rows))


def gated_delta_net(m, x):
    """Gated Delta Networks, eq. 10 and figure 1 (arXiv 2412.06464); arXiv 2606.04048 adds the output multiplier."""
    q, k, v = (convolved(getattr(m, f"{n}_conv"), x @ getattr(m, f"{n}_proj").weight.T) for n in "qkv")
    alpha = (-m.A_log.exp() * F.softplus(x @ m.a_proj.weight.T + m.dt_bias)).exp()
    beta = torch.sigmoid(x @ m.b_proj.weight.T)
    heads = []
    for h in range(6):
        keys, values = slice(4 * h, 4 * h + 4), slice(8 * h, 8 * h + 8)
        S, rows = torch.zeros(8, 4, dtype=x.dtype), []
        for t in range(T):
            k_t = unit(k[t, keys])
            S = alpha[t, h] * S @ (torch.eye(4, dtype=x.dtype) - beta[t, h] * torch.outer(k_t, k_t))
            S = S + beta[t, h] * torch.outer(v[t, values], k_t)
            rows.append(S @ unit(q[t, keys]))
        # The multiplier is the root of the key dim under the derived table.
        heads.append(rms(4**0.5 * torch.stack(rows)) * m.o_norm.weight)
    return (torch.cat(heads, -1) * F.silu(x @ m.g_proj.weight.T)) @ m.o_proj.weight.T


def mamba2(m, x):
    """Transformers are SSMs, figure 6, with the norm after the gate as in the authors' code (arXiv 2405.21060)."""
    z, u = x @ m.z_proj.weight.T, convolved(m.x_conv, x @ m.x_proj.weight.T)
    B, C = convolved(m.b_conv, x @ m.b_proj.weight.T), convolved(m.c_conv, x @ m.c_proj.weight.T)
    dt = F.softplus(x @ m.dt_proj.weight.T + m.dt_bias)
    heads = []
    for h in range(4):
        S, rows = torch.zeros(8, 16, dtype=x.dtype), []
        for t in range(T):
            inputs = u[t, 16 * h : 16 * h + 16]
            S = torch.exp(-dt[t, h] * m.A_log[h].exp()) * S + dt[t, h] * torch.outer(B[t], inputs)
            rows.append(C[t] @ S + m.D[h] * inputs)
        heads.append(torch.stack(rows))
    return (rms(torch.cat(heads, -1) * F.silu(z)) * m.norm.weight) @ m.out_proj.weight.T


def rwkv7(m, x, first_value):
    """RWKV-7, section 4.1, eq. 3 to 22 (arXiv 2503.14456)."""
    before = torch.cat([torch.zeros(1, D, dtype=x.dtype), x[:-1]])
    shifted = {n: x + (before - x) * getattr(m, f"x_{n}") for n in "rwkvag"}

    def lora(f, low_rank, n):
        return f(shifted[n] @ low_rank.down.weight.T) @ low_rank.up.weight.T

    r, k, v = (shifted[n] @ getattr(m, f"{n}_proj").weight.T for n in "rkv")
    w = torch.exp(-math.exp(-0.5) * torch.sigmoid(m.decay.bias + lora(torch.tanh, m.decay, "w")))
    a = torch.sigmoid(m.rate.bias + lora(lambda y: y, m.rate, "a"))
    g = lora(torch.sigmoid, m.gate, "g")
    share = torch.sigmoid(m.value_mix.bias + lora(lambda y: y, m.value_mix, "v"))
    v = (1 - share) * v + share * first_value
    replacement = k * (1 - m.k_a) + k * a * m.k_a
    heads = []
    for h in range(4):
        c = slice(8 * h, 8 * h + 8)
        S, rows = torch.zeros(8, 8, dtype=x.dtype), []
        for t in range(T):
            kappa = unit((k * m.k_k)[t, c], eps=1e-12)
            S = S @ (torch.diag(w[t, c]) - torch.outer(kappa, a[t, c] * kappa)) + torch.outer(
                v[t, c], replacement[t, c]
            )
            o = S @ r[t, c]
            o = (o - o.mean()) / (o.var(correction=0) + 8e-5).sqrt() * m.norm_weight[c] + m.norm_bias[c]
            # Under the derived table the bonus, a sum over the head dim, falls with its growth: here by 2.
            bonus = 0.5 * (r[t, c] * replacement[t, c] * m.r_k[c]).sum()
            rows.append(o + bonus * v[t, c])
        heads.append(torch.stack(rows))
    return (torch.cat(heads, -1) * g) @ m.o_proj.weight.T


def transformer(m, x):
    """Attention with normalized, rotated q and k, and in the native block GDN's convolutions and output gate."""
    projected = [x @ getattr(m, f"{n}_proj").weight.T for n in "qkv"]
    q, k, v = (convolved(conv, p) for conv, p in zip(m.convs, projected, strict=True)) if len(m.convs) else projected
    turns = torch.arange(T, dtype=x.dtype)[:, None] * 1e4 ** (-torch.arange(4, dtype=x.dtype) / 4)
    turns, heads = torch.polar(torch.ones_like(turns), turns), []
    for h in range(4):
        c, pair = slice(8 * h, 8 * h + 8), []
        for y, norm in ((q[:, c], m.q_norm), (k[:, c], m.k_norm)):
            y = y if norm is None else rms(y) * norm.weight
            turned = torch.complex(y[:, :4], y[:, 4:]) * turns
            pair.append(torch.cat([turned.real, turned.imag], -1))
        # dk0^1/2 / dk with dk0 = 4 and dk = 8.
        scores = (pair[0] @ pair[1].T) * 2 / 8
        o = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf).softmax(-1) @ v[:, c]
        heads.append(o if m.o_norm is None else rms(o) * m.o_norm.weight)
    o = torch.cat(heads, -1)
    return (o if m.g_proj is None else o * F.silu(x @ m.g_proj.weight.T)) @ m.o_proj.weight.T


@pytest.mark.parametrize(
    ("arch", "block", "equations"),
    [
        ("gdn", "controlled", gated_delta_net),
        ("mamba2", "controlled", mamba2),
        ("rwkv7", "controlled", rwkv7),
        ("transformer", "controlled", transformer),
        ("transformer", "native", transformer),
    ],
)
@torch.no_grad()
def test_mixer_is_what_its_paper_says(arch, block, equations, tiny_decoder):
    mixer = tiny_decoder(arch, block=block, perturb=0.3).blocks[1].mixer
    x, first_value = torch.randn(2, T, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    settings = {"first_value": first_value} if arch == "rwkv7" else {}
    shared = {"rwkv7_first_value": first_value[None]}
    torch.testing.assert_close(
        mixer(x[None], None, shared)[0][0], equations(mixer, x, **settings), rtol=1e-9, atol=1e-9
    )
