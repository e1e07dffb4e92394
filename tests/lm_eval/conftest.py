"""A trained model, tasks in lm-eval's own YAML over local files, and the harness without what takes long."""

import functools
import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

import lm_eval
from lm_eval import evaluator, tasks

from gdnbench.evaluate.wikitext_counts import lmeval_pages
from gdnbench.lm_eval import tasks as bridge
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer
from tests.runs.tiny import specs

PAGES = " \n = One = \n \n The rare word . \n \n = Two = \n \n It is a well @-@ known rare thing , or ( so it is ) . \n"
QUESTIONS = [
    {
        "question": "to be or not to" + " be" * count,
        "choices": [" be", " question", " whether that is"],
        "gold": count % 3,
    }
    for count in range(4)
]


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Leave out the index of 14,000 tasks and the description of the machine; let nothing ask the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    own = functools.partial(tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(tasks, "TaskManager", own)
    monkeypatch.setattr(bridge, "TaskManager", own)
    monkeypatch.setattr(evaluator, "add_env_info", lambda storage: None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, books):
    """A run with its checkpoint, as (folder of the sets, id); its window is 16 bytes."""
    root = tmp_path_factory.mktemp("results")
    arm = {"name": "G", "arch": "gdn"}
    (spec,) = specs(
        books,
        {"name": "sweep", "kind": "lr_sweep", "widths": [16], "log2_lrs": [-6], "arms": [arm]},
        training={"keep_checkpoint": True, "steps": 40},
    )
    execute(spec, Store(root, "tiny"), Observer())
    return root, spec.run_id


@pytest.fixture(scope="session")
def wiki(tmp_path_factory):
    """The pages as WikiText's raw test split."""
    folder = tmp_path_factory.mktemp("wiki")
    (folder / "wiki.test.raw").write_text(PAGES, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def own_tasks(tmp_path_factory) -> Path:
    """A folder of tasks: the harness's own wikitext on local pages, choices, generation, and one without its data."""
    folder = tmp_path_factory.mktemp("tasks")
    own = Path(lm_eval.__file__).parent / "tasks" / "wikitext" / "wikitext.yaml"
    write_lines(folder / "pages.jsonl", [{"page": page} for page in lmeval_pages(PAGES)])
    write_lines(folder / "questions.jsonl", QUESTIONS)
    shared = "dataset_path: json\ntest_split: test\n"
    data = "dataset_kwargs: {data_files: {test: %s}}\n"
    (folder / "local_wikitext.yaml").write_text(
        f"include: {own}\ntask: local_wikitext\n{shared}{data % (folder / 'pages.jsonl')}"
        "dataset_name: null\ntraining_split: null\nvalidation_split: null\n"
    )
    questions = shared + data % (folder / "questions.jsonl")
    (folder / "local_choice.yaml").write_text(
        f"task: local_choice\n{questions}output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{gold}}"\n'
        "metric_list: [{metric: acc}, {metric: acc_norm}]\nmetadata: {version: 1.5}\n"
    )
    (folder / "local_generation.yaml").write_text(
        f"task: local_generation\n{questions}output_type: generate_until\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{choices[0]}}"\n'
        'generation_kwargs: {until: [" the"], max_gen_toks: 5, do_sample: false}\n'
        "metric_list: [{metric: exact_match}]\nmetadata: {version: 1.0}\n"
    )
    (folder / "local_missing.yaml").write_text(
        f"task: local_missing\n{shared}{data % (folder / 'nowhere.jsonl')}output_type: loglikelihood_rolling\n"
        'doc_to_text: ""\ndoc_to_target: "{{page}}"\nmetric_list: [{metric: bits_per_byte}]\n'
    )
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
