"""Tasks of lm-eval on a trained model: records, the report, our own numbers, the stock command, and mistakes."""

import json
import sys

import pytest

from gdnbench import cli
from gdnbench.errors import GdnbenchError
from gdnbench.lm_eval import __main__ as stock
from gdnbench.lm_eval import tasks
from gdnbench.lm_eval.evaluating import Asked, evaluate
from gdnbench.report.study import read_study
from gdnbench.report.tables.lm_eval import harness_table
from gdnbench.results import Store
from gdnbench.runs.evaluation import evaluate_run


@pytest.fixture
def ask(trained, own_tasks, monkeypatch):
    """Return a function that evaluates the model by tasks of the folder."""
    root, run_id = trained

    def evaluated(*names, **settings):
        model = {"results": str(root), **settings.pop("model", {})}
        return evaluate(Asked(run=f"tiny/{run_id}", names=names, include_path=own_tasks, model=model, **settings))

    return evaluated


def test_wikitext_by_the_harness_is_our_own_word_perplexity(ask, trained, wiki):
    (record,) = ask("local_wikitext", model={"dtype": "float32", "batch_size": 2}).records
    root, run_id = trained
    ours = evaluate_run(
        root, "tiny", run_id, corpus=f"wikitext-103-raw:{wiki}", metric="lmeval_word_ppl", split="test", window=None,
        stride=None, carry_state=False, out_of_domain=False, max_tokens=None,
    )  # fmt: skip
    assert record.data["window"] == ours.data["window"] == 16
    assert record.metric("word_perplexity") == pytest.approx(ours.metric("lmeval_word_ppl"), rel=1e-3)
    assert record.flat()["word_perplexity"] == record.metric("word_perplexity"), "exports keep it"
    assert record.metric("bits_per_byte") == pytest.approx(ours.metric("bits_per_byte"), rel=1e-3)


def test_a_record_of_each_task_is_stored_beside_the_run_and_shown(ask, trained):
    root, run_id = trained
    outcome = ask("local_*", limit=3)
    assert {record.data["task"] for record in outcome.records} == {"local_wikitext", "local_choice", "local_generation"}
    (failed,) = outcome.failed
    assert failed.startswith("local_missing: ")
    assert "nowhere.jsonl" in failed, "what could not be had, and the others were evaluated"
    store = Store(root, "tiny")
    read = {record.data["task"]: record for record in (store.read(one.run_id) for one in outcome.records)}
    choice = read["local_choice"]
    assert choice.kind == "lm_eval"
    assert choice.data["version"] == 1.5
    assert choice.data["harness"].startswith("lm_eval 0.4.")
    assert (choice.data["examples"], choice.data["requests"], choice.data["limit"]) == (3, 9, 3)
    assert 0 <= choice.metric("acc") <= 1
    assert choice.metric("acc_stderr") is not None
    assert choice.flat()["task"] == "local_choice"
    assert read["local_generation"].data["requests"] == 3
    study = read_study(store)
    assert run_id in {record.run_id for record in study.records}
    assert not any(record.kind == "lm_eval" for record in study.records), "they are no runs of the study"
    table = harness_table(study)
    shown = {(row.cells[3].text, row.cells[6].text) for row in table.rows}
    assert {("local_choice", "acc"), ("local_choice", "acc_norm"), ("local_wikitext", "word_perplexity")} <= shown


def test_a_task_that_is_not_there_gives_the_nearest_names(ask):
    with pytest.raises(GdnbenchError, match="unknown lm-eval task 'local_wikitxt'; did you mean local_wikitext"):
        ask("local_choice", "local_wikitxt")
    with pytest.raises(GdnbenchError, match="at least one task"):
        ask()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(GdnbenchError, match="no such folder"):
        tasks.manager(["wikitext"], tmp_path / "none")


def run(monkeypatch, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["lm_eval", *map(str, arguments)])
    main()


def test_the_stock_command(trained, own_tasks, monkeypatch, capsys, tmp_path):
    root, run_id = trained
    run(
        monkeypatch, stock.main,
        *("--model", "gdnbench", "--model_args", f"checkpoint={root}/tiny/runs/{run_id},dtype=float32,max_length=12"),
        *("--tasks", "local_choice", "--include_path", own_tasks, "--output_path", tmp_path, "--device", "cpu"),
    )  # fmt: skip
    assert "local_choice" in capsys.readouterr().out
    (written,) = tmp_path.rglob("results_*.json")
    found = json.loads(written.read_text())
    assert found["results"]["local_choice"]["acc,none"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found["config"]["max_length"] == 12


def test_the_stock_command_names_what_is_near(trained, own_tasks, monkeypatch, capsys):
    root, run_id = trained
    with pytest.raises(SystemExit) as ended:
        run(
            monkeypatch, stock.main,
            *("--model", "gdnbench", "--model_args", f"checkpoint={root}/tiny/runs/{run_id}"),
            *("--tasks", "local_choise", "--include_path", own_tasks, "--device", "cpu"),
        )  # fmt: skip
    assert ended.value.code == 2
    assert "did you mean local_choice" in capsys.readouterr().err.splitlines()[-1]


def test_our_command_prints_the_records_and_fails_for_a_task_that_did(trained, own_tasks, monkeypatch, capsys):
    root, run_id = trained
    arguments = ["eval", run_id, "--set", "tiny", "--results", root, "--include-path", own_tasks, "--limit", "2"]
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, cli.main, *arguments, "--tasks", "local_choice,local_missing")
    out, err = capsys.readouterr()
    assert [row["task"] for row in json.loads(out[out.index("[\n") :])] == ["local_choice"]
    assert ended.value.code == 2
    assert "1 of the tasks failed: local_missing: " in err
