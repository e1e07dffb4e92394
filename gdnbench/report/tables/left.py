"""What the presets, or the bench, of a set have left to run, what it takes, and the command that runs it."""

from collections.abc import Iterator
from typing import Any

from gdnbench.configuration import read_json
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
        yield path.parent.parent.name, read_json(path)


def bench_left_table(study: Study, kind: str) -> Table | None:
    """Return a row for each model and implementation that a bench has left; None where that is nothing or not known.

    Args:
        study: the set.
        kind: of the bench's records.
    """
    contents = bench_left(study, kind)
    if not contents:
        return None
    again, stored = (sum(content[name] for content in contents) for name in ("again", "stored"))
    more = (
        f" It also measures again {again} of the {stored} that the set holds: other code or settings measured them."
        if again
        else ""
    )
    return Table(
        name="left",
        caption="What is left to measure",
        columns=("model or operation", "implementation", "measurements", "expected minutes"),
        rows=tuple(_bench_row(row) for content in contents for row in content["rows"]),
        note=(
            "What the command below measures by default and the set lacked when it was last counted, by the bench at "
            "its end or by --plan; other sizes or settings, warm caches for one, are other measurements. Expected: "
            "what stored ones of the same implementation took on average, without what is done once for many "
            f"(calibration, checks of kernels); – where none is stored.{more}"
        ),
        runs_column=False,
    )


def bench_left(study: Study, kind: str) -> list[dict[str, Any]]:
    """Return what each set says that a bench has left of its own grid, where it has something left."""
    paths = [store.folder / f"{kind}.left.json" for store in study.stores]
    contents = [read_json(path) for path in paths if path.exists()]
    return [content for content in contents if content["rows"]]


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


def _bench_row(row: dict[str, Any]) -> Row:
    minutes = None if row["seconds"] is None else row["seconds"] / 60
    return Row(
        cells=(
            plain(row["model"]),
            plain(row["impl"]),
            plain(str(row["measurements"]), row["measurements"]),
            plain("–") if minutes is None else plain(numbers.significant(minutes, 2), minutes),
        )
    )


def _to_fill_in(corpus: str) -> str:
    """Return a corpus as records name it with the place of its files left open."""
    name, _, label = corpus.partition(":")
    return f"{name}:<folder>/{label}" if label else f"{name}:<folder>"
