"""What a run looks like while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.engines.progress import latest
from mtbench.trials import Stack, Status

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mtbench.grid import PlannedCell

_LINE_EVERY = 10.0  # seconds between plain lines, where stacks end
_NEWS_EVERY = 60.0  # where none does


@dataclass(frozen=True)
class _Active:
    """A stack that a worker has.

    Attributes:
        progress: The file that tells how far it is.
        n_epochs: Epochs it trains at most.
    """

    progress: Path
    n_epochs: int

    @classmethod
    def of(cls, stack: Stack, progress: Path) -> _Active:
        """A stack that was just handed out."""
        # A refit trains for the epochs that its search found best; solvers have none.
        return cls(progress, max(stack.cell.recipe.max_epochs if t.epochs is None else t.epochs for t in stack.trials))


@dataclass
class _Row:
    """A cell as it is shown."""

    label: str
    phase: str = "waiting"
    n_trials: int = 0
    n_done: int = 0
    n_failed: int = 0
    n_measured: int = 0  # groups of trials whose stack size is being measured
    skipped: bool = False
    active: dict[str, _Active] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Where its stacks are."""
        if self.skipped:
            return "skipped"
        if self.n_measured and not self.active:
            return "measuring stack sizes"
        if not self.active:
            return "done" if self.n_trials and self.n_done + self.n_failed >= self.n_trials else "waiting"
        reached = self.reached
        return f"{self.phase}, {reached}" if reached else self.phase

    @property
    def reached(self) -> str:
        """The epochs that its running stacks have reached, of how many at most; "" before the first."""
        told = [(found[0], stack.n_epochs) for stack in self.active.values() if (found := latest(stack.progress))]
        if not told:
            return ""
        first, last = min(epoch for epoch, _ in told), max(epoch for epoch, _ in told)
        text = f"epoch {last}" if first == last else f"epochs {first} to {last}"
        n_epochs = sum(n for _, n in told)
        if not n_epochs:
            return text
        limits = {n for _, n in told}
        most = f" of {limits.pop()}" if len(limits) == 1 else ""
        return f"{text}{most} ({100 * sum(epoch for epoch, _ in told) // n_epochs} %)"


class RunDisplay:
    """Counts what happens in a run; a `Watcher` of the runner.

    Args:
        cells: The grid.
        clock: Tells seconds.
    """

    def __init__(self, cells: Sequence[PlannedCell], clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = {cell.cell.key: _Row(cell.cell.label) for cell in cells}
        self._clock = clock
        self._started = clock()
        self._n_trained = 0

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A cell's phase has so many trials, of which so many are in the store already."""
        row = self._rows.setdefault(cell.cell.key, _Row(cell.cell.label))
        row.phase, row.skipped = phase, cell.skipped is not None
        row.n_trials += n_trials
        row.n_done += n_done

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""
        self._rows[cell.cell.key].n_measured += 1 if under_way else -1

    def started(self, stack: Stack, progress: Path) -> None:
        """A stack was handed to a worker."""
        self._rows[stack.cell.key].active[stack.id] = _Active.of(stack, progress)

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """A stack's result is in the store."""
        row = self._rows[stack.cell.key]
        row.active.pop(stack.id, None)
        n_failed = sum(status not in (Status.FINISHED, Status.SKIPPED) for status in statuses)
        if not row.skipped:
            row.n_done += len(statuses) - n_failed
            row.n_failed += n_failed
            self._n_trained += len(statuses)

    def tick(self) -> None:
        """Called a few times a second."""

    def totals(self) -> str:
        """Trials done and failed, rate and time left, in one line."""
        n_trials = sum(row.n_trials for row in self._rows.values())
        n_done = sum(row.n_done for row in self._rows.values())
        n_failed = sum(row.n_failed for row in self._rows.values())
        seconds = self._clock() - self._started
        text = f"{n_done} of {n_trials} trials done, {n_failed} failed, {seconds:.0f} s"
        left = n_trials - n_done - n_failed
        if self._n_trained and left > 0 and seconds > 0:
            rate = self._n_trained / seconds
            text += f", {rate:.2f} trials/s, about {left / rate:.0f} s left"
        return text

    def rows(self) -> list[tuple[str, int, int, int, str]]:
        """Cell, trials done, failed, planned, and where it is."""
        return [(row.label, row.n_done, row.n_failed, row.n_trials, row.note) for row in self._rows.values()]


class PlainDisplay(RunDisplay):
    """Prints a line when a stack has ended, at most every ten seconds; and each minute in which none has.

    Args:
        cells: The grid.
        clock: Tells seconds.
    """

    def __init__(self, cells: Sequence[PlannedCell], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(cells, clock)
        self._last_end = -_LINE_EVERY
        self._last_line = self._started

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """Counts, and prints a line now and then."""
        super().ended(stack, statuses, reasons)
        if self._clock() - self._last_end >= _LINE_EVERY:
            self._last_end = self._clock()
            self._say(f"{stack.cell.label}: {self.totals()}")

    def tick(self) -> None:
        """Where nothing was printed for a minute, prints the totals and how far running stacks are."""
        if self._clock() - self._last_line < _NEWS_EVERY:
            return
        under_way = [f"{row.label}: {row.note}" for row in self._rows.values() if row.active or row.n_measured]
        self._say("; ".join([self.totals(), *under_way]))

    def _say(self, line: str) -> None:
        self._last_line = self._clock()
        click.echo(line)


@contextmanager
def display(cells: Sequence[PlannedCell]) -> Iterator[RunDisplay]:
    """Shows a run for as long as it lasts: live in a terminal, in plain lines elsewhere."""
    if not sys.stdout.isatty():
        plain = PlainDisplay(cells)
        yield plain
        click.echo(plain.totals())
        return
    from rich.live import Live

    shown = RunDisplay(cells)
    with Live(get_renderable=lambda: _table(shown), refresh_per_second=4):
        yield shown


def _table(shown: RunDisplay) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption=shown.totals(), caption_justify="left")
    table.add_column("cell", no_wrap=True)
    for name in ("done", "failed", "of"):
        table.add_column(name, justify="right")
    table.add_column("now", no_wrap=True)
    for label, n_done, n_failed, n_trials, note in shown.rows():
        failed = f"[red]{n_failed}[/red]" if n_failed else "0"
        table.add_row(label, str(n_done), failed, str(n_trials), note)
    return table
