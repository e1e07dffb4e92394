"""Peers do the same work: models of other libraries with the same parameters, trained on the same tokens."""

import importlib.util
import math

import pytest
import torch
from gdnbench_kernels import fla as fla_kernels
from gdnbench_kernels.backends import BackendUnavailable
from gdnbench_kernels.ssd.impl import mamba_ssm

from gdnbench.measure.training.grid import cases, table
from gdnbench.measure.training.peers import PEERS, Peer, fla, hf_llama
from gdnbench.measure.training.peers.trainer import PeerTrainer
from gdnbench.measure.training.stepping import measure
from gdnbench.models.decoder import on_meta
from gdnbench.runs.training_step import OwnTrainer, spec_of

TINY = {"device": "cpu", "width": 192, "depth": 2, "vocab_size": 64, "batch": 2, "seq_len": 32, "steps": 2}


def found(name):
    return importlib.util.find_spec(name) is not None


def case(arch, impl, **sizes):
    (one,) = (c for c in cases(archs=[arch], impls=[impl], **(TINY | sizes)) if c.impl == impl)
    return one


def test_the_table_names_every_peer_and_way_and_nothing_else():
    content = table()
    ways = {name for named in content.ways.values() for name in named}
    assert {impl for entry in content.models for impl in entry.impls} == {*PEERS, *ways}


def test_ours_is_trained_as_the_peers_are():
    spec = spec_of(case("gdn", "gdnbench"))
    assert (spec.optimizer.lr, spec.optimizer.betas, spec.optimizer.clip) == (1e-3, (0.9, 0.95), 1.0)
    assert (spec.schedule.kind, spec.schedule.warmup_steps) == ("constant", 0)


@pytest.mark.skipif(not found("transformers"), reason="transformers is not installed")
def test_hugging_faces_llama_has_the_same_parameters_and_trains(monkeypatch):
    monkeypatch.setitem(PEERS, "hf_llama_compiled", Peer("hf_llama"))
    asked = case("transformer", "hf_llama_compiled")
    trainer = PeerTrainer(asked)
    ours = OwnTrainer(case("transformer", "gdnbench"))
    assert trainer.params_total == ours.params_total
    assert trainer.params_non_embedding == ours.params_non_embedding
    result = measure(trainer, 2, "cpu")
    assert result.trains
    assert result.first_loss == pytest.approx(math.log(64), abs=0.2)
    assert result.what_ran["attention"] == "sdpa"


@pytest.mark.skipif(not found("transformers"), reason="transformers is not installed")
def test_a_llama_is_no_other_architecture():
    assert hf_llama.why_unavailable(case("gdn", "gdnbench").model) == "it has no such architecture"
    native = on_meta(case("mamba2", "fla_eager").model).config
    assert hf_llama.why_unavailable(native) == "it has no such architecture"


@pytest.mark.skipif(torch.cuda.is_available() and found("fla"), reason="flash-linear-attention can run here")
def test_without_its_library_or_a_gpu_a_peer_says_so_and_how_to_get_it():
    with pytest.raises(BackendUnavailable, match=r"(not installed|no NVIDIA GPU).*pip install"):
        PeerTrainer(case("gdn", "fla_eager"))


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"mamba-ssm"}, "would fall back to plain PyTorch, since mamba-ssm is missing: mamba-ssm is not installed"),
        ({"causal-conv1d"}, "calls causal-conv1d, which is not installed"),
    ],
)
def test_flas_mamba2_is_refused_where_it_would_not_be_what_it_says(monkeypatch, lacks, said):
    """No slow stand-in is ever timed under a library's name."""
    monkeypatch.setattr(fla_kernels, "why_unavailable", lambda: None)
    missing = "mamba-ssm is not installed" if "mamba-ssm" in lacks else None
    monkeypatch.setattr(mamba_ssm, "why_unavailable", lambda: missing)
    monkeypatch.setattr(fla.requirements, "version", lambda name: None if name in lacks else "2.3.2")
    reason = fla.why_unavailable(case("mamba2", "fla_eager").model)
    assert said in reason
    assert "pip install" in reason


@pytest.mark.skipif(not found("fla"), reason="flash-linear-attention is not installed")
@pytest.mark.parametrize("arch", ["gdn", "mamba2", "rwkv7"])
@pytest.mark.parametrize("fused_loss", [False, True])
def test_flash_linear_attentions_models_have_the_same_parameters(arch, fused_loss):
    model = case(arch, "fla_eager").model
    built = fla.build(model, fused_loss=fused_loss)
    assert sum(p.numel() for p in built.parameters()) == on_meta(model).parameter_count(embedding=True)
    assert built.config.fuse_linear_cross_entropy == fused_loss
