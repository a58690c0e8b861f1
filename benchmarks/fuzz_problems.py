"""Random problems, half of them damaged: each must be refused in one line, or scored as a slow, plain reference does.

    python -m benchmarks.fuzz_problems --n 20000

Both layouts, all kinds of tasks mixed, labels missing anywhere, rows, classes and tasks with weights or without, inputs
and labels as any class, type, byte order and memory order. What is compared: the numbers of every part, every metric
that the problem allows, and the losses of batches, to 1e-6. `tests/test_fuzz_problems.py` runs some of the same, a few
of them through the trainer.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from mtbench import DataError, Part, Problem, Rows, Task, TaskKind
from mtbench.contracts.batch import TaskColumns
from mtbench.metrics import METRICS
from mtbench.training.data import PartData, batch_of

PARTS = ("train", "validation", "test")
CPU = torch.device("cpu")
TOLERANCE = 1e-6


@dataclass
class Plain:
    """One part as it is meant: float64 rows (images of bytes as fractions), labels, task and weight of each row."""

    inputs: np.ndarray
    labels: np.ndarray
    task: np.ndarray | None
    weights: np.ndarray


@dataclass
class Case:
    """A problem as a data set would give it.

    Attributes:
        tasks: Its tasks.
        given: Inputs, labels, task and weights of each part, in odd classes and types.
        plain: What they mean.
        damage: What is wrong with it; "" for nothing.
    """

    tasks: list[Task]
    given: dict[str, list[Any]]
    plain: dict[str, Plain]
    damage: str

    def problem(self) -> Problem:
        """Raises what a problem raises that checks itself."""
        return Problem("fuzz", 0, tuple(self.tasks), {name: Part(*given) for name, given in self.given.items()})


def random_case(rng: np.random.Generator) -> Case:
    tasks, own = _tasks(rng), bool(rng.random() < 0.5)
    row = [(int(rng.integers(1, 5)),), (2, 3), (2, 2, 2)][rng.choice(3, p=(0.7, 0.15, 0.15))]
    kind = str(rng.choice(["floats", "integers", "bytes", "bits"]))
    weighted = bool(rng.random() < 0.3)
    plain = {name: _plain(rng, tasks, own, row, kind) for name in PARTS}
    for part in plain.values() if weighted else ():
        part.weights = rng.integers(1, 7, len(part.labels)) / 4
    if rng.random() < 0.2 and not own and all(t.kind is TaskKind.BINARY for t in tasks):
        for part in plain.values():  # one class each, or no label at all
            part.labels[:] = np.eye(len(tasks))[rng.integers(len(tasks), size=len(part.labels))]
            part.labels[rng.random(len(part.labels)) < 0.3] = np.nan
    dress = _dress(rng, kind, row)
    given = {
        name: [
            dress(part.inputs),
            _labels(rng, part.labels),
            _task(rng, part.task),
            _weights(rng, part.weights, weighted),
        ]
        for name, part in plain.items()
    }
    if kind == "bytes" and len(row) > 1:
        for part in plain.values():
            part.inputs /= 255
    case = Case(tasks, given, plain, "")
    if rng.random() < 0.5:
        damages = [damage for damage in DAMAGES if damage is not _beyond or own]
        _damage(rng, case, damages[rng.integers(len(damages))])
    return case


def _tasks(rng: np.random.Generator) -> list[Task]:
    kinds = list(TaskKind) if rng.random() < 0.4 else [list(TaskKind)[rng.integers(4)]]
    found = []
    for t in range(rng.integers(1, 5)):
        kind = kinds[rng.integers(len(kinds))]
        n = 1 if kind is TaskKind.BINARY else int(rng.integers(1, 5))
        classes = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: n}.get(kind, 0) if rng.random() < 0.2 else 0
        weights = tuple(rng.integers(1, 5, classes) / 2) if classes else None
        found.append(Task(f"t{t}", kind, n, weights, float(rng.choice([1, 1, 1, 2.5]))))
    return found


def _plain(rng: np.random.Generator, tasks: list[Task], own: bool, row: tuple[int, ...], kind: str) -> Plain:
    n = int(rng.integers(1, 12))
    inputs = {
        "floats": lambda: rng.normal(size=(n, *row)).astype(np.float32),
        "integers": lambda: rng.integers(-100, 100, (n, *row)),
        "bytes": lambda: rng.integers(0, 256, (n, *row)),
        "bits": lambda: rng.integers(0, 2, (n, *row)),
    }[kind]().astype(np.float64)
    task = rng.integers(len(tasks), size=n) if own else None
    width = max(t.n_labels for t in tasks) if own else sum(t.n_labels for t in tasks)
    labels = np.full((n, width), np.nan)
    for i in range(n):
        start = 0
        for t, one in enumerate(tasks):
            if task is None or task[i] == t:
                labels[i, start : start + one.n_labels] = _values(rng, one, one.n_labels)
            start += 0 if own else one.n_labels
    mode = rng.choice(["none", "some", "rows", "column", "all"], p=(0.4, 0.3, 0.1, 0.17, 0.03))
    if mode == "some":
        labels[rng.random(labels.shape) < 0.4] = np.nan
    elif mode == "rows":
        labels[rng.random(n) < 0.5] = np.nan
    elif mode == "column":
        labels[:, rng.integers(width)] = np.nan
    elif mode == "all":
        labels[:] = np.nan
    return Plain(inputs, labels, task, np.ones(n))


def _values(rng: np.random.Generator, task: Task, n: int) -> np.ndarray:
    if task.kind is TaskKind.REGRESSION:
        return rng.normal(size=n).astype(np.float32) * 3
    return rng.integers(task.n_outputs if task.kind is TaskKind.MULTICLASS else 2, size=n)


def _dress(rng: np.random.Generator, kind: str, row: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    """How the inputs of all parts of a problem are given."""
    types = {
        "floats": ["f4", "f8", ">f4", ">f8", "g"],
        "integers": ["i1", "i2", ">i4", "i8", "f2", "f4", ">f8"],
        "bytes": ["u1"],
        "bits": ["?", "i1", "u2", ">u4", "u8", "f2", "f4"],
    }[kind]
    dtype, order = str(rng.choice(types)), int(rng.integers(5))
    classes = ["array", "rows", "read-only", "masked", "list", "tensor"]
    if len(row) == 1:
        classes += ["frame", "sparse"]
    kept = {"array", "rows", "read-only", "masked"}  # whose type of bytes stays; a list of them is no image
    if kind == "bytes" and len(row) > 1:
        classes = [name for name in classes if name in kept]
    name = str(rng.choice(classes))

    def dressed(values: np.ndarray) -> Any:
        array = _laid(values.astype(dtype), order)
        if name == "rows":
            base = np.concatenate([array, array[::-1]])
            return Rows(base, np.arange(len(array), dtype=rng.choice(["i4", "u2", "i8"])))
        if name == "read-only":
            array.flags.writeable = False
        if name == "tensor":
            return torch.tensor(array.astype(array.dtype.newbyteorder("=") if dtype != "g" else "f8").copy())
        made = {"masked": np.ma.masked_array, "list": lambda x: x.tolist(), "frame": pd.DataFrame}
        if name == "sparse":
            return scipy.sparse.csr_matrix(array.astype("f8"))
        return made.get(name, lambda x: x)(array.astype("f8") if name in ("list", "frame") else array)

    return dressed


def _laid(array: np.ndarray, order: int) -> np.ndarray:
    """The same values, otherwise in memory."""
    if order == 1:
        return np.asfortranarray(array)
    if order == 2:
        return np.ascontiguousarray(array[::-1])[::-1]
    if order == 3:
        return np.repeat(array, 2, -1)[..., ::2]
    if order == 4:
        packed = np.zeros(array.shape, [("pad", "i1"), ("value", array.dtype)])
        packed["value"] = array
        return packed["value"]
    return array


def _labels(rng: np.random.Generator, labels: np.ndarray) -> Any:
    whole = not np.isnan(labels).any() and (labels == np.floor(labels)).all() and (labels >= 0).all()
    array = labels.astype(str(rng.choice(["u1", "i4", ">i8", "f2"] if whole else ["f4", "f8", ">f4"])))
    array = _laid(array, int(rng.integers(5)))
    name = rng.choice(["array", "list", "tensor", "frame", "masked"])
    if name == "list":
        return array.tolist()
    if name == "tensor":
        return torch.tensor(array.astype("f8"))
    if name == "frame":
        return pd.DataFrame(array.astype("f8"))
    if name == "masked":
        return np.ma.masked_array(np.nan_to_num(labels), np.isnan(labels))
    return array


def _task(rng: np.random.Generator, task: np.ndarray | None) -> Any:
    if task is None:
        return None
    given = task.astype(str(rng.choice(["i1", "u1", ">i4", "i8", "u8"])))
    return [given, given.tolist(), pd.Series(given.astype("i8"))][rng.integers(3)]


def _weights(rng: np.random.Generator, weights: np.ndarray, weighted: bool) -> Any:
    if not weighted:
        return None
    return [weights, weights.tolist(), pd.Series(weights), weights.astype(">f4")][rng.integers(4)]


def _damage(rng: np.random.Generator, case: Case, damage: Callable[..., None]) -> None:
    name = PARTS[rng.integers(3)]
    damage(rng, case, name)
    case.damage = damage.__name__.strip("_")


def _place(rng: np.random.Generator, case: Case, name: str) -> tuple[int, int, Task]:
    """A label that some task has: its row, column and task."""
    part = case.plain[name]
    i = int(rng.integers(len(part.labels)))
    if part.task is not None:
        task = case.tasks[part.task[i]]
        return i, int(rng.integers(task.n_labels)), task
    owners = [task for task in case.tasks for _ in range(task.n_labels)]
    column = int(rng.integers(len(owners)))
    return i, column, owners[column]


def _label_value(rng: np.random.Generator, case: Case, name: str) -> None:
    i, column, task = _place(rng, case, name)
    above = {TaskKind.REGRESSION: 1e300, TaskKind.MULTICLASS: task.n_outputs}.get(task.kind, 2)
    below = -1.0 if task.kind is not TaskKind.REGRESSION else -np.inf
    wrong = [above, below, 0.5 if task.kind is not TaskKind.REGRESSION else np.inf, np.inf]
    case.given[name][1] = case.plain[name].labels.copy()
    case.given[name][1][i, column] = wrong[rng.integers(4)]


def _beyond(rng: np.random.Generator, case: Case, name: str) -> None:
    labels = np.concatenate([case.plain[name].labels, np.full((len(case.plain[name].labels), 1), np.nan)], 1)
    case.tasks.append(Task("wide", TaskKind.MULTILABEL, labels.shape[1]))
    for part in PARTS:
        found = case.plain[part].labels
        case.given[part][1] = np.concatenate([found, np.full((len(found), 1), np.nan)], 1)
    case.given[name][1][rng.integers(len(labels)), -1] = 1


def _label_class(rng: np.random.Generator, case: Case, name: str) -> None:
    labels = case.plain[name].labels
    wrong = [labels.astype(str), labels.astype(object), labels.astype(complex), [[None]] * len(labels), None, "labels"]
    case.given[name][1] = wrong[rng.integers(len(wrong))]


def _label_shape(rng: np.random.Generator, case: Case, name: str) -> None:
    labels = case.plain[name].labels
    wrong = [labels[:, 0], labels[:-1], np.concatenate([labels, labels], 1), labels[None], labels.ravel()[:0]]
    case.given[name][1] = wrong[rng.integers(len(wrong))]


def _input_value(rng: np.random.Generator, case: Case, name: str) -> None:
    inputs = case.plain[name].inputs.copy()
    inputs.flat[rng.integers(inputs.size)] = [np.nan, np.inf, -np.inf, 1e39, -1e300][rng.integers(5)]
    case.given[name][0] = [inputs, Rows(inputs, np.arange(len(inputs))), inputs.astype(">f8")][rng.integers(3)]


def _input_class(rng: np.random.Generator, case: Case, name: str) -> None:
    inputs = case.plain[name].inputs
    ragged = [[1.0], [1.0, 2.0]]
    wrong = [inputs.astype(str), inputs.astype(object), inputs * 1j, ragged, {"a": 1}, inputs.astype("M8[s]"),
             pd.DataFrame({"a": ["x"] * len(inputs)}), torch.zeros(2, 2, dtype=torch.complex64)]  # fmt: skip
    case.given[name][0] = wrong[rng.integers(len(wrong))]


def _input_shape(rng: np.random.Generator, case: Case, name: str) -> None:
    inputs = case.plain[name].inputs
    wrong = [inputs.reshape(len(inputs), -1)[:, 0], inputs[:0], np.repeat(inputs, 2, -1), inputs[None][:, :, :0], 3.0]
    case.given[name][0] = wrong[rng.integers(len(wrong))]


def _task_number(rng: np.random.Generator, case: Case, name: str) -> None:
    task = case.plain[name].task
    if task is None:
        case.given[name][2] = np.zeros(len(case.plain[name].labels), np.int64)  # in one part only
        return
    out = task.copy()
    out[rng.integers(len(out))] = [-1, len(case.tasks)][rng.integers(2)]
    wrong = [out, task.astype(float), task.astype(str), task[:-1], task[:, None], None]
    case.given[name][2] = wrong[rng.integers(len(wrong))]


def _weight(rng: np.random.Generator, case: Case, name: str) -> None:
    weights = case.plain[name].weights.copy()
    weights[rng.integers(len(weights))] = [-1, np.nan, np.inf][rng.integers(3)]
    wrong = [weights, 0 * case.plain[name].weights, weights[:0], weights[:, None], weights.astype(str)]
    case.given[name][3] = wrong[rng.integers(len(wrong))]


def _row_number(rng: np.random.Generator, case: Case, name: str) -> None:
    inputs = case.plain[name].inputs
    index = np.arange(len(inputs))
    index[-1] = [-1, len(inputs)][rng.integers(2)]
    case.given[name][0] = Rows(inputs, [index, index.astype(float), index > 0][rng.integers(3)])


DAMAGES: list[Callable[..., None]] = [
    _label_value, _beyond, _label_class, _label_shape, _input_value, _input_class, _input_shape, _task_number,
    _row_number, _weight,
]  # fmt: skip


def check(case: Case, rng: np.random.Generator) -> str:
    """Makes sure of one case.

    Returns:
        "refused" or "scored".

    Raises:
        AssertionError: It was neither.
    """
    try:
        problem = case.problem()
    except DataError as error:
        if not case.damage:
            raise AssertionError(f"nothing is wrong with it, but: {error}") from error
        assert_one_line(error)
        return "refused"
    assert not case.damage, f"'{case.damage}' was not found out"
    for name, plain in case.plain.items():
        _check_part(problem, name, plain, rng)
    return "scored"


def assert_one_line(error: Exception) -> None:
    text = str(error)
    assert "\n" not in text, text
    assert text.startswith("fuzz"), f"it does not say whose it is: {text}"


def _check_part(problem: Problem, name: str, plain: Plain, rng: np.random.Generator) -> None:
    part = problem.parts[name]
    close(part.numbers(), plain.inputs, "inputs")
    close(part.labels, plain.labels, "labels")
    width = problem.n_outputs if plain.task is None else max(t.n_outputs for t in problem.tasks)
    predictions = 2 * rng.normal(size=(2, len(plain.labels), width))
    for measure in METRICS.values():
        try:
            found = measure.compute(problem, part, predictions)
        except DataError as error:
            assert_one_line(error)
            if allowed(measure.name, problem, plain):
                raise AssertionError(f"{measure.name} was refused: {error}") from error
            continue
        assert allowed(measure.name, problem, plain), f"{measure.name} must not be computed here"
        assert found.shape == ((2, problem.n_tasks) if measure.per_task else (2,)), measure.name
        if measure.name not in REFERENCES:  # tests/metrics holds it against scikit-learn
            continue
        for r in range(2):
            close(found[r], reference(measure.name, problem.tasks, plain, predictions[r]), measure.name)
    outputs = 2 * rng.normal(size=(len(plain.labels), problem.n_outputs))
    _check_losses(problem, name, plain, outputs, rng)


def _check_losses(problem: Problem, name: str, plain: Plain, outputs: np.ndarray, rng: np.random.Generator) -> None:
    rows = rng.permutation(len(outputs))[: rng.integers(1, len(outputs) + 1)]
    columns = PartData([problem], name, CPU, torch.float64).rows(0, torch.from_numpy(rows))
    batch = batch_of(columns, TaskColumns.of(problem.without_test(), CPU))
    close(batch.inputs.numpy(), plain.inputs[rows], "inputs of a batch")
    task = None if plain.task is None else plain.task[rows]
    some = Plain(plain.inputs[rows], plain.labels[rows], task, plain.weights[rows])
    found, scales = torch.from_numpy(outputs[rows]), scales_of(problem.tasks, plain)
    by_task = batch_reference(problem.tasks, some, outputs[rows], scales)
    close(batch.task_losses(found).numpy(), by_task, "losses of a batch")
    close(batch.pooled_loss(found).numpy(), pooled_reference(problem.tasks, some, outputs[rows], scales), "pooled loss")


def close(found: Any, expected: Any, what: str) -> None:
    np.testing.assert_allclose(found, expected, TOLERANCE, TOLERANCE, err_msg=what)


def allowed(name: str, problem: Problem, plain: Plain) -> bool:
    """Whether a metric means something there."""
    kinds = {task.kind for task in problem.tasks}
    if name in ("rmse", "pooled_rmse", "nrmse", "rrmse", "mae", "r2"):
        return kinds == {TaskKind.REGRESSION}
    if name in ("error", "balanced_error", "macro_f1", "micro_f1", "auc", "average_precision", "log_loss", "brier"):
        return TaskKind.REGRESSION not in kinds
    if name == "map_at_10":
        return kinds == {TaskKind.MULTILABEL}
    if name == "one_vs_all_error":
        rows = [row.tolist() for row in plain.labels]
        whole = [
            all(math.isnan(v) for v in row) or (row.count(1) == 1 and row.count(0) == len(row) - 1) for row in rows
        ]
        return kinds == {TaskKind.BINARY} and plain.task is None and all(whole)
    return True


Found = list[tuple[list, list, float]]
"""Rows of one task: outputs, labels of which some are NaN, and what they count for."""


def pairs(tasks: Any, plain: Plain, outputs: np.ndarray, all_outputs: bool) -> list[Found]:
    """The rows of each task."""
    found: list[Found] = [[] for _ in tasks]
    for i in range(len(plain.labels)):
        label_at = output_at = 0
        for t, task in enumerate(tasks):
            if plain.task is None or plain.task[i] == t:
                first = label_at if plain.task is None else 0
                start = output_at if plain.task is None or all_outputs else 0
                label = plain.labels[i, first : first + task.n_labels].tolist()
                weight = plain.weights[i]
                if task.class_weights is not None and not math.isnan(label[0]):
                    weight *= task.class_weights[int(label[0])]
                found[t].append((outputs[i, start : start + task.n_outputs].tolist(), label, weight))
            label_at += task.n_labels
            output_at += task.n_outputs
    return found


def losses_of(task: Task, out: list, label: list) -> list[float]:
    """The losses of one row's labels that are there."""
    if task.kind is TaskKind.MULTICLASS:
        if math.isnan(label[0]):
            return []
        return [math.log(sum(math.exp(o) for o in out)) - out[int(label[0])]]
    known = [(o, y) for o, y in zip(out, label, strict=True) if not math.isnan(y)]
    if task.kind is TaskKind.REGRESSION:
        return [(o - y) ** 2 for o, y in known]
    return [math.log(1 + math.exp(o)) - o * y for o, y in known]


def errors_of(task: Task, out: list, label: list) -> list[float]:
    if task.kind is TaskKind.MULTICLASS:
        return [] if math.isnan(label[0]) else [100.0 * (out.index(max(out)) != label[0])]
    return [100.0 * ((o > 0) != (y == 1)) for o, y in zip(out, label, strict=True) if not math.isnan(y)]


def precision_of(out: list, label: list) -> list[float]:
    known = [(o, y) for o, y in zip(out, label, strict=True) if not math.isnan(y)]
    if not any(y == 1 for _, y in known):
        return []
    hits, total = 0, 0.0
    for rank, (_, y) in enumerate(sorted(known, key=lambda pair: -pair[0])[:10], start=1):
        if y == 1:
            hits += 1
            total += hits / rank
    return [100 * total / min(sum(y == 1 for _, y in known), 10)]


def mean(values: list[tuple[float, float]]) -> float:
    """Of (value, weight)."""
    return sum(v * w for v, w in values) / sum(w for _, w in values) if values else math.nan


REFERENCES = ("rmse", "pooled_rmse", "error", "one_vs_all_error", "map_at_10", "log_loss", "loss")
"""Metrics that `reference` knows."""


def reference(name: str, tasks: Any, plain: Plain, outputs: np.ndarray, all_outputs: bool = False) -> Any:
    """A metric by loops over tasks, rows and labels."""
    rows = pairs(tasks, plain, outputs, all_outputs)
    if name == "one_vs_all_error":
        of_class: list[list[tuple[float, float]]] = [[] for _ in tasks]
        for out, label, weight in zip(outputs.tolist(), plain.labels.tolist(), plain.weights, strict=True):
            if 1 in label:
                of_class[label.index(1)].append((100.0 * (out.index(max(out)) != label.index(1)), weight))
        return [mean(values) for values in of_class]
    if name == "pooled_rmse":
        squared = [
            (v, w * tasks[t].weight) for t, found in enumerate(rows) for out, y, w in found
            for v in losses_of(tasks[t], out, y)
        ]  # fmt: skip
        return math.sqrt(mean(squared)) if squared else math.nan
    of_row = {"error": errors_of, "map_at_10": lambda _, out, y: precision_of(out, y)}.get(name, losses_of)
    values = [mean([(v, w) for out, y, w in found for v in of_row(tasks[t], out, y)]) for t, found in enumerate(rows)]
    return [math.sqrt(v) for v in values] if name == "rmse" else values


def scales_of(tasks: Any, plain: Plain) -> list[float]:
    """What each task's weighted losses are multiplied by in training: weights are 1 on average, as are tasks'."""
    zeros = np.zeros((len(plain.labels), sum(task.n_outputs for task in tasks)))
    found, total = [], sum(task.weight for task in tasks)
    for task, rows in zip(tasks, pairs(tasks, plain, zeros, True), strict=True):
        weights = [w for _, label, w in rows for y in label if not math.isnan(y)]
        found.append(task.weight * len(tasks) / total * len(weights) / sum(weights) if weights else math.nan)
    return found


def batch_reference(tasks: Any, some: Plain, outputs: np.ndarray, scales: list[float]) -> list[float]:
    """The loss of each task over some rows of a part."""
    found = []
    for task, rows, scale in zip(tasks, pairs(tasks, some, outputs, True), scales, strict=True):
        losses = [scale * w * loss for out, y, w in rows for loss in losses_of(task, out, y)]
        found.append(sum(losses) / len(losses) if losses else 0.0)
    return found


def pooled_reference(tasks: Any, some: Plain, outputs: np.ndarray, scales: list[float]) -> float:
    """The mean over labelled pairs of a row and a task of the mean loss of its labels."""
    rows = pairs(tasks, some, outputs, True)
    found = [(losses_of(tasks[t], out, y), scales[t] * w) for t, of_task in enumerate(rows) for out, y, w in of_task]
    known = [w * sum(losses) / len(losses) for losses, w in found if losses]
    return sum(known) / len(known) if known else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf)
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    counts: Counter[str] = Counter()
    started = time.monotonic()
    for i in range(arguments.seed, arguments.seed + arguments.n):
        if time.monotonic() - started > arguments.seconds:
            break
        rng = np.random.default_rng(i)
        case = random_case(rng)
        try:
            counts[check(case, rng)] += 1
        except Exception as error:
            counts["other"] += 1
            print(
                f"seed {i}, {case.damage or 'no damage'}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        counts[f"damage: {case.damage or 'none'}"] += 1
    print(f"{sum(counts[k] for k in ('refused', 'scored', 'other'))} problems in {time.monotonic() - started:.0f} s")
    for name in ("refused", "scored", "other", *sorted(k for k in counts if ":" in k)):
        print(f"  {name}: {counts[name]}")
    sys.exit(counts["other"] > 0)


if __name__ == "__main__":
    main()
