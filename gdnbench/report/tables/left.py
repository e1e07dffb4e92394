"""What the presets of a set have left to run, what it takes, and the command that runs it."""

import json
from collections.abc import Iterator
from typing import Any

from gdnbench.presets import Preset
from gdnbench.presets.schema import is_task
from gdnbench.report import numbers
from gdnbench.report.content import Row, Table, plain
from gdnbench.report.study import Study


def left_table(study: Study) -> Table | None:
    """Return a row for each experiment and arm with runs to do; None where nothing is left, or known of it."""
    rows: list[Row] = []
    speeds: dict[str, None] = {}
    for preset in study.presets:
        for name, content in _snapshots(study, preset):
            rows += [_row(preset, row, name) for row in content["rows"]]
            speeds |= {content["speed"]: None}
    if not rows:
        return None
    return Table(
        name="left",
        caption="What is left to run",
        columns=("experiment", "arm", "runs to do", "about so many more follow", "expected hours", "command"),
        rows=tuple(rows),
        note=(
            f"Hours of one machine, one run after the other, {numbers.listed(list(speeds))}. Which runs follow depends "
            "on losses that are not known yet."
        ),
        runs_column=False,
    )


def has_left(study: Study, preset: Preset) -> bool:
    """Say whether some run of a preset is known to be left."""
    return any(content["rows"] for _, content in _snapshots(study, preset))


def _snapshots(study: Study, preset: Preset) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each set with what it has left of a preset."""
    for path in study.snapshots(f"{preset.name}.left.json"):
        yield path.parent.parent.name, json.loads(path.read_text(encoding="utf-8"))


def command(preset: Preset, experiment: str, name: str) -> str:
    """Return the command that runs an experiment of a preset into a set; places of files are to be filled in."""
    known = {entry.name: entry for entry in preset.experiments}
    parts = ["gdnbench reproduce", preset.name, f"--only {experiment}"]
    parts += [f"--set {name}"] if name != preset.name else []
    parts += [f"--corpus {_to_fill_in(preset.corpus)}"] if ":" in preset.corpus and not is_task(preset.corpus) else []
    entry = known.get(experiment)
    evaluation = {**preset.evaluation, **(entry.evaluation if entry is not None else {})}
    others = [*evaluation.get("also", ()), *([entry.corpus] if entry is not None and entry.corpus else [])]
    # A corpus without files of its own, such as stdlib or a task, needs no place.
    placed = [other for other in others if other != "stdlib" and not is_task(other)]
    return " ".join([*parts, *(f"--also {_to_fill_in(other)}" for other in placed)])


def _row(preset: Preset, row: dict[str, Any], name: str) -> Row:
    hours = row["seconds"] / 3600
    return Row(
        cells=(
            plain(row["experiment"]),
            plain(row["arm"]),
            plain(str(row["runs"]), row["runs"]),
            plain(str(row["following"]), row["following"]),
            plain(numbers.significant(hours), hours),
            plain(command(preset, row["experiment"], name)),
        )
    )


def _to_fill_in(corpus: str) -> str:
    """Return a corpus as records name it with the place of its files left open."""
    name, _, label = corpus.partition(":")
    return f"{name}:<folder>/{label}" if label else f"{name}:<folder>"
