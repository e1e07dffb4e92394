"""What a set, or several, hold, as the report sees it: experiments with arms and records, claim cards, notes."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdnbench.claims import ClaimCard
from gdnbench.configuration import canonical_json, from_mapping, read_json, read_yaml
from gdnbench.errors import GdnbenchError
from gdnbench.presets.schema import OVER_WIDTH, Arm, Experiment, Preset, is_task
from gdnbench.results import Record, Store
from gdnbench.words import parametrization

# Kinds whose runs begin with the checkpoint of another run of the experiment.
CONTINUED = ("horizon", "fine_tune")
# What differs between widths of one arm; everything else of the model must agree for a run to be shared.
SIZES = ("width", "mlp_width")


@dataclass(frozen=True, kw_only=True)
class ArmRuns:
    """The records of one arm of an experiment.

    Attributes:
        arm: its name.
        records: its own runs and those it shares with another arm.
        shared: run ids that were stored under another arm: at the base width all tables train identically.
        given: how the preset describes it; None where no preset does.
        experiment: the experiment's name.
    """

    arm: str
    records: tuple[Record, ...]
    shared: frozenset[str] = frozenset()
    given: Arm | None = None
    experiment: str = ""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Run ids, sorted."""
        return tuple(sorted(record.run_id for record in self.records))

    @property
    def arch(self) -> str:
        """Architecture of the arm; empty without runs."""
        return model(self.records[0])["arch"] if self.records else ""

    @property
    def own(self) -> tuple[Record, ...]:
        """The runs that were made for this arm."""
        return tuple(record for record in self.records if record.run_id not in self.shared)

    @property
    def table(self) -> str:
        """Parametrization table, by the preset, else by the arm's runs; empty where neither tells."""
        if self.given is not None:
            return self.given.table
        return next((record.spec["parametrization"]["table"] for record in (*self.own, *self.records)), "")

    @property
    def switches(self) -> dict[str, str]:
        """Switches of the parametrization, likewise."""
        if self.given is not None:
            return dict(self.given.switches)
        return next((dict(record.spec["parametrization"]["switches"]) for record in (*self.own, *self.records)), {})

    @property
    def parametrization(self) -> str:
        """Table with its switches, in words; empty where neither tells."""
        return parametrization(self.table, self.switches)

    def at(self, width: int) -> tuple[Record, ...]:
        """Return the runs of a width."""
        return tuple(record for record in self.records if width_of(record) == width)

    def widths(self) -> list[int]:
        """Return the widths that have runs."""
        return sorted({width_of(record) for record in self.records})


@dataclass(frozen=True, eq=False)
class Study:
    """A set of records, or several on one page, with the preset snapshots that they were run from.

    Attributes:
        name: its name; the page's where there are several.
        records: the runs of its presets.
        presets: the presets as they were run.
        damaged: what could not be read, in words.
        stores: where it lies, or they lie.
        evaluations: records of trained models evaluated on a text.
        harness: records of trained models evaluated by a task of lm-eval.
        left_out: ids of stored runs that are no part of the presets as they are now.
        kernels: records of kernel timings.
        speeds: records of training speeds.
        generations: records of speeds of generation, from the bench's grid.
    """

    name: str
    records: tuple[Record, ...]
    presets: tuple[Preset, ...]
    damaged: tuple[str, ...]
    stores: tuple[Store, ...]
    evaluations: tuple[Record, ...] = ()
    harness: tuple[Record, ...] = ()
    left_out: tuple[str, ...] = ()
    kernels: tuple[Record, ...] = ()
    speeds: tuple[Record, ...] = ()
    generations: tuple[Record, ...] = ()

    @property
    def title(self) -> str:
        """The name, with those of the sets that it stands for."""
        names = [store.name for store in self.stores]
        return self.name if names == [self.name] else f"{self.name} ({' and '.join(names)})"

    def snapshots(self, pattern: str) -> list[Path]:
        """Return the files of this name that lie beside the runs, of all sets."""
        return _snapshots(self.stores, pattern)

    @property
    def shown(self) -> tuple[Record, ...]:
        """All records that the page is made from."""
        return (*self.records, *self.kernels, *self.speeds, *self.generations)

    @functools.cached_property
    def experiments(self) -> tuple[Experiment, ...]:
        """Experiments of all snapshots, in their order; one known from records only is inferred from them."""
        found: dict[str, Experiment] = {}
        for experiment in (experiment for preset in self.presets for experiment in preset.experiments):
            earlier = found.get(experiment.name)
            found[experiment.name] = experiment if earlier is None else _merged(earlier, experiment)
        for name in sorted({record.spec["experiment"] for record in self.records} - set(found)):
            found[name] = _inferred(name, self.of_experiment(name))
        return tuple(found.values())

    @property
    def cards(self) -> tuple[ClaimCard, ...]:
        """Claim cards of all snapshots, each once."""
        cards = [card for preset in self.presets for card in preset.claims]
        return tuple({canonical_json(card): card for card in cards}.values())

    def experiment(self, name: str) -> Experiment | None:
        """Return an experiment by name, or None."""
        return next((experiment for experiment in self.experiments if experiment.name == name), None)

    def of_kind(self, kind: str) -> list[Experiment]:
        """Return the experiments of a kind (`gdnbench.presets.schema.Experiment.kind`)."""
        return [experiment for experiment in self.experiments if experiment.kind == kind]

    def of_experiment(self, name: str) -> tuple[Record, ...]:
        """Return the records of an experiment."""
        return tuple(record for record in self.records if record.spec["experiment"] == name)

    @functools.cache  # noqa: B019 (one study a rendering)
    def arm(self, experiment: str, arm: str) -> ArmRuns:
        """Return an arm's records, with the base width's runs that it shares with another arm of its architecture.

        At the base width every table trains identically, so a plan runs it once, under the first arm. Runs that
        others only begin with are left out.
        """
        records = tuple(record for record in self.of_experiment(experiment) if not self.is_start(record))
        own = [record for record in records if record.spec["arm"] == arm]
        definition = self.experiment(experiment)
        given = (
            next((candidate for candidate in definition.arms if candidate.name == arm), None) if definition else None
        )
        if definition is None or definition.kind not in OVER_WIDTH:
            return ArmRuns(arm=arm, records=tuple(own), given=given, experiment=experiment)
        taken = {_place(record) for record in own}
        shared = [r for r in records if _shareable(r, own, given) and _place(r) not in taken]
        shared = list({_place(record): record for record in shared}.values())
        ids = frozenset(record.run_id for record in shared)
        return ArmRuns(arm=arm, records=(*own, *shared), shared=ids, given=given, experiment=experiment)

    def is_start(self, record: Record) -> bool:
        """Say whether a run was made for others to begin with: a trunk of branches, or a model to be fine-tuned."""
        definition = self.experiment(record.spec["experiment"])
        return definition is not None and definition.kind in CONTINUED and not record.spec.get("origin")

    def arms(self, experiment: Experiment) -> list[ArmRuns]:
        """Return all arms of an experiment in the preset's order, then those known from records only."""
        recorded = (record.spec["arm"] for record in self.of_experiment(experiment.name))
        names = dict.fromkeys([*(arm.name for arm in experiment.arms), *sorted(recorded)])
        return [self.arm(experiment.name, name) for name in names]

    def beside(self, name: str) -> "Study | None":
        """Return another set of the same folder, or None where there is none of that name."""
        store = Store(self.stores[0].folder.parent, name)
        return read_study(store) if store.folder.is_dir() else None

    @functools.cache  # noqa: B019 (one study a rendering)
    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return a run's rows, read once."""
        return next((store.rows(run_id) for store in self.stores if store.rows_path(run_id).exists()), [])


def read_study(*stores: Store, name: str = "") -> Study:
    """Read a set, or several for one page: records, preset snapshots; damaged records are set aside and named.

    Args:
        stores: the sets.
        name: the page's name; that of the first set where none is given.

    Raises:
        GdnbenchError: two sets have an experiment of one name, whose runs would be taken for one.
    """
    held = {store: (store.records(), _planned(store)) for store in stores}
    stored = [record for records, _ in held.values() for record in records]
    presets = tuple(from_mapping(Preset, read_yaml(path), str(path)) for path in _snapshots(stores, "*.yaml"))
    _check_apart(held)
    runs = [
        (record, planned is None or record.run_id in planned)
        for records, planned in held.values()
        for record in records
        if _is_run(record)
    ]
    return Study(
        name=name or stores[0].name,
        records=tuple(record for record, in_plan in runs if in_plan),
        presets=presets,
        damaged=tuple(problem for store in stores for problem in store.damaged),
        stores=stores,
        evaluations=tuple(record for record in stored if record.kind == "evaluation"),
        harness=tuple(record for record in stored if record.kind == "lm_eval"),
        left_out=tuple(record.run_id for record, in_plan in runs if not in_plan),
        kernels=tuple(record for record in stored if record.kind == "kernel"),
        speeds=tuple(record for record in stored if record.kind == "train_throughput"),
        generations=tuple(record for record in stored if record.kind == "decode" and record.timing),
    )


def _check_apart(held: Mapping[Store, tuple[list[Record], set[str] | None]]) -> None:
    owner: dict[str, str] = {}
    for store, (records, _) in held.items():
        for name in sorted({record.spec["experiment"] for record in records if _is_run(record)}):
            if owner.setdefault(name, store.name) != store.name:
                raise GdnbenchError(
                    f"sets {owner[name]} and {store.name} both have runs of {name}, which one page would take for one "
                    "experiment; render them apart"
                )


def _is_run(record: Record) -> bool:
    return record.kind not in ("evaluation", "lm_eval") and not record.timing


def _snapshots(stores: Sequence[Store], pattern: str) -> list[Path]:
    return [path for store in stores for path in sorted((store.folder / "presets").glob(pattern))]


def _planned(store: Store) -> set[str] | None:
    """Return the ids of the runs that the presets consist of; None where a preset was not run to its end."""
    plans = [path.with_suffix(".plan.json") for path in _snapshots([store], "*.yaml")]
    if not plans or not all(path.exists() for path in plans):
        return None
    return {run_id for path in plans for run_id in read_json(path)}


def model(record: Record) -> dict[str, Any]:
    """Return the model's configuration."""
    return record.spec["model"]


def width_of(record: Record) -> int:
    """Return the model's width."""
    return model(record)["width"]


def seed_of(record: Record) -> int:
    """Return the seed."""
    return record.spec["seed"]


def log2_lr(record: Record) -> float:
    """Return log2 of the base learning rate, rounded so that equal rates compare equal."""
    return round(math.log2(record.spec["optimizer"]["lr"]), 6)


def finished(records: Iterable[Record]) -> list[Record]:
    """Return the runs that did not diverge."""
    return [record for record in records if record.outcome == "finished"]


def steps_of(record: Record) -> int:
    """Return the length of a training run in steps; 0 for other kinds."""
    training = record.spec["training"]
    return 0 if training is None else training["steps"]


def _place(record: Record) -> tuple[int, float, int, int]:
    return width_of(record), log2_lr(record), seed_of(record), steps_of(record)


def _shareable(record: Record, own: list[Record], given: Arm | None) -> bool:
    """Say whether a run of any arm counts for the arm that has these ``own`` runs or this definition."""
    config = model(record)
    if config["width"] != config["base_width"]:
        return False
    if own:
        same_optimizer = record.spec["optimizer"]["name"] == own[0].spec["optimizer"]["name"]
        return same_optimizer and _beyond_size(config) == _beyond_size(model(own[0]))
    if given is None:
        return False
    return config["arch"] == given.arch and all(config.get(key) == value for key, value in given.model.items())


def _beyond_size(config: dict[str, Any]) -> str:
    return canonical_json({key: value for key, value in config.items() if key not in SIZES})


def _merged(first: Experiment, second: Experiment) -> Experiment:
    """Return two snapshots' experiments of one name as one, with all arms and widths of both."""
    arms = {arm.name: arm for arm in (*second.arms, *first.arms)}
    order = dict.fromkeys([*(arm.name for arm in first.arms), *arms])
    merged = {name: getattr(first, name) for name in first.__dataclass_fields__}
    merged["arms"] = tuple(arms[name] for name in order)
    merged["widths"] = tuple(sorted({*first.widths, *second.widths}))
    return Experiment(**merged)


def _inferred(name: str, records: tuple[Record, ...]) -> Experiment:
    """Return an experiment as its records suggest it, for a set without a snapshot of its preset."""
    arms = {record.spec["arm"]: record for record in records}
    widths = tuple(sorted({width_of(record) for record in records}))
    kind = records[0].kind
    if kind == "train":
        kind = "lr_sweep" if len(widths) > 1 else "comparison"
        if is_task(records[0].spec["data"]["corpus"]):
            kind = "task"
        if any(record.spec.get("origin") for record in records):
            takes = {origin["takes"] for record in records if (origin := record.spec.get("origin"))}
            kind = "horizon" if takes == {"state"} else "fine_tune"
    definitions = tuple(
        Arm(name=arm, arch=model(r)["arch"], table=r.spec["parametrization"]["table"]) for arm, r in arms.items()
    )
    return Experiment(name=name, kind=kind, title=name, arms=definitions, widths=widths)  # type: ignore[arg-type]
