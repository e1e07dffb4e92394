"""`gdnbench generate` for a person: text on stdout, a line on stderr, a state that another process goes on from."""

import io
import json
import shutil

import pytest

from gdnbench.results import Store
from gdnbench.runs import checkpoint
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from gdnbench.runs.trained import load_model
from tests.runs.tiny import gdnbench, specs, sweep


@pytest.fixture(scope="module")
def run(tmp_path_factory, books):
    """A trained model: its folder."""
    root = tmp_path_factory.mktemp("results")
    arms = [{"name": "G", "arch": "gdn"}]
    training = {"keep_checkpoint": True, "steps": 40}
    (spec,) = specs(books, sweep(arms=arms), training=training)
    execute(spec, Store(root, "tiny"), Observer())
    return Store(root, "tiny").run_folder(spec.run_id)


def test_text_streams_and_another_process_goes_on(run, tmp_path, command):
    whole = command("generate", run, "--prompt", "to be or é", "--max-tokens", "30", "--save-state", "unused")
    assert whole.code == 0
    begun = gdnbench(
        "generate", run / "checkpoint.pt", "--prompt", "to be or é", "--max-tokens", 18,
        "--save-state", tmp_path / "state", cwd=tmp_path,
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr
    more = command(
        "generate", f"tiny/{run.name}", "--results", run.parents[2], "--load-state", "state", "--max-tokens", "12"
    )
    assert begun.stdout.removesuffix("\n") + more.out == whole.out
    (line,) = whole.err.splitlines()
    assert all(said in line for said in ("30 tokens", "tokens/s", "weights", "state", "workspace"))


def test_json_has_tokens_text_speed_and_memory(run, command):
    how = ["--temperature", "1.5", "--top-k", "5", "--top-p", "0.9", "--seed", "3", "--json", "--max-tokens", "20"]
    found = [command("generate", run, "--prompt", "to be", "--prompt", "the question", *how).out for _ in "ab"]
    first, second = map(json.loads, found)
    assert first["continuations"] == second["continuations"]
    assert first["sampling"] == {"method": "sampling", "temperature": 1.5, "top_k": 5, "top_p": 0.9, "seed": 3}
    for one in first["continuations"]:
        assert one["finished"] in ("length", "stop")
        assert bytes(token for token in one["tokens"] if token).decode(errors="replace") == one["text"]
    assert first["tokens_per_s"] > 0
    assert first["state_bytes"] > 0
    assert {"gated_delta", "gated_delta_decode", "fused_linear", "next_token"} <= first["backends"].keys()


def test_text_ends_before_a_stop_text(run, command, tmp_path):
    (tmp_path / "prompt").write_text("to be or", encoding="utf-8")
    arguments = ["generate", run, "--prompt-file", "prompt", "--max-tokens", "40"]
    whole = command(*arguments).out.removesuffix("\n")
    stop = whole[5:8]
    assert command(*arguments, "--stop", stop).out == whole[: whole.index(stop)] + "\n"


def test_a_saved_state_holds_what_was_said(run, command):
    """The first text ends long before the second, which is shorter; both go on where they ended, in their order."""
    prompts = ["--prompt", "to be or not", "--prompt", "a"]
    how = ["--top-k", "5", "--seed", "1", "--json", "--max-tokens"]

    def tokens(*arguments):
        continuations = json.loads(command("generate", run, *arguments).out)["continuations"]
        return [one["tokens"] for one in continuations]

    whole = tokens(*prompts, *how, "40")
    stop = bytes(whole[0][2:4]).decode()
    begun = tokens(*prompts, *how, "20", "--stop", stop, "--save-state", "cut")
    assert len(begun[0]) < len(begun[1])
    more = tokens("--load-state", "cut", *how, "15")
    assert [one + two for one, two in zip(begun, more, strict=True)] == [
        one[: len(two) + 15] for one, two in zip(whole, begun, strict=True)
    ]


def test_a_prompt_from_standard_input(run, command, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("to be or"))
    given = command("generate", run, "--prompt-file", "-", "--max-tokens", "9")
    assert given.out == command("generate", run, "--prompt", "to be or", "--max-tokens", "9").out


def test_one_checkpoint_on_another_backend(run, command):
    arguments = ["generate", run, "--prompt", "to be", "--max-tokens", "12"]
    assert command(*arguments, "--backend", "reference").out == command(*arguments).out
    assert load_model(str(run), backend="reference").backends()["gated_delta"] == "reference"


MISTAKES = {
    "an empty prompt": (["--prompt", ""], "prompt 0: it is empty"),
    "no prompt": ([], "either a prompt or a state"),
    "a prompt and a state": (["--prompt", "a", "--load-state", "s"], "either a prompt or a state"),
    "a file that is not there": (["--prompt-file", "none.txt"], "none.txt: not readable"),
    "a state that is not there": (["--load-state", "none"], "none: no such file"),
    "a folder for a state": (["--prompt", "a", "--save-state", "."], ".: a folder"),
    "a prompt that is no text": (["--prompt", "a\udcff"], "prompt 0: not readable as text"),
    "a graph on a CPU": (["--prompt", "a", "--graph"], "a CUDA graph was asked for on cpu"),
    "a probability beside no temperature": (["--prompt", "a", "--temperature", "0", "--top-p", "2"], "top-p 2"),
    "a probability": (["--prompt", "a", "--top-p", "2"], "top-p 2"),
    "a type": (["--prompt", "a", "--dtype", "float8"], "float8"),
    "a backend": (["--prompt", "a", "--backend", "tritn"], "tritn"),
    "a device": (["--prompt", "a", "--device", "tpu"], "unknown device 'tpu'"),
    "a context beyond memory": (["--prompt", "a", "--max-tokens", str(10**13)], "would fit: capacity"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(arguments, said, run, command):
    ended = command("generate", run, *arguments)
    assert ended.code == 2
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("where", "said"),
    [("nothing", "no such file or folder"), ("tiny/none", "no finished run 'none'"), (".", "a run's")],
)
def test_a_run_that_is_not_there(where, said, run, command):
    ended = command("generate", where, "--results", run.parents[2], "--prompt", "a")
    assert ended.code == 2
    assert said in ended.err


def test_a_checkpoint_of_another_shape(run, command, tmp_path):
    other = tmp_path / "results/tiny/runs" / run.name
    shutil.copytree(run, other)
    saved = checkpoint.load(other / "checkpoint.pt")
    saved["model"]["embedding.weight"] = saved["model"]["embedding.weight"][:9]
    checkpoint.save(other / "checkpoint.pt", saved)
    ended = command("generate", other, "--prompt", "a")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert "does not fit this version of gdn" in line
