"""Training under the tables: equal at the base width, equal in both forms of the gating normalization."""

import pytest
import torch
from torch.nn import functional as F

from gdnbench.models import ModelConfig, Parametrization, build_decoder, registry
from gdnbench.models.apart import apart
from gdnbench.models.norm import RMSNorm
from gdnbench.models.parametrization import parameter_groups, table_names
from gdnbench.models.parametrization.table import document

OPTIMIZERS = {"adamw": (torch.optim.AdamW, 0.01), "sgd": (torch.optim.SGD, 0.3)}
# These change what is trained at any width.
BY_NATURE = {("gate_init", "zero"), ("norm_rate", "frozen"), ("decay_groups", "released")}


def combined_switches():
    """Return arms that together make every other choice of every switch; at m = 1 none may matter."""
    choices = {
        switch: [choice for choice in entry["choices"] if (switch, choice) not in BY_NATURE]
        for switch, entry in document()["switches"].items()
    }
    most, combined = max(map(len, choices.values())), []
    # The two set one cell and are refused together.
    for absent in ("gate_init", "gating_normalization"):
        present = {switch: own for switch, own in choices.items() if switch != absent}
        combined += [{switch: own[i % len(own)] for switch, own in present.items()} for i in range(most)]
    return combined


def train(config, choice, optimizer, *, weight_decay=0.1, eps=1e-8, dtype=torch.float32):
    """Return the losses of five steps on random tokens, and the model."""
    model = build_decoder(config, choice, seed=0).to(dtype)
    make, lr = OPTIMIZERS[optimizer]
    stepper = make(parameter_groups(model, model.rules, optimizer, lr=lr, weight_decay=weight_decay, eps=eps))
    rng, losses = torch.Generator().manual_seed(3), []
    for _ in range(5):
        tokens = torch.randint(config.vocab_size, (2, 9), generator=rng)
        loss = F.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("arch", registry.names())
def test_at_the_base_width_all_tables_and_switches_train_alike(arch, optimizer, tiny_config):
    # RWKV-7 needs its second layer for all of its parameters.
    config = tiny_config(arch, width=16, depth=2 if arch == "rwkv7" else 1, tied=arch in ("gdn", "mamba2"))
    expected, standard = train(config, Parametrization(table="sp"), optimizer)
    assert expected[-1] != expected[0]
    arms = [Parametrization(table=table) for table in table_names()]
    arms += [Parametrization(table="mup_derived", switches=switches) for switches in combined_switches()]
    for arm in arms:
        losses, model = train(config, arm, optimizer)
        assert losses == expected, arm
        for (name, parameter), reference in zip(model.named_parameters(), standard.parameters(), strict=True):
            assert torch.equal(parameter, reference), f"{arm}: {name}"


@pytest.mark.parametrize("choice", sorted(BY_NATURE))
def test_what_changes_by_nature_changes(choice, tiny_config):
    config = tiny_config("gdn", width=16)
    plain, _ = train(config, Parametrization(), "adamw")
    changed, _ = train(config, Parametrization(switches=dict([choice])), "adamw")
    assert plain != changed


def test_tables_differ_above_the_base_width(tiny_config):
    config = tiny_config("gdn", width=32)
    arms = [name for name in table_names() if name not in ("mup_mamba2", "mup_rwkv7")]  # mup_derived, to GDN
    curves = {tuple(train(config, Parametrization(table=name), "adamw")[0]) for name in arms}
    assert len(curves) == len(arms)


@pytest.mark.parametrize(
    ("optimizer", "mode", "decay"),
    [
        ("adamw", "coupled", 0.5),
        ("adamw", "independent", 0.5),
        ("sgd", "coupled", 0.0),
        ("sgd", "coupled", 0.5),
    ],
)
@pytest.mark.parametrize("table", ["mup_gdn", "mup_derived"])
def test_gating_normalization_trains_alike_in_both_forms(table, optimizer, mode, decay, tiny_config):
    # m = 2, so that the factor is no power of two; epsilon out of the way.
    config, ends = tiny_config("gdn", width=32), []
    for form in ("init", "factor"):
        choice = Parametrization(table=table, switches={"gating_normalization": form, "decay_mode": mode})
        ends.append(train(config, choice, optimizer, weight_decay=decay, eps=1e-25, dtype=torch.float64))
    (expected, start), (losses, factor) = ends
    assert losses == pytest.approx(expected, rel=1e-6)
    for block, other in zip(start.blocks, factor.blocks, strict=True):
        for name in ("a_proj", "b_proj"):
            W, w = getattr(block.mixer, name), getattr(other.mixer, name)
            assert W.factor == 1 and w.factor == pytest.approx(2**-0.5)
            # The weights move by far more than this in five steps.
            torch.testing.assert_close(w.factor * w.weight, W.weight, rtol=1e-5, atol=1e-8)


def test_scaling_before_the_norm_is_scaling_its_epsilon():
    """RMSNorm(c o; eps) == RMSNorm(o; eps / c^2), forward and gradient: the multiplier acts through epsilon only."""
    c, eps = 8.0, 1e-2
    rng = torch.Generator().manual_seed(0)
    o, cotangent = torch.randn(2, 5, 16, generator=rng, dtype=torch.float64) * torch.tensor([[[0.01]], [[1.0]]])

    def normalize(factor, epsilon):
        norm, leaf = RMSNorm(16, eps=epsilon).double(), o.clone().requires_grad_()
        torch.nn.init.ones_(norm.weight)
        y = norm(factor * leaf)
        return y, torch.autograd.grad(y, leaf, cotangent)[0]

    for scaled, equivalent, unscaled in zip(normalize(c, eps), normalize(1.0, eps / c**2), normalize(1.0, eps)):
        torch.testing.assert_close(scaled, equivalent, rtol=1e-12, atol=1e-14)
        # With o of size .01, this epsilon matters.
        assert not torch.allclose(scaled, unscaled, rtol=0.1)


def preactivation_slope(table, switches=None):
    """Return the slope of log2 std of the gates' pre-activations over log2 width, at initialization."""
    widths, stds = [64, 128, 256, 512], []
    tokens = torch.randint(256, (4, 64), generator=torch.Generator().manual_seed(0))
    for width in widths:
        seen: list[torch.Tensor] = []
        for seed in range(3):
            choice = Parametrization(table=table, switches=switches or {})
            model = build_decoder(ModelConfig(arch="gdn", width=width, depth=1), choice, seed=seed)
            for gate in (model.blocks[0].mixer.a_proj, model.blocks[0].mixer.b_proj):
                gate.register_forward_hook(lambda module, args, z, seen=seen: seen.append(z))
            with torch.no_grad(), apart():
                model(tokens)
        stds.append(torch.stack(seen).std())
    x, y = torch.tensor(widths).log2(), torch.stack(stds).log2()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize(
    ("table", "switches", "slope"),
    [
        ("sp", {}, 0.5),
        ("sp_fanin", {}, 0.0),
        ("mup_gdn", {}, 0.0),
        ("mup_gdn", {"gating_normalization": "factor"}, 0.0),
        ("mup_gdn", {"gating_normalization": "off"}, 0.5),
        ("mup_derived", {"gate_init": "readout"}, -0.5),
    ],
)
def test_gate_preactivations_over_width(table, switches, slope):
    assert abs(preactivation_slope(table, switches) - slope) <= 0.1
