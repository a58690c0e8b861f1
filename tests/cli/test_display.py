"""What a run shows while it trains: lines where nobody looks, a table in a terminal."""

from __future__ import annotations

import io
import itertools
import re
import threading
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from mtbench.cli import display as display_module
from mtbench.cli.counts import Counts
from mtbench.cli.display import Harmless, LiveTable, PlainDisplay, display
from mtbench.cli.frame import frame
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.trials import Stack, Status, Trial
from mtbench.plan.search import listed


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cell(results_store):
    return results_store.cell("deep_amtfl", "digits", recipe={"max_epochs": 200})


def planned(cell, n_splits=4, n_settings=1, refit=False, skipped=None, base=None, method=GradientMethod):
    return SimpleNamespace(
        cell=cell,
        method=method,
        search=listed([{}] * n_settings),
        n_trials=n_splits * n_settings,
        splits=range(n_splits),
        seeds=1,
        refit=refit,
        skipped=skipped,
        base=base,
    )


def stack_of(cell, split=0, epochs=None):
    return Stack((Trial(cell, {"alpha": 1.0}, split, 0, epochs),))


def showing(kind, clock, *cells, **plan):
    """A display of cells that each have four trials to train."""
    grid = [planned(cell, **plan) for cell in cells]
    shown = kind(grid, clock)
    for one in grid:
        shown.planned(one, "search", 4, 0)
    return shown


def start(shown, stack, *epochs):
    """A stack begins, and reaches some epochs."""
    shown.started(stack)
    for epoch in epochs:
        shown.reached(stack, epoch, 1)


def note(shown):
    return shown.view().lines[0].notes[0]


def picture(shown, width=100, height=None):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(frame(shown.view(), width, height))
    return console.file.getvalue()


def test_a_training_of_minutes_is_told_once_a_minute_with_the_epoch_it_has_reached(clock, cell, capsys):
    shown = showing(PlainDisplay, clock, cell)
    shown.started(stack_of(cell))
    for clock.now in range(250):
        shown.reached(stack_of(cell), clock.now, 1)
        shown.tick()
    # Four trials of 200 s each, one after the other; a pace is believed from a twentieth of a stack's epochs.
    assert capsys.readouterr().out.splitlines() == [
        f"0 of 4 trials done, 0 failed, {at} min, about {left} min left; "
        f"deep_amtfl x digits: search, epoch {60 * at} of 200 ({30 * at} %)"
        for at, left in ((1, 12), (2, 11), (3, 10), (4, 12))
    ]


def test_nothing_is_told_again_within_a_minute_of_a_stack_that_ended(clock, cell, capsys):
    shown = showing(PlainDisplay, clock, cell)
    for split, clock.now in enumerate((0, 50, 100)):
        shown.started(stack_of(cell, split))
        shown.tick()
        shown.ended(stack_of(cell, split), [Status.FINISHED], [""])
    clock.now = 155
    shown.tick()
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["deep_amtfl x digits"] * 3
    clock.now = 160
    shown.tick()
    assert capsys.readouterr().out.startswith("3 of 4 trials done, 0 failed, 3 min")


def test_stacks_that_end_in_quick_succession_are_told_every_ten_seconds(clock, cell, capsys):
    shown = showing(PlainDisplay, clock, cell)
    for split, clock.now in enumerate((3, 6, 9, 13)):
        shown.started(stack_of(cell, split))
        shown.ended(stack_of(cell, split), [Status.FINISHED], [""])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_several_stacks_of_a_cell_are_told_as_a_range_and_a_share_of_their_epochs(clock, cell):
    shown = showing(Counts, clock, cell)
    for split, epoch in enumerate((10, 50, 90)):
        start(shown, stack_of(cell, split), 1, epoch)
    assert shown.view().lines[0].notes == ("search, epochs 10 to 90 of 200 (25 %)", "search 25 %", "25 %")


def test_a_refit_is_told_by_the_epochs_it_trains(clock, cell):
    shown = showing(Counts, clock, cell)
    shown.planned(planned(cell), "refit", 2, 0)
    start(shown, stack_of(cell, 0, epochs=40), 10)
    assert note(shown) == "refit, epoch 10 of 40 (25 %)"
    start(shown, stack_of(cell, 1, epochs=160), 40)
    assert note(shown) == "refit, epochs 10 to 40 (25 %)"


def test_a_stack_that_has_told_nothing_yet_is_shown_by_its_phase(clock, cell, capsys):
    shown = showing(PlainDisplay, clock, cell)
    shown.started(stack_of(cell))
    clock.now = 60
    shown.tick()
    assert capsys.readouterr().out == "0 of 4 trials done, 0 failed, 1 min; deep_amtfl x digits: search\n"


def test_a_solver_has_no_epochs_to_tell(clock, cell):
    from mtbench.contracts.method import SolverMethod

    class Solver(SolverMethod):
        def solve(self, data, params): ...

    shown = Counts([planned(cell, method=Solver())], clock)
    shown.planned(planned(cell), "search", 4, 0)
    start(shown, stack_of(cell), 1)
    assert shown.view().lines[0].notes == ("search",)
    clock.now = 100
    assert shown.totals() == "0 of 4 trials done, 0 failed, 2 min"


def test_cells_that_are_measured_are_told_too(clock, cell, results_store, capsys):
    shown = showing(PlainDisplay, clock, cell, results_store.cell("stl", "digits"))
    shown.measuring(planned(cell), True)
    clock.now = 60
    shown.tick()
    assert capsys.readouterr().out.endswith(" 1 min; deep_amtfl x digits: measuring stack sizes\n")


def test_refits_to_come_are_among_the_trials_from_the_beginning(clock, cell):
    shown = Counts([planned(cell, n_splits=5, n_settings=25, refit=True)], clock)
    assert shown.totals().startswith("0 of 130 trials done")
    shown.planned(planned(cell), "search", 125, 100)
    shown.planned(planned(cell), "refit", 3, 0)
    assert shown.totals().startswith("100 of 128 trials done")


def test_a_base_is_a_row_of_its_own_above_what_starts_from_it(clock, cell, results_store):
    base = planned(results_store.cell("cnn", "digits", role="base"), n_splits=2)
    shown = Counts([planned(cell, base=base), planned(results_store.cell("stl", "digits"), base=base)], clock)
    assert [line.label for line in shown.view().lines] == [
        "cnn x digits (base)", "deep_amtfl x digits", "stl x digits"
    ]  # fmt: skip
    assert shown.totals().startswith("0 of 10 trials done")


def test_skipped_cells_count_no_trials(clock, cell):
    shown = Counts([planned(cell, skipped="it likes no problem")], clock)
    shown.planned(planned(cell, skipped="it likes no problem"), "search", 0, 0)
    shown.ended(stack_of(cell), [Status.SKIPPED], [""])
    assert (shown.totals(), shown.view().lines[0].state) == ("0 of 0 trials done, 0 failed, 0 s", "skipped")


def test_time_left_follows_what_measuring_told(clock, cell, results_store):
    dear = results_store.cell("mmoe", "digits")
    shown = showing(Counts, clock, cell, dear)
    for one, seconds in ((cell, 0.1), (dear, 1.0)):
        shown.measured(planned(one), {"stack_size": 4, "seconds_per_trial": {"1": 9.0, "4": seconds}})
    shown.started(stack_of(cell))
    clock.now = 60.0
    shown.ended(stack_of(cell), [Status.FINISHED], [""])
    assert shown.totals() == "1 of 8 trials done, 0 failed, 1 min, about 43 min left"


def test_the_table_of_a_terminal_shows_the_share_of_epochs_done(clock, cell):
    shown = showing(Counts, clock, cell)
    start(shown, stack_of(cell), 50)
    assert re.search(r"deep_amtfl x digits +0 of 4 +search, epoch 50 of 200 \(25 %\)\n", picture(shown))


@pytest.mark.parametrize("width", [40, 50, 60, 80, 120])
def test_at_no_width_is_anything_vital_cut(clock, cell, results_store, width):
    cells = [cell, results_store.cell("taan_trace_norm", "mnist_imbalanced"), results_store.cell("x" * 70, "[red]y")]
    shown = showing(Counts, clock, *cells)
    start(shown, stack_of(cell), 50)
    start(shown, stack_of(cells[1]), 150)
    shown.ended(stack_of(cells[1]), [Status.DIVERGED], [""])
    text = picture(shown, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    words = " ".join(text.split())
    for vital in ("0 of 4", "25 %", "0 of 12 trials done, 1 failed, 0 s", "waiting"):
        assert vital in words
    assert ("deep_amtfl x digits" in words) is (width > 40)
    assert ("taan_trace_norm x mnist_imbalanced" in words) is (width > 60)


def test_more_cells_than_lines_show_those_that_run_and_count_the_rest(clock, results_store):
    cells = [results_store.cell(f"method{i}", "digits") for i in range(60)]
    shown = showing(Counts, clock, *cells)
    for i in (7, 41, 59):
        start(shown, stack_of(cells[i]), 10)
    for split in range(4):
        shown.ended(stack_of(cells[3], split), [Status.FINISHED], [""])
    text = picture(shown, 80, 14)
    assert len(text.rstrip("\n").splitlines()) <= 13
    assert all(f"method{i} x digits" in text for i in (7, 41, 59, 0, 1))
    assert "and 52 more: 51 waiting, 1 done\n" in text
    assert "4 of 240 trials done" in text
    assert "more" not in picture(shown, 80)


def test_control_characters_and_markup_of_labels_are_only_shown(clock, results_store):
    text = picture(showing(Counts, clock, results_store.cell("[red]a\x1b[2J", "b\nc")))
    assert r"[red]a\x1b[2J x b c" in text


def test_what_a_watcher_raises_never_reaches_the_run(cell):
    class Broken:
        def __getattr__(self, name):
            def act(*arguments):
                raise KeyError(f"{name} failed")

            return act

    listener = Harmless(Broken())
    listener.planned(planned(cell), "search", 4, 0)
    listener.measuring(planned(cell), True)
    listener.measured(planned(cell), {})
    listener.started(stack_of(cell))
    listener.reached(stack_of(cell), 1, 1)
    listener.ended(stack_of(cell), [Status.FINISHED], [""])
    listener.tick()
    assert listener.fault == "KeyError: 'planned failed'"


class Turns:
    """A picture that fails at times, and tells when it was asked for."""

    def __init__(self, *fail):
        self.n, self.fail, self.reached = 0, fail, threading.Event()

    def __call__(self, width, height):
        from rich.text import Text

        self.n += 1
        if self.n > max(self.fail):
            self.reached.set()
        if self.n in self.fail:
            raise RuntimeError("dictionary changed size during iteration")
        return Text(f"picture {self.n}")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(display_module, "_DRAW_EVERY", 0.001)


def test_a_picture_that_cannot_be_drawn_ends_nothing_and_the_next_is_drawn(quick):
    turns, faults, out = Turns(1, 3, 4), [], io.StringIO()
    live = LiveTable(turns, Console(file=out, force_terminal=True, width=80), faults.append)
    live.open()
    assert turns.reached.wait(60)
    live.close()
    assert len(faults) == 3
    shown = [int(n) for n in re.findall(r"picture (\d+)", out.getvalue())]
    assert {2, 5} <= set(shown)
    assert shown[-1] == turns.n


def test_a_terminal_that_cannot_be_written_to_ends_nothing(quick, monkeypatch):
    def give_up(self):  # as rich does, which also puts an end to this process's stdout
        raise SystemExit(1)

    monkeypatch.setattr(Console, "on_broken_pipe", give_up)

    class Gone(io.StringIO):
        n = 0

        def write(self, text):
            self.n += 1
            if self.n > 3:
                raise BrokenPipeError
            return super().write(text)

    turns, faults = Turns(5), []
    live = LiveTable(turns, Console(file=Gone(), force_terminal=True, width=80), faults.append)
    live.open()
    assert turns.reached.wait(60)
    live.close()
    assert SystemExit in map(type, faults)


def test_events_and_pictures_at_the_same_time_agree(quick, clock, results_store):
    cells = [results_store.cell(f"method{i}", "digits") for i in range(200)]
    shown, faults = Counts([planned(cells[0])], clock), []
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    live = LiveTable(lambda width, height: frame(shown.view(), width, height), console, faults.append)
    live.open()
    for cell, split in itertools.product(cells, range(4)):
        if split == 0:
            shown.planned(planned(cell), "search", 4, 0)
        shown.started(stack_of(cell, split))
        if split:
            shown.ended(stack_of(cell, split), [Status.FINISHED], [""])
    live.close()
    assert faults == []
    assert "600 of 800 trials done" in console.file.getvalue()


@pytest.mark.parametrize(
    ("at_terminal", "term", "kind"), [(True, "xterm", LiveTable), (True, "dumb", None), (False, "xterm", None)]
)
def test_a_dumb_terminal_or_none_gets_plain_lines(monkeypatch, capsys, cell, at_terminal, term, kind):
    import sys

    opened = []
    monkeypatch.setattr(LiveTable, "open", lambda self: opened.append(type(self)))
    monkeypatch.setattr(LiveTable, "close", lambda self: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: at_terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    with display([planned(cell)]) as listener:
        listener.planned(planned(cell), "search", 4, 0)
    assert opened == ([kind] if kind else [])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out == ("" if kind else "0 of 4 trials done, 0 failed, 0 s\n")


def test_a_fault_of_the_display_is_told_when_the_run_is_over(capsys, cell):
    with display([planned(cell)]) as listener:
        listener.measuring(SimpleNamespace(cell=SimpleNamespace(key="nobody's")), True)
        listener.planned(planned(cell), "search", 4, 0)
    found = capsys.readouterr()
    assert found.out.startswith("0 of 4 trials done")
    assert found.err.startswith("Warning: The display of the run had a fault, which changes no result: KeyError: ")
