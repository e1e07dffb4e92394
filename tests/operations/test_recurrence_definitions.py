"""The recurrent definitions against formulas written from the papers: other orientation, loops, explicit matrices."""

import pytest
import torch
from gdnbench_kernels import testing
from gdnbench_kernels.testing import Case

CASE = Case(batch=2, time=7, heads=2, group=1, key_dim=3, value_dim=4)
GROUPED = Case(batch=1, time=6, heads=2, group=3, key_dim=4, value_dim=3)
F64 = torch.float64
both = pytest.mark.parametrize("impl", ["reference", "torch"])


def assert_equal(results, outputs, states=None):
    torch.testing.assert_close(results["output"], outputs, rtol=1e-12, atol=1e-12)
    if states is not None:
        torch.testing.assert_close(results["state"], states, rtol=1e-12, atol=1e-12)


@both
@pytest.mark.parametrize("case", [CASE, GROUPED])
@pytest.mark.parametrize("decay", testing.DECAYS)
@pytest.mark.parametrize("beta", [None, 2.0])
def test_gated_delta_rule_is_equation_10(case, decay, beta, impl):
    """Gated Delta Networks, eq. 10: S [V, K], S_t = S_{t-1} alpha (I - beta k k^T) + beta v k^T, o = S q."""
    x = testing.inputs("gated_delta", Case(**{**vars(case), "decay": decay, "beta": beta}), dtype=F64)
    outputs, states = torch.zeros_like(x["v"]), torch.zeros_like(x["initial_state"])
    for b in range(case.batch):
        for head in range(case.heads * case.group):
            # Consecutive value heads share a key head.
            key_head = head // case.group
            S = x["initial_state"][b, head].T
            for t in range(case.time):
                q, k, v = x["q"][b, t, key_head], x["k"][b, t, key_head], x["v"][b, t, head]
                alpha, strength = x["g"][b, t, head].exp(), x["beta"][b, t, head]
                S = S @ (alpha * (torch.eye(case.key_dim, dtype=F64) - strength * torch.outer(k, k)))
                S = S + strength * torch.outer(v, k)
                outputs[b, t, head] = 0.5 * S @ q
            states[b, head] = S.T
    assert_equal(testing.run("gated_delta", x, impl=impl, scale=0.5), outputs, states)


@both
@pytest.mark.parametrize("case", [CASE, GROUPED])
@pytest.mark.parametrize("decay", testing.DECAYS)
def test_ssd_is_a_semiseparable_matrix(case, decay, impl):
    """Transformers are SSMs, eq. 3: y = M x with M_ij = c_i^T (a_{j+1} ... a_i) b_j dt_j for j <= i."""
    x = testing.inputs("ssd", Case(**{**vars(case), "decay": decay}), dtype=F64)
    outputs, states = torch.zeros_like(x["x"]), torch.zeros_like(x["initial_state"])
    for b in range(case.batch):
        for head in range(case.heads * case.group):
            group = head // case.group
            a, dt = x["g"][b, :, head].exp(), x["dt"][b, :, head]
            M = torch.zeros(case.time, case.time, dtype=F64)
            for i in range(case.time):
                for j in range(i + 1):
                    M[i, j] = a[j + 1 : i + 1].prod() * (x["c"][b, i, group] @ x["b"][b, j, group]) * dt[j]
            start = torch.stack([a[: i + 1].prod() * x["c"][b, i, group] for i in range(case.time)])
            outputs[b, :, head] = M @ x["x"][b, :, head] + start @ x["initial_state"][b, head]
            weights = torch.stack([a[j + 1 :].prod() * dt[j] for j in range(case.time)])
            written = torch.einsum("t,tk,tv->kv", weights, x["b"][b, :, group], x["x"][b, :, head])
            states[b, head] = a.prod() * x["initial_state"][b, head] + written
    assert_equal(testing.run("ssd", x, impl=impl), outputs, states)


@both
@pytest.mark.parametrize("decay", testing.DECAYS)
def test_wkv7_is_equation_17(decay, impl):
    """RWKV-7, eq. 17, S [V, K]: S_t = S_{t-1} (diag(w) - kappa^T (a * kappa)) + v^T k, o = S r, on row vectors."""
    case = Case(**{**vars(CASE), "decay": decay})
    x = testing.inputs("wkv7", case, dtype=F64)
    rng = torch.Generator().manual_seed(1)
    rate = torch.rand(x["a"].shape, generator=rng, dtype=F64)
    x["b"] = -x["a"] * rate
    outputs, states = torch.zeros_like(x["v"]), torch.zeros_like(x["initial_state"])
    for b in range(case.batch):
        for head in range(case.heads):
            S = x["initial_state"][b, head].T
            for t in range(case.time):
                r, w, k, v = (x[name][b, t, head][None] for name in "rwkv")
                kappa = -x["a"][b, t, head][None]
                S = S @ (torch.diag(w[0].exp()) - kappa.T @ (rate[b, t, head] * kappa)) + v.T @ k
                outputs[b, t, head] = (S @ r.T)[:, 0]
            states[b, head] = S.T
    assert_equal(testing.run("wkv7", x, impl=impl), outputs, states)


@both
@pytest.mark.parametrize("decay", testing.DECAYS)
@pytest.mark.parametrize("beta", [None, 2.0])
def test_kda_is_equation_1(decay, beta, impl):
    """Kimi Linear, eq. 1, S [K, V]: S_t = (I - beta k k^T) Diag(alpha) S_{t-1} + beta k v^T, o = S^T q."""
    x = testing.inputs("kda", Case(**{**vars(CASE), "decay": decay, "beta": beta}), dtype=F64)
    outputs, states = torch.zeros_like(x["v"]), torch.zeros_like(x["initial_state"])
    for b in range(CASE.batch):
        for head in range(CASE.heads):
            S = x["initial_state"][b, head]
            for t in range(CASE.time):
                q, k, v, g, strength = (x[name][b, t, head] for name in ("q", "k", "v", "g", "beta"))
                removal = torch.eye(CASE.key_dim, dtype=F64) - strength * torch.outer(k, k)
                S = removal @ torch.diag(g.exp()) @ S + strength * torch.outer(k, v)
                outputs[b, t, head] = 0.5 * q @ S
            states[b, head] = S
    assert_equal(testing.run("kda", x, impl=impl, scale=0.5), outputs, states)


def test_kda_with_one_decay_a_head_is_the_gated_delta_rule():
    x = testing.inputs("gated_delta", CASE, dtype=F64)
    channels = {**x, "g": x["g"][..., None].expand_as(x["k"])}
    assert_equal(testing.run("kda", channels, impl="torch"), *testing.run("gated_delta", x, impl="torch").values())


@both
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("case", [CASE, GROUPED, Case(batch=1, time=1, key_dim=3, value_dim=4, group=2)])
def test_attention_is_a_masked_softmax(case, past, impl):
    case = Case(**{**vars(case), "past": past})
    x = testing.inputs("attention", case, dtype=F64)
    outputs = torch.zeros(case.batch, case.time, case.heads * case.group, case.value_dim, dtype=F64)
    for b in range(case.batch):
        for head in range(case.heads * case.group):
            key_head = head // case.group
            for t in range(case.time):
                seen = past + t + 1
                weights = (0.5 * x["k"][b, :seen, key_head] @ x["q"][b, t, head]).exp()
                outputs[b, t, head] = weights @ x["v"][b, :seen, key_head] / weights.sum()
    assert_equal(testing.run("attention", x, impl=impl, scale=0.5), outputs)


@pytest.mark.parametrize("operation", ["gated_delta", "ssd", "wkv7", "kda"])
def test_absent_state_is_a_zero_state(operation):
    x = testing.inputs(operation, CASE, dtype=F64)
    zero = {**x, "initial_state": torch.zeros_like(x["initial_state"])}
    absent = {name: tensor for name, tensor in x.items() if name != "initial_state"}
    assert_equal(
        testing.run(operation, absent, impl="reference"), *testing.run(operation, zero, impl="reference").values()
    )
