"""The table of configurations: every shape finds its entry, a search changes only what it searched."""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need triton")

from gdnbench_kernels.gated_delta.gpu import choice, configurations, tuning
from gdnbench_kernels.gated_delta.gpu.layout import Layout
from gdnbench_kernels.launching import recorded


def layout(key_dim, value_dim):
    q, v = (torch.empty(2, 64, 3, dim, device="meta") for dim in (key_dim, value_dim))
    return Layout.of(q, v, None)


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("kernel", tuning.KERNELS)
@pytest.mark.parametrize("key_dim", [16, 40, 96, 128])
def test_every_head_dim_finds_an_entry(arch, kernel, key_dim):
    with recorded(arch):
        chosen = configurations.configuration(kernel, torch.device("meta"), layout(key_dim, 64))
    assert chosen["num_warps"] in (1, 2, 4, 8)


def test_an_entry_for_the_architecture_goes_before_one_for_all(monkeypatch):
    entries = [
        {"kernel": "scan", "key_dim": 64, "config": {"VB": 64}},
        {"kernel": "scan", "arch": 90, "key_dim": 128, "config": {"VB": 128}},
    ]
    monkeypatch.setattr(configurations, "table", lambda: entries)
    configurations._choose.cache_clear()
    try:
        for arch, width in ((80, 64), (90, 128)):
            with recorded(arch):
                found = configurations.configuration("scan", torch.device("meta"), layout(64, 64))
            assert found["VB"] == width
    finally:
        configurations._choose.cache_clear()


def test_a_forced_configuration_is_used_inside_only():
    with recorded(80):
        with configurations.forced("scan", {"VB": 32}):
            inside = configurations.configuration("scan", torch.device("meta"), layout(128, 128))
        outside = configurations.configuration("scan", torch.device("meta"), layout(128, 128))
    assert inside == {"VB": 32}
    assert outside != inside


def test_merging_replaces_the_same_class_and_keeps_the_rest():
    old = [
        {"kernel": "scan", "key_dim": 128, "config": {"VB": 64}},
        {"kernel": "scan", "arch": 90, "key_dim": 128, "config": {"VB": 32}},
    ]
    new = [{"kernel": "scan", "arch": 90, "key_dim": 128, "config": {"VB": 128}}]
    assert tuning.merged(old, new) == [old[0], new[0]]
    assert tuning.as_text(old).count("\n") == 4


def test_plain_kernels_run_only_inside():
    shape = (1, 64, 1, 64, 64)
    names = {}
    for where in ("Gluon", "plain"):
        with choice.plain() if where == "plain" else recorded(90):
            names[where] = {launch.kernel.module for launch in tuning.launches(shape, "meta", 90)}
    assert any("hopper" in name for name in names["Gluon"])
    assert not any("hopper" in name for name in names["plain"])


def test_no_tile_under_64_columns_where_wgmma_would_take_it():
    """Triton 3.6 addresses such tiles wrongly on Hopper: `scan` with VB 32 and 4 warps faulted on an H200."""
    for entry in configurations.table():
        config = entry["config"]
        if entry["kernel"] in ("scan", "reverse", "gradients") and entry.get("arch") != 80:
            assert config["VB"] >= 64 or config["num_warps"] < 4, entry


def test_on_a_hopper_only_what_its_copy_engine_cannot_follow_is_copied():
    whole = torch.empty(2, 64, 3, 72, dtype=torch.bfloat16, device="meta")
    strided, odd = whole[..., :64], torch.empty(2, 64, 3, 65, dtype=torch.bfloat16, device="meta")[..., :64]
    with recorded(90):
        kept, copied, expanded = choice.movable(strided, odd, whole[:, :1].expand(2, 64, 3, 72))
    assert kept is strided
    assert copied.is_contiguous()
    assert expanded.is_contiguous()
    with recorded(80):
        assert choice.movable(odd)[0] is odd
