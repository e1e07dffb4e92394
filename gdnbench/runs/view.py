"""Showing a reproduction: bars with loss, speed and time left on a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gdnbench.plan import estimate
from gdnbench.plan.expand import Plan
from gdnbench.plan.speed import Speeds
from gdnbench.results import Record
from gdnbench.runs.progress import Beat
from gdnbench.runs.reproduce import View

# By which runs are weighed against each other; the time left follows the clock.
NOMINAL = Speeds(device="cpu", peak=3e10, source="nominal")


class Clock:
    """Time left, from the weight of what is done and the time it took."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.weights: dict[str, float] = {}
        self.done: set[str] = set()
        self.stored_before: set[str] = set()
        self.fractions: dict[str, float] = {}
        self.later = 0.0

    def plan(self, plan: Plan, finished: set[str]) -> None:
        """Take in the runs and what is finished of them."""
        if not self.weights:
            self.stored_before = set(finished)
        known = self.weights
        self.weights = {s.run_id: known.get(s.run_id) or estimate.seconds(s, NOMINAL) for s in plan.runs}
        mean = sum(self.weights.values()) / max(1, len(self.weights))
        self.later = plan.later * mean
        self.done = finished & self.weights.keys()

    def fraction(self) -> float:
        """Return how much of the work of this call is over."""
        total = sum(w for run_id, w in self.weights.items() if run_id not in self.stored_before) + self.later
        over = sum(self.weights[run_id] for run_id in self.done - self.stored_before)
        over += sum(self.weights[i] * f for i, f in self.fractions.items() if i in self.weights and i not in self.done)
        return over / total if total else 1.0

    def left(self) -> str:
        """Return the time left as text."""
        fraction = self.fraction()
        if fraction < 0.01:
            return "time left unknown yet"
        seconds = (time.monotonic() - self.started) * (1 - fraction) / fraction
        return f"about {max(0.0, seconds) / 60:.1f} min left"


def describe(record: Record) -> str:
    """Return one line on a stored run."""
    parts = [record.run_id]
    if record.outcome == "diverged":
        parts.append(f"diverged: {record.detail}")
    shown = (("val_loss", "loss {:.4f} {}"), ("accuracy", "accuracy {:.1%}"), ("tokens_per_s", "{:,.0f} {}"))
    for name, text in shown:
        if name in record.metrics:
            parts.append(text.format(record.metrics[name]["value"], record.metrics[name]["unit"]))
    return "  ".join([*parts, f"{record.duration_s:.1f} s"])


class PlainView(View):
    """One line a stored run."""

    def __init__(self, console: Console):
        self.console, self.clock = console, Clock()

    def planned(self, plan: Plan, finished: set[str]) -> None:
        """Take in the plan."""
        self.clock.plan(plan, finished)

    def ended(self, record: Record) -> None:
        """Print the run and how far all is."""
        count = f"[{len(self.clock.done)}/{len(self.clock.weights)}, {self.clock.left()}]"
        self.console.print(f"{describe(record)}  {count}", highlight=False, soft_wrap=True, markup=False)

    def beat(self, beat: Beat) -> None:
        """Take in how far a run is."""
        self.clock.fractions[beat.run_id] = beat.fraction

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


class BarsView(PlainView):
    """A bar for all and one for each running run."""

    def __init__(self, console: Console):
        super().__init__(console)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"),
            console=console, transient=True,
        )  # fmt: skip
        self.all = self.progress.add_task("all runs", total=1.0, said="")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BarsView":
        """Draw the bars."""
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bars away."""
        self.progress.stop()

    def planned(self, plan: Plan, finished: set[str]) -> None:
        """Take in the plan and move the bar of all."""
        super().planned(plan, finished)
        self._move()

    def beat(self, beat: Beat) -> None:
        """Move the run's bar."""
        super().beat(beat)
        loss = "" if beat.loss is None else f"loss {beat.loss:.3f} "
        speed = "" if beat.tokens_per_s is None else f"{beat.tokens_per_s:,.0f} token/s"
        if beat.run_id not in self.tasks:
            self.tasks[beat.run_id] = self.progress.add_task(beat.run_id, total=1.0, said="")
        self.progress.update(self.tasks[beat.run_id], completed=beat.fraction, said=loss + speed)
        self._move()

    def ended(self, record: Record) -> None:
        """Print the run and take its bar away."""
        if record.run_id in self.tasks:
            self.progress.remove_task(self.tasks.pop(record.run_id))
        super().ended(record)

    def _move(self) -> None:
        said = f"{len(self.clock.done)}/{len(self.clock.weights)} runs, {self.clock.left()}"
        self.progress.update(self.all, completed=self.clock.fraction(), said=said)
