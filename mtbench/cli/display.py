"""What a run looks like while it runs: a live table in a terminal, plain lines elsewhere.

Guarantee: whatever goes wrong in showing a run, the run goes on, and so does the display.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtbench.cli.counts import Counts
from mtbench.cli.terminal import is_styled, say, warn
from mtbench.contracts.trials import Stack, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mtbench.plan.grid import PlannedCell
    from mtbench.run.events import RunListener

_LINE_EVERY = 10.0  # seconds between plain lines, where stacks end
_NEWS_EVERY = 60.0  # where none does
_DRAW_EVERY = 0.25


class PlainDisplay(Counts):
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
        view = self.view()
        under_way = [f"{line.label}: {line.notes[0]}" for line in view.lines if line.state == "running"]
        self._say("; ".join([", ".join(view.totals), *under_way]))

    def _say(self, line: str) -> None:
        self._last_line = self._clock()
        say(line)


class Harmless:
    """Passes events on to a listener; what it raises never reaches the run.

    Attributes:
        fault: What went wrong first; "" where nothing did.
    """

    def __init__(self, listener: RunListener) -> None:
        self._listener = listener
        self.fault = ""

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """Passes on."""
        self._pass(self._listener.planned, cell, phase, n_trials, n_done)

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Passes on."""
        self._pass(self._listener.measuring, cell, under_way)

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """Passes on."""
        self._pass(self._listener.measured, cell, facts)

    def started(self, stack: Stack) -> None:
        """Passes on."""
        self._pass(self._listener.started, stack)

    def reached(self, stack: Stack, epoch: int, n_active: int) -> None:
        """Passes on."""
        self._pass(self._listener.reached, stack, epoch, n_active)

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """Passes on."""
        self._pass(self._listener.ended, stack, statuses, reasons)

    def tick(self) -> None:
        """Passes on."""
        self._pass(self._listener.tick)

    def _pass(self, event: Callable[..., None], *arguments: Any) -> None:
        try:
            event(*arguments)
        except (Exception, SystemExit) as error:
            self.note(error)

    def note(self, error: BaseException) -> None:
        """Remembers a fault, if it is the first."""
        self.fault = self.fault or f"{type(error).__name__}: {error}"


class LiveTable:
    """Draws a run over and over, in a thread of its own; a picture that cannot be drawn is left out, the next follows.

    Args:
        picture: Gives what to draw for a width and a height; a height of None is for the last picture.
        console: Where to draw.
        note: Told of what goes wrong.
    """

    def __init__(
        self, picture: Callable[[int, int | None], Text], console: Console, note: Callable[[BaseException], None]
    ) -> None:
        from rich.live import Live

        self._picture, self._console, self._note = picture, console, note
        self._last: Text | str = ""
        self._closing = threading.Event()
        # It draws when told to: its own thread ends at the first exception, and the display with it.
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._drawn)
        self._thread = threading.Thread(target=self._draw_until_closed, name="mtbench-display", daemon=True)

    def open(self) -> None:
        """Begins to draw."""
        self._try(self._live.start)
        self._thread.start()

    def close(self) -> None:
        """Draws a last time, and gives the terminal back."""
        self._closing.set()
        self._thread.join(10.0)
        self._try(self._live.stop)

    def _draw_until_closed(self) -> None:
        while not self._closing.wait(_DRAW_EVERY):
            self._try(self._live.refresh)

    def _drawn(self) -> Text | str:
        with contextlib.suppress(Exception):
            self._last = self._new()
        return self._last

    def _new(self) -> Text:
        size = shutil.get_terminal_size()
        try:
            return self._picture(size.columns or 80, None if self._closing.is_set() else size.lines or 24)
        except Exception as error:
            self._note(error)
            raise

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except (Exception, SystemExit) as error:  # rich exits where the terminal is gone
            self._note(error)


@contextmanager
def display(cells: Sequence[PlannedCell]) -> Iterator[RunListener]:
    """Shows a run for as long as it lasts: live in a terminal that can, in plain lines elsewhere."""
    shown = Counts(cells) if is_styled() else PlainDisplay(cells)
    listener = Harmless(shown)
    if not is_styled():
        yield listener
        with contextlib.suppress(Exception):  # nobody may be reading any more
            say(shown.totals())
    else:
        from rich.console import Console

        from mtbench.cli.frame import frame

        live = LiveTable(lambda width, height: frame(shown.view(), width, height), Console(), listener.note)
        live.open()
        try:
            yield listener
        finally:
            live.close()
    if listener.fault:
        warn(f"The display of the run had a fault, which changes no result: {listener.fault}")
