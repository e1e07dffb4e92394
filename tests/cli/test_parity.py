"""`gdnbench parity` as typed: exit codes, checkpoints, and one clear line for what cannot be."""

import json
import shutil

import pytest
from gdnbench_kernels import requirements

transformers = pytest.importorskip("transformers", reason="parity needs transformers")

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 300}


@pytest.fixture
def llama(tmp_path):
    """Return a function that writes a checkpoint of a Llama of one's own."""

    def save(**changes):
        config = transformers.LlamaConfig(
            **{**SIZES, "num_attention_heads": 4, "num_key_value_heads": 1, "tie_word_embeddings": True, **changes}
        )
        folder = tmp_path / "llama"
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return save


def test_a_table_with_what_was_and_was_not_compared(command):
    ended = command("parity", "--arch", "transformer,mamba2", "--device", "cpu", "--seed", "7")
    assert ended.code == 0
    assert ended.out.count(" same ") == 10
    assert "weights: random, seed 7; backend torch" in ended.out
    assert "not compared: flash-linear-attention Mamba2ForCausalLM: its kernels need an NVIDIA GPU" in ended.out
    assert "2 of 2 peers agree in float32" in ended.out


def test_a_record(command):
    ended = command("parity", "--arch", "transformer", "--device", "cpu", "--dtype", "float64", "--json")
    found = json.loads(ended.out)
    (outcome,) = found["outcomes"]
    assert found["same"] is True
    assert found["environment"]["versions"]["torch"]
    assert found["environment"]["commit"] is None or len(found["environment"]["commit"]) == 40
    assert outcome["what_ran"] == {"transformers": transformers.__version__}
    assert outcome["model"]["options"]["transformer"]["kv_heads"] == 2
    assert {finding["quantity"] for finding in outcome["findings"]} >= {"logits", "gradients", "state"}


def test_an_architecture_that_was_asked_for_and_cannot_be_compared_here(command):
    ended = command("parity", "--arch", "rwkv7", "--device", "cpu")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "RWKV7ForCausalLM: its kernels need an NVIDIA GPU" in ended.err
    ended = command("parity", "--arch", "rwkv7,transformer", "--device", "cpu")
    assert ended.code == 1
    assert "asked for, but not compared: rwkv7" in ended.out


def test_a_checkpoint_of_ones_own(command, llama):
    ended = command("parity", "--from", llama(rms_norm_eps=1e-5), "--device", "cpu")
    assert ended.code == 0
    assert "weights: " in ended.out and "llama; backend torch" in ended.out
    ended = command("parity", "--from", llama(head_dim=32, tie_word_embeddings=False), "--device", "cpu", "--json")
    assert ended.code == 0
    model = json.loads(ended.out)["outcomes"][0]["model"]
    assert (model["width"], model["depth"], model["tied"]) == (64, 3, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "llama: attention_bias is True; ours has no such thing"),
        ({"hidden_act": "gelu"}, "llama: hidden_act is 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rotary positions of type 'linear'; ours are 'default'",
        ),
    ],
)
def test_a_checkpoint_that_ours_cannot_express(changes, message, command, llama):
    ended = command("parity", "--from", llama(**changes), "--device", "cpu")
    assert (ended.code, ended.err.count("\n")) == (2, 2)  # a line of progress, and the error
    assert message in ended.err


def test_a_damaged_checkpoint(command, llama):
    from safetensors.torch import load_file, save_file

    folder = llama()
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    ended = command("parity", "--from", folder, "--device", "cpu")
    assert ended.code == 2
    assert "missing keys for transformers LlamaForCausalLM: model.layers.1.mlp.up_proj.weight" in ended.err
    file.write_bytes(file.read_bytes()[:1000])
    ended = command("parity", "--from", folder, "--device", "cpu")
    assert ended.code == 2
    assert "does not load as transformers LlamaForCausalLM" in ended.err


def test_what_is_no_checkpoint(command, llama, tmp_path):
    ended = command("parity", "--from", tmp_path / "nothing", "--device", "cpu")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "no checkpoint in Hugging Face's format: config.json" in ended.err
    folder = llama()
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "model_type": "gpt2"}))
    ended = command("parity", "--from", folder, "--device", "cpu")
    assert "a checkpoint of type 'gpt2'; there are peers for: gated_deltanet, llama, mamba2" in ended.err
    shutil.rmtree(folder)


def test_a_type_of_two_libraries(command, tmp_path):
    config = transformers.Mamba2Config(
        hidden_size=64, num_hidden_layers=2, num_heads=2, head_dim=64, state_size=16, n_groups=1, vocab_size=300
    )
    transformers.Mamba2ForCausalLM(config).save_pretrained(tmp_path / "mamba")
    ended = command("parity", "--from", tmp_path / "mamba", "--device", "cpu")
    assert ended.code == 2
    assert "type 'mamba2' is of flash-linear-attention, transformers; say which, with --library" in ended.err
    ended = command("parity", "--from", tmp_path / "mamba", "--device", "cpu", "--library", "transformers")
    assert ended.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "lama"], "unknown architecture with a peer 'lama'"),
        (["--dtype", "float16"], "unknown type 'float16'; did you mean"),
        (["--library", "transformer"], "unknown library 'transformer'; did you mean transformers"),
        (["--backend", "magic"], "backend 'magic' does not serve"),
    ],
)
def test_bad_options(arguments, message, command):
    ended = command("parity", "--device", "cpu", "--arch", "transformer", *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_library_that_is_missing(command, monkeypatch):
    monkeypatch.setattr(requirements, "version", lambda distribution: None)
    ended = command("parity", "--arch", "transformer", "--device", "cpu")
    assert ended.code == 2
    assert 'transformers is not installed; pip install "gdnbench[parity]"' in ended.err
