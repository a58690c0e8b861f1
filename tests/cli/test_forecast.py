"""Time left: within a factor of two of the truth after a quarter of the work, on runs whose every duration is known."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest

from mtbench.cli.costs import REFIT, SEARCH
from mtbench.cli.forecast import Forecast, in_words


@dataclass
class Plan:
    """A run: cells by (method, data set) with worker-seconds per search trial, run in order by some workers."""

    costs: dict[tuple[str, str], float]
    n_search: int = 40
    n_refit: int = 5
    refit_factor: float = 1.0
    size: int = 8
    n_workers: int = 2
    stops_at: float = 1.0  # share of its epochs after which a search stack ends
    measured: bool = False
    noise: float = 0.2
    kinds: dict[str, str] = field(default_factory=dict)

    def stacks(self):
        """(cell, phase, trials, seconds), in the order in which they are queued: refits behind all searches."""
        rng = random.Random(1)
        found = []
        for phase, n_trials in ((SEARCH, self.n_search), (REFIT, self.n_refit)):
            for cell, cost in self.costs.items():
                for start in range(0, n_trials, self.size):
                    n = min(self.size, n_trials - start)
                    factor = (self.refit_factor if phase == REFIT else 1.0) * math.exp(rng.gauss(0, self.noise))
                    found.append((cell, phase, n, n * cost * factor))
        return found

    def forecast(self):
        """A forecast that knows of this run what the harness knows when it begins."""
        forecast = Forecast()
        for (method, dataset), cost in self.costs.items():
            key = f"{method} x {dataset}"
            forecast.add(key, method, dataset, self.kinds.get(method, "GradientMethod"))
            forecast.expect(key, SEARCH, self.n_search)
            forecast.expect(key, REFIT, self.n_refit)
            if self.measured:
                forecast.measured(key, cost / 50)
        return forecast

    def run(self):
        """Looks at the run again and again: (share of the work done, seconds said to be left, seconds truly left)."""
        forecast, queue, now = self.forecast(), self.stacks(), 0.0
        running: list[tuple[float, int]] = []
        stacks, since = dict(enumerate(queue)), {}
        work = sum(seconds for *_, seconds in queue)
        looks, waiting = [], list(stacks)
        while waiting or running:
            while waiting and len(running) < self.n_workers:
                i = waiting.pop(0)
                (method, dataset), phase, n, seconds = stacks[i]
                forecast.started(str(i), f"{method} x {dataset}", phase, n, now)
                since[i] = now
                heapq.heappush(running, (now + seconds, i))
            for step in range(4):
                at = now + (running[0][0] - now) * step / 4
                done = sum(min(at - since[i], stacks[i][3]) for i in since)
                looks.append((done / work, at, forecast.seconds_left(at, self.shares(at, running, since, stacks))))
            now, i = heapq.heappop(running)
            (method, dataset), phase, n, seconds = stacks[i]
            share = self.stops_at if phase == SEARCH else 1.0
            forecast.ended(str(i), f"{method} x {dataset}", phase, n, now, share)
        return [(share, left, now - at) for share, at, left in looks], now

    def shares(self, now, running, since, stacks):
        """What progress files say: shares of the epochs at most."""
        stop = {i: self.stops_at if stacks[i][1] == SEARCH else 1.0 for _, i in running}
        return {str(i): stop[i] * min((now - since[i]) / stacks[i][3], 1.0) for _, i in running}


METHODS = {f"m{i}": cost for i, cost in enumerate((1.0, 3.0, 0.5, 2.0, 1.5, 4.0))}

RUNS = {
    "one cell": Plan({("m", "d"): 10.0}),
    "methods alike": Plan({(m, "d"): 10.0 for m in METHODS}),
    "methods that differ": Plan({(m, "d"): 10.0 * cost for m, cost in METHODS.items()}),
    "data sets that differ tenfold": Plan(
        {(m, d): cost * scale for d, scale in (("a", 1.0), ("b", 10.0), ("c", 3.0)) for m, cost in METHODS.items()}
    ),
    "refits that are half of all": Plan({(m, "d"): 10.0 for m in METHODS}, n_search=10, n_refit=10),
    "refits that cost more, in small stacks": Plan({(m, "d"): 10.0 for m in METHODS}, 100, 5, 4.0, size=50),
    "refits that cost less": Plan({(m, "d"): 10.0 for m in METHODS}, 20, 10, 0.5),
    "searches that stop early": Plan({(m, "d"): 10.0 for m in METHODS}, stops_at=0.2),
    "long stacks, four workers": Plan({(m, "d"): 10.0 for m in METHODS}, size=40, n_workers=4),
    "methods ever dearer, measured": Plan({(f"m{i}", "d"): 2.0**i for i in range(7)}, measured=True),
    "methods ever cheaper, measured": Plan({(f"m{i}", "d"): 2.0**-i for i in range(7)}, measured=True),
    "much noise": Plan({(m, "d"): 10.0 for m in METHODS}, noise=0.6),
    "solvers first": Plan(
        {**{(f"s{i}", "d"): 0.05 for i in range(4)}, **{(m, "d"): 10.0 for m in METHODS}},
        kinds={f"s{i}": "solver" for i in range(4)},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_after_a_quarter_of_the_work_time_left_is_within_a_factor_of_two(name):
    looks, total = RUNS[name].run()
    judged = [(said, true) for share, said, true in looks if share >= 0.25 and true > 0.05 * total]
    assert len(judged) > 5
    off = [(said, true) for said, true in judged if said is None or not 0.5 <= said / true <= 2.0]
    assert off == []


def test_nothing_is_said_before_anything_is_known():
    forecast = RUNS["one cell"].forecast()
    assert forecast.seconds_left(0.0, {}) is None
    forecast.started("0", "m x d", SEARCH, 8, 0.0)
    assert forecast.seconds_left(1.0, {}) is None
    assert forecast.seconds_left(1.0, {"0": 0.01}) is None
    assert forecast.seconds_left(8.0, {"0": 0.1}) == pytest.approx(80 * 45 / 8 - 8)


def test_refits_to_come_are_counted_before_any_is_queued():
    with_refits, without = Plan({("m", "d"): 10.0}, 8, 8), Plan({("m", "d"): 10.0}, 8, 0)
    for plan, left in ((with_refits, 80.0), (without, 0.0)):
        forecast = plan.forecast()
        forecast.started("0", "m x d", SEARCH, 8, 0.0)
        forecast.ended("0", "m x d", SEARCH, 8, 80.0)
        assert forecast.seconds_left(80.0, {}) == left


def test_stacks_that_another_run_trains_count_as_done_and_tell_no_cost():
    forecast = Plan({("m", "d"): 10.0}, 16, 0).forecast()
    forecast.ended("0", "m x d", SEARCH, 8, 1.0)
    assert forecast.seconds_left(1.0, {}) is None
    forecast.started("1", "m x d", SEARCH, 4, 1.0)
    forecast.ended("1", "m x d", SEARCH, 4, 5.0)
    assert forecast.seconds_left(5.0, {}) == 4.0


def test_a_stack_that_takes_longer_than_expected_never_makes_time_left_negative():
    forecast = Plan({("m", "d"): 10.0}, 16, 0).forecast()
    forecast.started("0", "m x d", SEARCH, 8, 0.0)
    forecast.ended("0", "m x d", SEARCH, 8, 8.0)
    forecast.started("1", "m x d", SEARCH, 8, 8.0)
    assert forecast.seconds_left(1000.0, {}) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"), (45, "45 s"), (59.4, "59 s"), (59.6, "1 min"), (2958, "49 min"), (3599, "1 h"),
        (4800, "1 h 20 min"), (7200, "2 h"), (86399, "1 d"), (100_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_times_are_told_in_minutes_and_hours(seconds, words):
    assert in_words(seconds) == words
