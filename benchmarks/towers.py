"""Networks per task, batched, against plain loops over tasks: `python -m benchmarks.towers`.

50 tasks with as many classes as Omniglot's alphabets, 28 pixels, conv4, 8 rows of each task in a step. Ours is the
trainer's own step with R = 1; the loops are those of `benchmarks.task_loops`, with torch's default Adam and with its
fused one. Both draw their rows and turn bytes to numbers in each step. That both are the same network is checked first:
with the same weights they give the same outputs.

In turn and several times over each side takes a few steps; ratios are taken round by round, and their medians printed.
One process and one torch thread, unless asked for more. Ratios of processor time stand beside those of wall time: on a
machine with other work they say more. Where there is a CUDA device it is measured too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.devices import device_name, devices, seconds
from benchmarks.task_loops import CrossStitched, Loop, Related, SingleTasks
from mtbench.contracts.recipe import Recipe
from mtbench.tasks import Part, Problem, Task, TaskKind
from mtbench.testing.problems import Miniature, miniature_trials
from mtbench.training.gradient import GradientStack

GOAL = 5.0
CLASSES = (14, 55)  # the fewest and the most characters of an alphabet
PER_CLASS = 6  # so many rows that an epoch has more than STEPS steps
STEPS = 20  # that a side takes at most before the next has its turn
LOOPS: dict[str, type[Loop]] = {"stl_deep": SingleTasks, "cross_stitch": CrossStitched, "mrn": Related}


def main() -> None:
    """Measures each method on each device and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(LOOPS))
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--rows", type=int, default=8, help="rows of each task in a step")
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Only here: others measure with what is below, on machines where plugins cannot be installed.
    from mtbench.plugins.host import load_plugins

    plugins, rows = load_plugins(), []
    dataset = alphabets(options.tasks, options.side, options.rows)
    print(f"{'device':8} {'method':14} {'ms/step':>9} {'loop':>9} {'ratio':>6} {'fused':>6}   processor: ratio  fused")
    for device in devices():
        for name in options.methods.split(","):
            row = measure(plugins.method(name)(), dataset(), LOOPS[name], device, options.rounds)
            rows.append({"device": device_name(device), "threads": options.threads, **row})
            verdict = "met" if row["ratio" if device.type == "cuda" else "processor_ratio"] >= GOAL else "MISSED"
            wall = f"{row['ours']:9.1f} {row['loop']:9.1f} {row['ratio']:6.2f} {row['fused_ratio']:6.2f}"
            processor = f"{row['processor_ratio']:5.2f}  {row['fused_processor_ratio']:5.2f}"
            print(f"{device.type:8} {name:14} {wall}              {processor}  goal {GOAL:g} {verdict}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def alphabets(n_tasks: int, side: int, per_task: int) -> type[Miniature]:
    """A data set of random images in the shapes of Omniglot."""
    widths = np.random.default_rng(0).integers(*CLASSES, size=n_tasks, endpoint=True)

    class Alphabets(Miniature):
        name = "alphabets"
        title = "Random images in the shapes of Omniglot"
        selection_metric = report_metric = "error"
        recipe = Recipe(backbone="conv4", rows_per_task=per_task, dtype="float32")
        tasks = tuple(Task(f"alphabet_{t}", TaskKind.MULTICLASS, int(n)) for t, n in enumerate(widths))

        def generate(self, rng: np.random.Generator) -> dict[str, Part]:
            task = np.repeat(np.arange(n_tasks), widths * PER_CLASS)
            label = np.concatenate([np.repeat(np.arange(n), PER_CLASS) for n in widths])
            images = (255 * (rng.random((len(task), side, side)) < 0.1)).astype(np.uint8)
            part = Part(images, label[:, None].astype(np.float32), task)
            return {"train": part, "validation": part, "test": part}

    return Alphabets


class Ours:
    """The trainer of mtbench on one trial."""

    def __init__(self, method: Any, dataset: Miniature, problem: Problem, device: torch.device) -> None:
        trials = miniature_trials(method, dataset)
        self.stack = GradientStack(method, {0: problem}, trials, dataset, device)

    def steps(self, n: int) -> None:
        """Takes n steps."""
        self.stack.train_epoch(n)

    def check_same(self, loop: Loop) -> None:
        """With our weights the loop must give our outputs."""
        stack = self.stack
        loop.take({name: v[0].detach() for name, v in stack.models.leaves(stack.state.theta).items()})
        columns, per_task = stack.rows_to_predict(2 * loop.n_tasks)
        ours = stack.models.predict(stack.state, columns, per_task)[0].unflatten(0, (loop.n_tasks, -1))
        images = columns["inputs"].unflatten(0, (loop.n_tasks, -1))[:, :, None]
        loop.eval()
        with torch.no_grad():
            for t in range(loop.n_tasks):
                theirs = loop.outputs(t, images[t])
                torch.testing.assert_close(ours[t, :, : theirs.shape[1]], theirs, rtol=1e-3, atol=1e-4)
        loop.train()


class Looped:
    """A loop over tasks."""

    def __init__(self, loop: Loop, problem: Problem, per_task: int, device: torch.device, fused: bool) -> None:
        self.loop = loop.ready(device, fused)
        task = problem.parts["train"].task
        self._own = [np.flatnonzero(task == t) for t in range(problem.n_tasks)]
        self._per_task, self._device, self._rng = per_task, device, np.random.default_rng(0)

    def steps(self, n: int) -> None:
        """Takes n steps."""
        for _ in range(n):
            rows = np.stack([self._rng.choice(own, self._per_task, replace=False) for own in self._own])
            self.loop.step(torch.as_tensor(rows, device=self._device))


def measure(method: Any, dataset: Miniature, loop: type[Loop], device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step, ours and the loop's, and their ratios on the wall's and the processor's clock."""
    problem, per_task = dataset.load(Path(), 0, None), dataset.recipe.rows_per_task
    ours = Ours(method, dataset, problem, device)
    ours.check_same(loop(problem).ready(device, fused=False))
    sides = {
        "ours": ours,
        "loop": Looped(loop(problem), problem, per_task, device, fused=False),
        "fused": Looped(loop(problem), problem, per_task, device, fused=True),
    }
    counts = {}
    for name, side in sides.items():
        side.steps(2)  # the first steps allocate
        counts[name] = max(1, min(STEPS, round(1.0 / seconds(lambda side=side: side.steps(1), device)[0])))  # type: ignore[misc]
    found: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    for i in range(rounds):
        names = [*sides][i % 3 :] + [*sides][: i % 3]
        for name in names:
            n, side = counts[name], sides[name]
            found[name].append(1e3 * seconds(lambda n=n, side=side: side.steps(n), device) / n)  # type: ignore[misc]
    milliseconds = {name: np.array(values) for name, values in found.items()}
    ratios = {name: milliseconds[name] / milliseconds["ours"] for name in ("loop", "fused")}
    return {
        "method": method.name,
        "ours": median(milliseconds["ours"][:, 0]),
        "loop": median(milliseconds["loop"][:, 0]),
        "ratio": median(ratios["loop"][:, 0]),
        "processor_ratio": median(ratios["loop"][:, 1]),
        "fused_ratio": median(ratios["fused"][:, 0]),
        "fused_processor_ratio": median(ratios["fused"][:, 1]),
        "milliseconds": {name: values.tolist() for name, values in milliseconds.items()},
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
