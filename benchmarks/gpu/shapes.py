"""Generated data in the shapes of real data sets, so that nothing has to be downloaded.

Shapes: T tasks, n training rows, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.towers import alphabets
from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Trial
from mtbench.tasks import Part, Rows, Task, TaskKind
from mtbench.testing.problems import Miniature, miniature_trials


@dataclass(frozen=True)
class Shape:
    """A method on generated data.

    Attributes:
        name: Of the data set whose shape it is.
        method: The method.
        dataset: The generated data set.
        sizes: Stack sizes whose speed is measured.
        memory_sizes: Stack sizes whose memory is measured.
        n_splits: Splits that the trials of a stack are of, in equal shares where R allows.
    """

    name: str
    method: str
    dataset: type[Miniature]
    sizes: Sequence[int]
    memory_sizes: Sequence[int]
    n_splits: int = 1

    def trials(self, method: Method, r: int) -> list[Trial]:
        """R trials, ordered by split."""
        n_splits = min(self.n_splits, r)
        each = -(-r // n_splits)
        return miniature_trials(method, self.dataset(), [{}] * each, range(n_splits))[:r]


def shapes(small: bool) -> list[Shape]:
    """All shapes, or miniatures of them."""
    if small:
        return [
            Shape("tiny", "nn", tables("tiny", 3, 30, 400, Recipe(hidden=6, batch_size=50)), (1, 4), (1, 4), 2),
            Shape("lenet", "deep_amtfl", images("lenet", 3, 40, (16, 16), Recipe(batch_size=20)), (1, 2), (1, 2)),
            Shape("resnet18", "cnn", images("resnet18", 3, 16, (3, 16, 16), _resnet(8)), (1,), ()),
        ]
    tiny = tables("tiny", 12, 30, 50, Recipe(hidden=6, activation="identity", intercept=False, batch_size=50))
    school = tables("school", 139, 28, 55, Recipe(hidden=15, intercept=False, batch_size=500))
    lenet = images("lenet", 10, 1100, (28, 28), Recipe(backbone="lenet", batch_size=100, learning_rate=1e-4))
    resnet = images("resnet18", 50, 1024, (3, 64, 64), _resnet(32))
    return [
        Shape("tiny", "nn", tiny, (1, 16, 256, 1024, 4096), (1, 256, 1024), 5),
        Shape("school", "amtfl", school, (1, 16, 64, 256), (1, 64), 5),
        Shape("lenet", "deep_amtfl", lenet, (1, 4, 16, 64), (1, 4, 16)),
        Shape("conv4 towers", "stl_deep", alphabets(50, 28, 8), (1, 2, 4), (1, 2)),
        Shape("conv4 towers", "cross_stitch", alphabets(50, 28, 8), (1,), (1,)),
        Shape("resnet18", "cnn", resnet, (1, 2, 4), (1, 2)),
    ]


def _resnet(batch: int) -> Recipe:
    return Recipe(backbone="resnet18", batch_size=batch)


def tables(name: str, n_tasks: int, d: int, per_task: int, recipe: Recipe) -> type[Miniature]:
    """Linear regression, rows of their own for each task."""

    class Tables(Miniature):
        title = f"Random tables in the shape of {name}"
        selection_metric = report_metric = "rmse"
        tasks = tuple(Task(f"task_{t}", TaskKind.REGRESSION) for t in range(n_tasks))
        n_splits = 5

        def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
            W = rng.normal(size=(d, n_tasks))
            task = np.repeat(np.arange(n_tasks), per_task)

            def part() -> Part:
                x = rng.normal(size=(len(task), d)).astype(np.float32)
                y = (x * W[:, task].T).sum(1, keepdims=True) + rng.normal(size=(len(task), 1))
                return Part(x, y.astype(np.float32), task)

            return {"train": part(), "validation": part(), "test": part()}

    Tables.name, Tables.recipe = f"shape_{name}", recipe
    return Tables


def images(name: str, n_tasks: int, n: int, shape: tuple[int, ...], recipe: Recipe) -> type[Miniature]:
    """One-vs-all classes of random images that all parts share."""

    @cache
    def base() -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        classes = np.arange(n) % n_tasks
        patterns = rng.integers(0, 128, (n_tasks, *shape))
        return (patterns[classes] + rng.integers(0, 128, (n, *shape))).astype(np.uint8), classes

    class Images(Miniature):
        title = f"Random images in the shape of {name}"
        selection_metric = report_metric = "one_vs_all_error"
        tasks = tuple(Task(f"class_{t}", TaskKind.BINARY) for t in range(n_tasks))

        def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
            pixels, classes = base()
            order = rng.permutation(n)
            part = Part(Rows(pixels, order), np.eye(n_tasks, dtype=np.float32)[classes[order]])
            return {"train": part, "validation": part, "test": part}

    Images.name, Images.recipe = f"shape_{name}", recipe
    return Images
