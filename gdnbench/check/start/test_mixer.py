"""Tests of NewMixer: all checks of `gdnbench check`, and its equation. Run it with `pytest`."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from gdnbench.check import check
from gdnbench.models import ModelConfig, Parametrization, build_decoder
from gdnbench.models.registry import resolve

FILE = Path(__file__).with_name("new_mixer.py")


def test_all_checks_pass() -> None:
    report = check(FILE)
    assert not report.failed, "\n".join(report.lines())


def test_it_computes_its_equation() -> None:
    """S_t = e^{g_t} S_{t-1} + k_t v_t^T and o_t = S_t^T q_t, written out here for one head after another."""
    config = ModelConfig(arch=resolve(str(FILE)), width=32, base_width=16, depth=1)
    mixer: Any = build_decoder(config, Parametrization(), seed=0).double().block_list()[0].mixer
    x = torch.randn(7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, k, v = (x @ getattr(mixer, name).weight.T for name in ("q_proj", "k_proj", "v_proj"))
    g = -F.softplus(x @ mixer.f_proj.weight.T + mixer.fading)
    heads = []
    for h in range(mixer.heads):
        place = slice(h * mixer.dim, (h + 1) * mixer.dim)
        memory, rows = torch.zeros(mixer.dim, mixer.dim, dtype=torch.float64), []
        for t in range(len(x)):
            key = k[t, place] / (k[t, place].square().sum() + 1e-6).sqrt()
            query = q[t, place] / (q[t, place].square().sum() + 1e-6).sqrt()
            memory = g[t, h].exp() * memory + torch.outer(key, v[t, place])
            rows.append(query @ memory)
        o = torch.stack(rows)
        heads.append(o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * mixer.norm.weight)
    torch.testing.assert_close(mixer(x[None])[0][0], torch.cat(heads, -1) @ mixer.o_proj.weight.T)
