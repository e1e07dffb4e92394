"""Tasks in the report: every arm at every width at its best rate, differences paired by seed, reasons for gaps."""

import pytest

from gdnbench.configuration import from_mapping, to_mapping
from gdnbench.presets.schema import Arm, Experiment, Match, Preset, Vary
from gdnbench.report import numbers
from gdnbench.report.analysis import analyse
from gdnbench.report.content import Bullets, Figures, Table, Text
from gdnbench.report.page import build_page
from gdnbench.report.sections.tasks import tasks
from gdnbench.report.study import Study
from gdnbench.results import Store

SEEDS = (0, 1, 2)
STATES = {64: 10_000.0, 128: 40_000.0}


@pytest.fixture(scope="module")
def builder(synthetic, tmp_path_factory):
    """Planted accuracies: recall grows with the state; negative eigenvalues answer beyond the training length."""
    synthetic.ARMS |= {"GDN": ("gdn", "sp"), "GDN, neg": ("gdn", "sp"), "T": ("transformer", "sp")}
    made = synthetic.Builder(tmp_path_factory.mktemp("tasks"), "tasks")
    for arm, lost in (("GDN", 0.0), ("T", 0.5)):
        for width, state in STATES.items():
            for seed in SEEDS:
                for rate, loss in ((-8.0, 0.5), (-7.0, 0.2)):
                    metrics = {f"accuracy_pairs_{p}": 1.0 - lost * p / 16 - 0.01 * seed for p in (4, 16)}
                    run(made, "recall", "task:mqar", arm, width, seed, rate, loss, state, metrics)
    for arm, beyond in (("GDN", 0.5), ("GDN, neg", 0.99)):
        for seed in SEEDS:
            metrics = {"accuracy_at_16": 1.0, "accuracy_at_64": beyond + 0.001 * seed}
            run(made, "parity", "task:parity", arm, 64, seed, -7.0, 0.1, 10_000.0, metrics)
    for seed in SEEDS:
        bins = [(1, 1), (2, 4), (5, 64), (65, 256)]
        rows = [{"type": "position", "split": "test", "first": a, "last": b, "loss": 3.0, "tokens": 9} for a, b in bins]
        run(made, "length", "stdlib", "T", 64, seed, -7.0, 2.0, 1e4, {"loss_at_64": 2.0, "loss_at_256": 3.0}, rows)
    return made


def run(made, experiment, corpus, arm, width, seed, rate, loss, state, values, rows=()):
    spec = made.spec(experiment, arm, width, seed, rate)
    spec["training"] = {"steps": 10, "seconds": None, "batch_size": 2, "seq_len": 64 if corpus == "stdlib" else 16}
    spec["data"] = {"corpus": corpus, "tokenizer": "none"}
    spec["model"]["vocab_size"] = 2
    metrics = {"val_loss": (loss, "nat/answer"), "state_bytes": (state, "byte/sequence"), "train_flops": (1e9, "FLOP")}
    metrics |= {name: (value, "right/answer") for name, value in values.items()}
    metrics |= {"params_non_embedding": (5e4, "parameter")}
    if experiment == "recall":
        metrics["match_deviation"] = (0.0 if arm == "GDN" else -0.05, "relative")
    made.write("train", spec, metrics, list(rows))


@pytest.fixture(scope="module")
def study(builder):
    gdn, transformer = Arm(name="GDN", arch="gdn"), Arm(name="T", arch="transformer", vary=Vary(option="a.b"))
    late = Arm(name="Late", arch="rwkv7")
    same = Match(by="state_bytes", reference="GDN", tolerance=0.1)
    experiments = (
        Experiment(name="recall", kind="task", arms=(gdn, transformer, late), widths=(64, 128), match=same),
        Experiment(name="parity", kind="task", arms=(gdn, Arm(name="GDN, neg", arch="gdn")), widths=(64,)),
        Experiment(name="later", kind="task", arms=(gdn,), widths=(64,)),
        Experiment(name="length", kind="comparison", arms=(Arm(name="T", arch="transformer"),), widths=(64,)),
    )  # fmt: skip
    preset = Preset(name="tasks", title="Tasks", about="", experiments=experiments)
    preset = from_mapping(Preset, to_mapping(preset), "tasks")
    records = tuple(Store(builder.store.folder.parent, "tasks").records())
    return Study(name="tasks", records=records, presets=(preset,), damaged=(), stores=(builder.store,))


@pytest.fixture(scope="module")
def section(study):
    return tasks(analyse(study))


def tables(section):
    return {block.name: block for block in section.blocks if isinstance(block, Table)}


def cells(table, arm):
    return [[cell.text for cell in row.cells] for row in table.rows if row.cells[0].text == arm]


def test_every_arm_is_shown_at_every_width_at_its_best_rate(section):
    rows = cells(tables(section)["task_recall"], "T")
    assert [row[1] for row in rows] == ["64", "128"]
    assert all(row[6] == "2^−7 (2 rates tried, edge of the grid)" for row in rows)
    assert rows[0][4] == "−5.0" and rows[0][3] == numbers.size(10_000)
    assert rows[0][-2] == "86.5 ± 2.5 % (n = 3)" and rows[0][-1].startswith("49.0 ±")
    assert tables(section)["task_recall"].columns[-1] == "accuracy, 16 pairs"


def test_an_arm_without_runs_says_so(section):
    (row,) = cells(tables(section)["task_recall"], "Late")
    assert set(row[1:]) == {"no run in this set"}
    texts = [block.text for block in section.blocks if isinstance(block, Text)]
    assert "No run of this task is stored yet, so it is not measured in this set." in texts


def test_what_is_matched_is_said_with_the_length(section):
    (text,) = [block.text for block in section.blocks if isinstance(block, Text) and "At each width" in block.text]
    assert "the state of GDN after 16 tokens" in text and "T by a.b" in text and "Late keeps its own state" in text


def test_the_order_in_the_hardest_case_is_said_and_arms_of_one_architecture_are_set_beside_one_another(section):
    recall, parity = [block.items for block in section.blocks if isinstance(block, Bullets)]
    assert recall == (
        "16 pairs, width 64: accuracy of GDN 99.0% and T 49.0%.",
        "16 pairs, width 128: accuracy of GDN 99.0% and T 49.0%.",
    )
    order, difference = parity
    assert order == "Length 64: accuracy of GDN, neg 99.1% and GDN 50.1%."
    assert "of GDN, neg is more than that of GDN, difference 0.490, 95% interval [0.490, 0.490], n = 3" in difference


def test_figures_have_their_runs(section, study):
    figures = {f.name: f for block in section.blocks if isinstance(block, Figures) for f in block.figures}
    assert set(figures) == {"accuracy_recall", "accuracy_parity", "positions_length"}
    assert len(figures["accuracy_recall"].runs) == 12, "those at the best rate"
    assert "a guess, 50.0%" in figures["accuracy_parity"].caption
    panels = figures["accuracy_recall"].plot.axes
    assert [axis.get_title(loc="left") for axis in panels] == ["4 pairs", "16 pairs"]
    assert panels[0].lines[0].get_xdata().tolist() == list(STATES.values())


def test_perplexity_beyond_the_training_length(section):
    table = tables(section)["lengths_length"]
    assert table.columns[-1] == "perplexity a token in windows of 256 (4.00 x training)"
    (row,) = table.rows
    assert [cell.value for cell in row.cells[-2:]] == pytest.approx([2.718281828**2, 2.718281828**3], rel=1e-6)


def test_a_page_of_tasks_alone_is_not_about_claims(study):
    titles = [section.title for section in build_page(analyse(study), "command").sections]
    assert [title.partition(".")[0] for title in titles[:-1]] == ["1", "2", "3", "4"]
    assert titles[1] == "2. Tasks: recall, state tracking, length"
    assert not any("laims" in title for title in titles)


def test_a_set_without_tasks_has_no_such_section(builder):
    assert tasks(analyse(Study(name="none", records=(), presets=(), damaged=(), stores=(builder.store,)))) is None
