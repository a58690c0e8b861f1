"""How long a report's scan of a large store takes: `python -m benchmarks.scan_store`.

Makes stores of 20,000 trials (12 tasks, two parts with one metric each) in a temporary directory, once as stacks of 25
and once as stacks of one, and prints the median time of several scans, and of whole commands: `mtbench report` on that
store, and the help texts, each in a process of its own. With `--compact` the same again after `mtbench store compact`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Cell, StackResult, Status, Trial
from mtbench.store import Store, scan
from mtbench.store.compact import compact
from mtbench.store.image import encode, result_id

N_TASKS = 12


def cells(n_methods: int) -> list[Cell]:
    recipe = Recipe()
    return [Cell(f"method_{i}", "1", "mtbench", "school", "1", {"n": 3}, "0" * 64, recipe) for i in range(n_methods)]


def stack_result(cell: Cell, first: int, n_trials: int) -> StackResult:
    rng = np.random.default_rng(first)
    trials = []
    for i in range(first, first + n_trials):
        params = {"learning_rate": 1e-3 * (1 + i), "alpha": 0.1, "gamma": 0.01, "hidden": 100}
        trials.append(Trial(cell, params, i % 5, i % 3))
    return StackResult(
        trials,
        [Status.FINISHED] * n_trials,
        [""] * n_trials,
        metrics={part: {"rmse": rng.random((n_trials, N_TASKS))} for part in ("validation", "test")},
        history={name: rng.random((n_trials, 40)) for name in ("epoch", "loss", "rmse")},
        best_epoch=np.arange(n_trials),
        train_seconds=rng.random(n_trials),
        n_parameters=np.full(n_trials, 12_345),
        provenance={
            "mtbench": "0.1.0",
            "torch": "2.13.0",
            "python": "3.11.7",
            "numpy": "2.4.6",
            "git": {"commit": "0" * 40, "dirty": False},
            "device": "cpu: a processor of some name",
            "stack_size": n_trials,
            "wall_seconds": float(rng.random()),
            "task_names": [f"task_{t}" for t in range(N_TASKS)],
            "selection_metric": "rmse",
            "report_metric": "rmse",
            "also_report": [],
            "metrics": {"rmse": {"higher_is_better": False, "per_task": True, "title": "RMSE, mean over tasks"}},
            "peak_memory": 123456789,
        },
    )


def fill(store: Store, n_trials: int, stack_size: int) -> None:
    """Writes the files without the syncs of publishing, which are not what is measured here."""
    made = cells(8)
    for number, first in enumerate(range(0, n_trials, stack_size)):
        result = stack_result(made[number % len(made)], first, stack_size)
        path = store.stack_path(result_id(result))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(result))


def measure(n_trials: int, stack_size: int, repeats: int, compacted: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory) / "store")
        begun = time.perf_counter()
        fill(store, n_trials, stack_size)
        print(f"{n_trials} trials in stacks of {stack_size} (written in {time.perf_counter() - begun:.1f} s)")
        show(read(store, n_trials, repeats))
        if compacted:
            begun = time.perf_counter()
            done = compact(store)
            seconds = time.perf_counter() - begun
            print(f"the same in {done.n_after} files instead of {done.n_before} (compacted in {seconds:.1f} s)")
            show(read(store, n_trials, repeats))


def read(store: Store, n_trials: int, repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each way to read a store."""
    times: dict[str, list[float]] = {"scan": [], "finished_ids": []}
    for _ in range(repeats):
        begun = time.perf_counter()
        found = scan(store)
        times["scan"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        n_finished = len(store.finished_ids())
        times["finished_ids"].append(time.perf_counter() - begun)
    assert n_finished == n_trials == sum(len(stack.ids) for stack in found.stacks)
    assert not found.unreadable
    times["mtbench report"] = commands(["report", str(store.path)], repeats)
    return times


def commands(arguments: list[str], repeats: int) -> list[float]:
    """Wall seconds of `mtbench ARGUMENTS`, each time in a new process."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mtbench", *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return seconds


def show(times: dict[str, list[float]]) -> None:
    for name, seconds in times.items():
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        print(f"  {name}: median {statistics.median(seconds):.3f} s of {len(seconds)} ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compact", action="store_true", help="also compact the stores and read them again")
    parser.add_argument("--stack-sizes", type=int, nargs="+", default=[25, 1])
    chosen = parser.parse_args()
    print("help texts")
    show(
        {f"mtbench {' '.join(words)}": commands(words, chosen.repeats) for words in (["--help"], ["report", "--help"])}
    )
    for stack_size in chosen.stack_sizes:
        measure(chosen.trials, stack_size, chosen.repeats, chosen.compact)


if __name__ == "__main__":
    main()
