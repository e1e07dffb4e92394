"""Each mistake gives one line that names it, a non-zero exit code and no traceback."""

import lzma

import pytest
import torch

from tests.runs.tiny import gdnbench, make_books, sweep, write_study


def one_line(ended, *said):
    assert ended.code not in (0, 130), ended
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("gdnbench: ")
    assert "Traceback" not in ended.err + ended.out
    for part in said:
        assert part in line, line
    return line


ARGUMENTS = {
    "command": (["reprodce", "quick"], ["reprodce", "reproduce"]),
    "option": (["plan", "quick", "--device-name", "cpu"], ["--device-name"]),
    "argument missing": (["plan"], ["preset"]),
    "value missing": (["plan", "quick", "--device"], ["--device"]),
    "preset": (["plan", "quik"], ["quik", "quick"]),
    "preset to run": (["reproduce", "quik"], ["quik", "quick"]),
    "preset file": (["reproduce", "none.yaml"], ["none.yaml", "no such file"]),
    "number of workers": (["plan", "quick", "--workers", "0"], ["--workers 0"]),
    "workers that are no number": (["plan", "quick", "--workers", "two"], ["--workers"]),
    "device": (["plan", "quick", "--device", "tpu"], ["tpu", "cpu, cuda"]),
    "device to run on": (["reproduce", "quick", "--device", "tpu"], ["tpu", "cpu, cuda"]),
    "tokenizer": (["plan", "quick", "--tokenizer", "byte"], ["byte", "bytes"]),
    "size of a tokenizer": (["plan", "quick", "--tokenizer", "bpe:many"], ["bpe:many"]),
    "table": (["rules", "mup_gnd"], ["mup_gnd", "mup_gdn"]),
    "architecture": (["rules", "sp", "--arch", "gdm"], ["gdm", "gdn"]),
    "architecture of a check": (["coord-check", "--arch", "gdm"], ["gdm", "gdn"]),
    "widths": (["coord-check", "--widths", "64,wide"], ["--widths", "64,wide"]),
    "width that heads do not divide": (["coord-check", "--widths", "64,65"], ["65", "64"]),
    "no seeds": (["coord-check", "--seeds", "0"], ["seed"]),
    "optimizer": (["coord-check", "--optimizer", "sdg"], ["sdg", "sgd"]),
    "switch": (["rules", "sp", "--switch", "gate"], ["name=choice"]),
    "switch name": (["rules", "mup_gdn", "--switch", "gate_sgd_rul=hidden"], ["gate_sgd_rul", "gate_sgd_rule"]),
    "geometry": (["rules", "sp", "--geometry", "papr"], ["papr", "paper"]),
    "set": (["results", "none"], ["none"]),
    "set of a report": (["report", "none"], ["none"]),
    "page of several sets": (["report", "a", "b"], ["a and b", "--name NAME"]),
    "set of an evaluation": (["evaluate", "run", "--corpus", "stdlib", "--set", "none"], ["none"]),
    "two formats": (["results", "none", "--json", "--csv"], ["--json", "--csv"]),
    "mixer file": (["plan", "quick", "--mixer", "none.py"], ["none.py", "no such file"]),
    "threshold": (["bench", "check", "--threshold", "3"], ["--threshold 3", "3%"]),
    "two parts of a check": (["bench", "check", "--resources-only", "--timings-only"], ["exclude each other"]),
    "shape": (["bench", "check", "--timings-only", "--device", "cpu", "--shapes", "1,2"], ["1,2", "B,T,H,K,V"]),
    "folder of a baseline": (
        ["bench", "check", "--timings-only", "--device", "cpu", "--baseline-path", "none"],
        ["none", "kernels/gdnbench_kernels"],
    ),
    "backend of a bench": (["bench", "decode", "--device", "cpu", "--backend", "tritn"], ["tritn", "triton"]),
    "seed of a bench": (["bench", "train", "--seed", "-1"], ["--seed"]),
    "seconds of a bench": (["bench", "kernels", "--budget-s", "nan"], ["--budget-s", "nan is not 0 or above"]),
    "file of a bench": (["bench", "train", "--json", "."], ["--json", "directory"]),
    "folder that is a file": (["bench", "train", "--results", __file__], ["--results", "file"]),
    "set with a path": (["bench", "kernels", "--device", "cpu", "--set", "../mine"], ["../mine", "name of a folder"]),
    "backend of a check": (
        ["bench", "check", "--timings-only", "--device", "cpu", "--backend", "tritn"],
        ["tritn", "triton"],
    ),
    "changed code": (["reproduce", "quick", "--changed-code", "maybe"], ["maybe"]),
}


@pytest.mark.parametrize(("arguments", "said"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument(command, arguments, said):
    one_line(command(*arguments), *said)


OVERRIDES = {
    "corpus": (["--corpus", "stdlb"], ["stdlb", "stdlib"]),
    "corpus folder": (["--corpus", "text:none"], ["none", "no such folder"]),
    "backend": (["--backend", "tritn"], ["tritn", "torch"]),
}


@pytest.mark.parametrize(("options", "said"), OVERRIDES.values(), ids=OVERRIDES)
def test_an_override(command, tmp_path, books, options, said):
    write_study(tmp_path / "p.yaml", corpus=books)
    one_line(command("reproduce", "p.yaml", "--no-report", "--workers", "1", *options), *said)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(command):
    one_line(command("reproduce", "quick", "--device", "cuda"), "cuda", "no usable NVIDIA GPU")


def test_a_set_is_found_by_its_nearest_name(command, tmp_path):
    (tmp_path / "results" / "quick" / "runs").mkdir(parents=True)
    one_line(command("results", "quik"), "did you mean quick")


MIXERS = {
    "no Mixer": ("x = 1\n", ["one Mixer class"]),
    "does not import": ("import nothing_of_that_name\n", ["nothing_of_that_name"]),
    "no Python": ("class (\n", ["SyntaxError"]),
}


@pytest.mark.parametrize(("source", "said"), MIXERS.values(), ids=MIXERS)
def test_a_mixer_file(command, tmp_path, source, said):
    (tmp_path / "mine.py").write_text(source)
    one_line(command("plan", "quick", "--mixer", "mine.py"), "mine.py" if "import" in source else "mine", *said)


def test_a_mixer_that_has_the_name_of_another(command, tmp_path):
    (tmp_path / "gdn.py").write_text("")
    one_line(command("plan", "quick", "--mixer", "gdn.py"), "gdn", "exists already")


PRESETS = {
    "table": (sweep(arms=[{"name": "G", "arch": "gdn", "table": "mup_gnd"}]), ["mup_gnd", "mup_gdn"]),
    "switch": (
        sweep(arms=[{"name": "G", "arch": "gdn", "table": "mup_gdn", "switches": {"gate_sgd_rul": "hidden"}}]),
        ["gate_sgd_rul", "gate_sgd_rule"],
    ),
    "option": (sweep(model={"options": {"transformer": {"head": 2}}}), ["options.transformer.head", "heads"]),
    "width": (sweep(widths=[21]), ["21"]),
    "key": (sweep(sedes=[0]), ["sedes", "seeds"]),
}


@pytest.mark.parametrize(("experiment", "said"), PRESETS.values(), ids=PRESETS)
def test_a_preset_is_refused_by_plan_already(command, tmp_path, experiment, said):
    write_study(tmp_path / "mine.yaml", experiment)
    one_line(command("plan", "mine.yaml"), *said)


def short(folder):
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("short")


def not_utf8(folder):
    make_books(folder)
    (folder / "train.txt").write_bytes(b"caf\xe9 " * 100)


def damaged_archive(folder):
    make_books(folder)
    (folder / "train.txt").unlink()
    (folder / "train.txt.xz").write_bytes(lzma.compress(b"text " * 100)[:-20])


def blank(folder):
    make_books(folder)
    (folder / "train.txt").write_text("\n\n")


CORPORA = {
    "empty folder": (lambda folder: None, ["train"]),
    "no valid split": (lambda folder: (folder / "train.txt").write_text("x" * 999), ["valid"]),
    "blank file": (blank, ["empty"]),
    "too small": (short, ["tokens"]),
    "not UTF-8": (not_utf8, ["train.txt", "UTF-8", "byte 3"]),
    "damaged archive": (damaged_archive, ["train.txt.xz"]),
}


@pytest.mark.parametrize(("write", "said"), CORPORA.values(), ids=CORPORA)
def test_a_text_that_cannot_be_read(command, tmp_path, write, said):
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder)
    write_study(tmp_path / "p.yaml", corpus=f"text:{folder}")
    one_line(command("reproduce", "p.yaml", "--no-report", "--workers", "1"), *said)


def test_a_model_too_small_for_its_tokenizer(command, tmp_path, books):
    write_study(tmp_path / "p.yaml", corpus=books, model={"vocab_size": 100})
    one_line(command("reproduce", "p.yaml", "--no-report", "--workers", "1"), "100", "256", "vocab_size")


def test_results_that_cannot_be_written(command, tmp_path, books):
    write_study(tmp_path / "p.yaml", corpus=books)
    (tmp_path / "file").write_text("")
    one_line(command("reproduce", "p.yaml", "--no-report", "--results", "file"), "file")


def test_a_mistake_as_a_process_of_its_own(tmp_path):
    done = gdnbench("reproduce", "quik", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gdnbench: unknown preset 'quik'; did you mean quick")
    assert done.stderr.count("\n") == 1
