"""The coordinate check: what it records, and that it tells a parametrization that transfers from one that does not."""

import contextlib
import math
from functools import partial

import pytest
import torch

from gdnbench.measure.coordinates import activations, check
from gdnbench.models import ModelConfig, Parametrization, build_decoder
from gdnbench.models.parametrization import parameter_groups

OPTIONS = {
    "gdn": {"heads": 2},
    "transformer": {"heads": 2},
    "mamba2": {"state_dim": 8, "head_dim": 8},
    "rwkv7": {"head_dim": 8, "decay_rank": 4, "rate_rank": 4, "value_rank": 4, "gate_rank": 4},
}


def decoder(arch="gdn", table="sp", *, width=32, seed=0, base_width=32):
    config = ModelConfig(
        arch=arch,
        width=width,
        base_width=base_width,
        depth=2,
        vocab_size=64,
        geometry="paper" if arch in ("gdn", "transformer") else "fixed_head",
        init_std=0.04,
        embedding_std=0.1,
        options={arch: OPTIONS[arch]},
    )
    return build_decoder(config, Parametrization(table=table), seed=seed)


def tokens(seed=0, batch=4, length=33):
    return torch.randint(64, (batch, length), generator=torch.Generator().manual_seed(seed))


def checked(model, after_steps=(1, 4), lr=2.0**-7, seed=0):
    groups = parameter_groups(model, model.rules, "adamw", lr=lr, weight_decay=0.0, eps=1e-8)
    for group in groups:
        group["lr"] = lr * group["lr_factor"]
    return check(model, tokens(seed), torch.optim.AdamW(groups, betas=(0.9, 0.95)), after_steps)


@pytest.mark.parametrize("arch", OPTIONS)
def test_a_row_for_every_site_at_every_time(arch):
    rows = checked(decoder(arch))
    sites = {row["site"] for row in rows}
    assert {(row["site"], row["after_steps"]) for row in rows} == {(site, n) for site in sites for n in (0, 1, 4)}
    assert len(rows) == 3 * len(sites)
    assert {"embedding", "blocks.0.mixer", "blocks.1.feedforward", "blocks.1", "norm", "logits"} <= sites
    for row in rows:
        assert math.isfinite(row["rms"])
        assert ("update_rms" in row) == (row["after_steps"] > 0)


def test_every_projection_of_a_mixer_is_a_site():
    model = decoder("gdn")
    sites = set(activations(model, tokens()[:, :-1]))
    for name, module in model.named_modules():
        if type(module).__name__ == "Projection":
            assert name in sites, name
    for probe in ("alpha", "beta", "o_norm.in"):
        assert f"blocks.0.mixer.{probe}" in sites


def test_probes_are_the_gates():
    found = activations(decoder("gdn"), tokens()[:, :-1])
    for gate in ("alpha", "beta"):
        values = found[f"blocks.0.mixer.{gate}"]
        assert ((values > 0) & (values < 1)).all()


def test_sizes_at_the_start_are_those_of_the_model():
    model = decoder("gdn")
    rows = {row["site"]: row["rms"] for row in checked(decoder("gdn")) if row["after_steps"] == 0}
    with torch.no_grad():
        logits, _ = model(tokens()[:, :-1])
        x = model.embedding(tokens()[:, :-1])
    assert rows["logits"] == pytest.approx(logits.double().square().mean().sqrt().item())
    assert rows["embedding"] == pytest.approx(x.double().square().mean().sqrt().item())


def test_an_update_is_the_difference_to_the_start():
    """With a learning rate of zero nothing moves; with one that is not, everything that has weights does."""
    still = checked(decoder("gdn"), lr=0.0)
    assert {row["update_rms"] for row in still if row["after_steps"]} == {0.0}
    moved = checked(decoder("gdn"))
    assert all(row["update_rms"] > 0 for row in moved if row["after_steps"] == 4)


def test_the_batch_is_repeated_so_that_sizes_compare():
    rows = checked(decoder("gdn"), after_steps=(1, 2, 3, 4, 5, 6), lr=2.0**-6)
    updates = [row["update_rms"] for row in rows if row["site"] == "logits" and row["after_steps"]]
    assert updates == sorted(updates)


def test_hooks_are_gone_afterwards():
    model = decoder("gdn")
    activations(model, tokens()[:, :-1])
    assert not any(module._forward_hooks for module in model.modules())


def slope(table, site, after_steps, key, widths=(32, 64, 128), seeds=(0, 1)):
    """The slope of log2 size over log2 width, the mean over seeds."""
    found = []
    for seed in seeds:
        sizes = []
        for width in widths:
            rows = checked(decoder("gdn", table, width=width, seed=seed), seed=seed)
            (row,) = [row for row in rows if (row["site"], row["after_steps"]) == (site, after_steps)]
            sizes.append(math.log2(row[key]))
        found.append((sizes[-1] - sizes[0]) / math.log2(widths[-1] / widths[0]))
    return sum(found) / len(found)


@pytest.mark.parametrize(("site", "key"), [("blocks.1", "update_rms"), ("blocks.1", "rms")])
def test_standard_parametrization_grows_and_the_derived_one_is_flat(site, key):
    grows, flat = slope("sp", site, 4, key), slope("mup_derived", site, 4, key)
    assert grows > 0.3
    assert abs(flat) < 0.25


def test_at_the_base_width_all_tables_are_the_same():
    assert checked(decoder("gdn", "sp")) == checked(decoder("gdn", "mup_derived")) == checked(decoder("gdn", "mup_gdn"))


def test_a_check_under_autocast_is_near_one_without():
    """Weights and updates stay float32; products round to 8 bits."""

    def sizes(forward):
        model = decoder()
        groups = parameter_groups(model, model.rules, "adamw", lr=2.0**-7, weight_decay=0.0, eps=1e-8)
        rows = check(model, tokens(), torch.optim.AdamW(groups), (1,), forward=forward)
        return {(row["site"], row["after_steps"]): row["rms"] for row in rows}

    exact, rounded = sizes(contextlib.nullcontext), sizes(partial(torch.autocast, "cpu", dtype=torch.bfloat16))
    assert exact.keys() == rounded.keys() and exact != rounded
    for site, size in exact.items():
        assert rounded[site] == pytest.approx(size, rel=0.03), site
