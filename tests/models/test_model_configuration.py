"""Dimensions by width and geometry, hybrid patterns, and the errors that say what would work."""

import re

import pytest

from gdnbench.errors import GdnbenchError
from gdnbench.models import ModelConfig
from gdnbench.models.decoder import on_meta
from gdnbench.models.pattern import layer_mixers

UNEVEN = [
    ("gdn", "paper", 65),
    ("gdn", "paper", 7),
    ("gdn", "fixed_head", 65),
    ("mamba2", "fixed_head", 65),
    ("rwkv7", "paper", 65),
    ("rwkv7", "fixed_head", 70),
    ("transformer", "fixed_head", 70),
    # 66 makes whole heads, but no whole MLP.
    ("mamba2", "paper", 65),
    # 68 makes heads of 17, which rotary positions cannot halve; and for 68 itself no width is named.
    ("transformer", "paper", 66),
    ("transformer", "paper", 68),
]


@pytest.mark.parametrize(("arch", "geometry", "width"), UNEVEN)
def test_a_width_that_does_not_divide_names_one_that_does(arch, geometry, width):
    with pytest.raises(GdnbenchError, match=f"width {width}") as error:
        on_meta(ModelConfig(arch=arch, geometry=geometry, width=width))
    named = re.findall(r"\d+", str(error.value).partition("that work: ")[2])
    assert named
    for works in named:
        on_meta(ModelConfig(arch=arch, geometry=geometry, width=int(works)))


def test_geometry_grows_head_dims_or_heads():
    paper = on_meta(ModelConfig(arch="gdn", width=256)).blocks[0].mixer
    fixed = on_meta(ModelConfig(arch="gdn", width=256, geometry="fixed_head")).blocks[0].mixer
    # 6 heads of d / 8 and d / 4 at the base width of 64.
    assert (paper.heads, paper.key_dim, paper.value_dim) == (6, 32, 64)
    assert (fixed.heads, fixed.key_dim, fixed.value_dim) == (24, 8, 16)
    assert paper.parameter_count() - fixed.parameter_count() == 2 * 256 * (6 - 24) + 2 * (6 - 24) + (64 - 16)


@pytest.mark.parametrize(("width", "hidden"), [(256, 768), (512, 1536), (1024, 2816), (1536, 4096)])
def test_the_papers_mlp_width(width, hidden):
    # The released code's 8d / 3, rounded up to a multiple of 256: a ratio that changes with the width.
    assert ModelConfig(arch="gdn", width=width, mlp_rule="paper").mlp_width_of(0) == hidden


@pytest.mark.parametrize("width", [64, 128, 320, 1024])
def test_the_mlp_ratio_is_the_same_at_every_width(width):
    assert ModelConfig(arch="gdn", width=width).mlp_width_of(0) * 64 == width * 176


@pytest.mark.parametrize(
    ("pattern", "depth", "expected"),
    [
        ("gdn transformer", 5, "gdn transformer gdn transformer gdn"),
        ("gdn:0.8 transformer:0.2", 5, "gdn gdn gdn gdn transformer"),
        ("gdn:0.5 mamba2:0.25 gdn:0.25", 4, "gdn gdn mamba2 gdn"),
    ],
)
def test_hybrid_patterns(pattern, depth, expected):
    config = ModelConfig(arch="hybrid", width=64, depth=depth, pattern=pattern)
    assert layer_mixers(config) == expected.split()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "hybrid"}, "model.pattern"),
        ({"arch": "gdn", "pattern": "gdn"}, "model.pattern"),
        ({"arch": "hybrid", "pattern": "gdn:0.5 transformer:0.4"}, r"add up to 0.9, not 1"),
        ({"arch": "hybrid", "pattern": "gdn:half transformer:0.5"}, r"'gdn:half' is not name:share"),
        (
            {"arch": "hybrid", "pattern": "gdn transfomer"},
            r"unknown architecture 'transfomer'; did you mean transformer",
        ),
        ({"arch": "mamba"}, r"unknown architecture 'mamba'; did you mean mamba2"),
        ({"arch": "gdn", "width": 0}, "model.width: expected a positive number, got 0"),
        ({"arch": "gdn", "options": {"gdn": {"head": 4}}}, r"model.options.gdn.head: unknown key; did you mean heads"),
        ({"arch": "gdn", "options": {"gdn": {"value_heads": 7}}}, "7 value_heads are no multiple of 6 heads"),
        ({"arch": "transformer", "options": {"transformer": {"kv_heads": 3}}}, "4 heads are no multiple of 3 kv_heads"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(GdnbenchError, match=message):
        on_meta(ModelConfig(**{"width": 64, **settings}))


def test_options_of_no_mixer_are_an_error():
    with pytest.raises(GdnbenchError, match="gnd"):
        on_meta(ModelConfig(arch="gdn", width=64, options={"gnd": {"heads": 3}}))
