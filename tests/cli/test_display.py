"""What a run shows while it trains: lines where nobody looks, a table in a terminal."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from mtbench.cli.display import PlainDisplay, RunDisplay, _table
from mtbench.trials import Stack, Status, Trial


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


def stack_of(cell, split=0, epochs=None):
    return Stack((Trial(cell, {"alpha": 1.0}, split, 0, epochs),))


def showing(kind, clock, *cells):
    """A display of cells that each have four trials to train."""
    planned = [SimpleNamespace(cell=cell, skipped=None) for cell in cells]
    shown = kind(planned, clock)
    for cell in planned:
        shown.planned(cell, "search", 4, 0)
    return shown


def reach(path, *epochs):
    path.write_text("".join(f"{epoch} 1\n" for epoch in epochs))
    return path


def test_a_training_of_minutes_is_told_once_a_minute_with_the_epoch_it_has_reached(clock, cell, tmp_path, capsys):
    shown = showing(PlainDisplay, clock, cell)
    progress = tmp_path / "a.progress"
    shown.started(stack_of(cell), progress)
    for clock.now in range(250):
        reach(progress, clock.now)
        shown.tick()
    assert capsys.readouterr().out.splitlines() == [
        f"0 of 4 trials done, 0 failed, {at} s; deep_amtfl x digits: search, epoch {at} of 200 ({at // 2} %)"
        for at in (60, 120, 180, 240)
    ]


def test_nothing_is_told_again_within_a_minute_of_a_stack_that_ended(clock, cell, tmp_path, capsys):
    shown = showing(PlainDisplay, clock, cell)
    for split, clock.now in enumerate((0, 50, 100)):
        shown.started(stack_of(cell, split), tmp_path / "none")
        shown.tick()
        shown.ended(stack_of(cell, split), [Status.FINISHED], [""])
    clock.now = 155
    shown.tick()
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["deep_amtfl x digits"] * 3
    clock.now = 160
    shown.tick()
    assert capsys.readouterr().out.startswith("3 of 4 trials done, 0 failed, 160 s")


def test_stacks_that_end_in_quick_succession_are_told_every_ten_seconds(clock, cell, tmp_path, capsys):
    shown = showing(PlainDisplay, clock, cell)
    for split, clock.now in enumerate((3, 6, 9, 13)):
        shown.started(stack_of(cell, split), tmp_path / "none")
        shown.ended(stack_of(cell, split), [Status.FINISHED], [""])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_several_stacks_of_a_cell_are_told_as_a_range_and_a_share_of_their_epochs(clock, cell, tmp_path):
    shown = showing(RunDisplay, clock, cell)
    for split, epoch in enumerate((10, 50, 90)):
        shown.started(stack_of(cell, split), reach(tmp_path / str(split), 1, epoch))
    assert shown.rows()[0][-1] == "search, epochs 10 to 90 of 200 (25 %)"


def test_a_refit_is_told_by_the_epochs_it_trains(clock, cell, tmp_path):
    shown = showing(RunDisplay, clock, cell)
    shown.planned(SimpleNamespace(cell=cell, skipped=None), "refit", 2, 0)
    shown.started(stack_of(cell, 0, epochs=40), reach(tmp_path / "0", 10))
    assert shown.rows()[0][-1] == "refit, epoch 10 of 40 (25 %)"
    shown.started(stack_of(cell, 1, epochs=160), reach(tmp_path / "1", 40))
    assert shown.rows()[0][-1] == "refit, epochs 10 to 40 (25 %)"


def test_a_stack_that_has_told_nothing_yet_is_shown_by_its_phase(clock, cell, tmp_path, capsys):
    shown = showing(PlainDisplay, clock, cell)
    shown.started(stack_of(cell), tmp_path / "none")
    clock.now = 60
    shown.tick()
    assert capsys.readouterr().out == "0 of 4 trials done, 0 failed, 60 s; deep_amtfl x digits: search\n"


def test_a_solver_has_no_epochs_to_tell(clock, cell, tmp_path):
    shown = showing(RunDisplay, clock, cell)
    shown.started(stack_of(cell, epochs=0), reach(tmp_path / "0", 3))
    assert shown.rows()[0][-1] == "search, epoch 3"


def test_cells_that_are_measured_are_told_too(clock, cell, results_store, capsys):
    other = results_store.cell("stl", "digits")
    shown = showing(PlainDisplay, clock, cell, other)
    shown.measuring(SimpleNamespace(cell=cell), True)
    clock.now = 60
    shown.tick()
    assert capsys.readouterr().out.endswith(" 60 s; deep_amtfl x digits: measuring stack sizes\n")


def test_the_table_of_a_terminal_shows_the_share_of_epochs_done(clock, cell, tmp_path):
    shown = showing(RunDisplay, clock, cell)
    shown.started(stack_of(cell), reach(tmp_path / "0", 50))
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(_table(shown))
    assert re.search(r"deep_amtfl x digits +0 +0 +4 +search, epoch 50 of 200 \(25 %\)", captured.get())
