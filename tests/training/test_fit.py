"""Fit methods: what they are handed, what they must give back, and that they leave no trace."""

from __future__ import annotations

import os
import random
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtbench import FitMethod, PluginError, Predictor, Reference, TargetPredictors, tunable
from mtbench.contracts.trials import Status
from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedImages, SharedRegression, miniature_trials
from mtbench.training import train_stack


@dataclass(frozen=True, kw_only=True)
class Params:
    shift: float = tunable(0.0, grid=(0.0, 1.0))


class Drawn(Predictor):
    """Outputs [n, O] that a function gives."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def predict(self, inputs: Any, task: Any) -> Any:
        return self.make(inputs, task)


class Means(FitMethod):
    name = "means"
    reference = Reference("A test", "here")
    Params = Params

    def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
        means = {t.outputs.start: y.mean() for t, _, y in train.by_target()}
        n = sum(task.n_outputs for task in train.tasks)
        row = np.array([means.get(j, 0.0) + params.shift for j in range(n)])
        return Drawn(lambda inputs, task: np.tile(row, (len(inputs), 1)))


def trained(method: Any, dataset: Any, settings: Any = ({},), **changes: Any) -> Any:
    trials = miniature_trials(method, dataset, settings, **changes)
    return train_stack(method, {s: dataset.load(Path(), s, None) for s in {t.split for t in trials}}, trials, dataset)


def fitting(function: Any) -> FitMethod:
    class Bad(FitMethod):
        name = "bad"
        reference = Reference("A test", "here")

        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            return function(train)

    return Bad()


def predicting(make: Any) -> FitMethod:
    return fitting(lambda train: Drawn(make))


def write(array: Any) -> Any:
    array[0] = 0.0


def fails(train: Any) -> Any:
    raise KeyError("nothing\nhere")


BAD = [
    (fitting(lambda train: None), r"`fit` must return a mtbench\.Predictor; found None \(is a `return` missing\?\)"),
    (fitting(lambda train: train), r"`fit` must return a mtbench\.Predictor; found a Examples"),
    (fitting(fails), r"`fit` must not raise; found KeyError: 'nothing\\nhere'"),
    (fitting(lambda train: write(train.inputs)), r"`fit` must not raise; found ValueError: .*read-only.* take a copy"),
    (fitting(lambda train: write(train.labels)), r"`fit` must not raise; found ValueError: .*read-only"),
    (fitting(lambda train: [write(y) for _, _, y in train.by_target()]), r"`fit` must not raise; .*read-only"),
    (predicting(lambda x, t: x @ np.zeros((5, 3))), r"`Drawn\.predict` must return .* \[20, 4\]; found \[20, 3\] of"),
    (predicting(lambda x, t: np.zeros((len(x), 1))), r"\[n, O\] = \[20, 4\]; found \[20, 1\] of float64"),
    (predicting(lambda x, t: np.zeros((len(x), 4), complex)), r"found \[20, 4\] of complex128"),
    (predicting(lambda x, t: np.full((len(x), 4), "1")), r"found \[20, 4\] of <U1"),
    (predicting(lambda x, t: [[0.0] * 4] * len(x)), r"a numpy array of numbers, .*; found a list"),
    (predicting(lambda x, t: None), r"`Drawn\.predict` .*; found None \(is a `return` missing\?\)"),
    (predicting(lambda x, t: np.full((len(x), 4), np.nan)), r"`Drawn\.predict` must return finite outputs; found nan"),
    (predicting(lambda x, t: np.full((len(x), 4), np.inf)), r"must return finite outputs; found inf in"),
    (predicting(lambda x, t: write(x)), r"`Drawn\.predict` must not raise; found ValueError: .*read-only"),
]


@pytest.mark.parametrize(("method", "said"), BAD)
@pytest.mark.parametrize("dataset", [SharedRegression, OwnRegression])
def test_a_bad_fit_method_is_told_in_one_line_that_names_its_function(method, said, dataset):
    with pytest.raises(PluginError, match=said) as caught:
        trained(method, dataset())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("Method 'bad': ")
    assert re.search(r"test_fit\.py, line \d", str(caught.value))


def test_a_write_to_the_tasks_of_rows_is_refused_too():
    with pytest.raises(PluginError, match="read-only"):
        trained(fitting(lambda train: write(train.task)), OwnRegression())
    with pytest.raises(PluginError, match=r"`Drawn\.predict` .*read-only"):
        trained(predicting(lambda x, t: write(t)), OwnRegression())


def test_nothing_that_is_handed_over_shares_memory_with_the_problem():
    seen = []
    dataset = OwnRegression()
    problem = dataset.load(Path(), 0, None)
    method = fitting(lambda train: seen.append(train) or Drawn(lambda x, t: np.zeros((len(x), 4))))
    train_stack(method, {0: problem}, miniature_trials(method, dataset), dataset)
    for name in ("inputs", "labels", "task"):
        assert not np.shares_memory(getattr(seen[0], name), getattr(problem.parts["train"], name))


def test_what_is_handed_over_has_training_and_validation_rows_only():
    seen = []

    class Nosy(Means):
        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            seen.append((train, validation))
            return super().fit(train, validation, params, seed)

    dataset = OwnRegression()
    trained(Nosy(), dataset)
    trained(Nosy(), dataset, epochs=3)
    problem = dataset.load(Path(), 0, None)
    (train, validation), (joined, none) = seen
    np.testing.assert_array_equal(train.inputs, problem.parts["train"].inputs)
    np.testing.assert_array_equal(validation.labels, problem.parts["validation"].labels)
    np.testing.assert_array_equal(joined.inputs, problem.refit().parts["train"].inputs)
    assert none is None
    assert train.inputs.dtype == train.labels.dtype == np.float64


def test_images_come_as_fractions_in_training_and_prediction():
    seen = []

    class Nosy(Means):
        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            seen.append(train.inputs)
            return Drawn(lambda x, t: seen.append(x) or np.zeros((len(x), 3)))

    trained(Nosy(), SharedImages())
    assert all(0 < x.max() <= 1 and x.shape[1:] == (3, 16, 16) for x in seen)


def test_in_the_own_layout_only_the_columns_of_a_rows_own_task_are_read():
    offsets = np.array([0, 2, 5])
    widths = np.array([2, 3, 4])

    def outputs(inputs: Any, task: Any) -> Any:
        found = np.full((len(inputs), 9), np.nan)
        for i, t in enumerate(task):
            own = slice(offsets[t], offsets[t] + widths[t])
            found[i, own] = inputs[i, : widths[t]]  # the largest is the class
        return found

    result = trained(predicting(outputs), OwnMulticlass())
    assert result.metrics["test"]["error"].tolist() == [[0.0, 0.0, 0.0]]


def noise(train: Any) -> Any:
    """Draws from every global generator, and seeds them anew."""
    drawn = np.random.random(), random.random(), float(torch.rand(()))  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    torch.manual_seed(1)
    return Drawn(lambda x, t: np.full((len(x), 4), sum(drawn)) + np.random.random())  # noqa: NPY002


def test_global_generators_begin_at_the_trials_seed_and_are_put_back():
    method, dataset = fitting(noise), SharedRegression()
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        found.append(trained(method, dataset).metrics["test"]["rmse"].tolist())
        assert before == (
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_rng_state().tolist(),
        )
    assert found[0] == found[1]


def test_threads_are_limited_while_it_fits_and_not_after(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = []
    method = fitting(lambda train: seen.append(os.environ["OMP_NUM_THREADS"]) or TargetPredictors(train.tasks, {}))
    trained(method, SharedRegression())
    assert seen == [str(torch.get_num_threads())]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_the_seed_is_a_function_of_data_set_split_and_seed_alone():
    seen = {}

    class Noted(Means):
        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            seen.setdefault(zlib.crc32(train.inputs.tobytes()), []).append(seed)
            return super().fit(train, validation, params, seed)

    trained(Noted(), SharedRegression(), [{}, {"shift": 1.0}], splits=(0, 1))
    first, second = seen.values()
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]
    assert all(0 <= seed < 2**32 for seed in (*first, *second))


def test_trials_of_a_stack_are_fitted_one_by_one():
    result = trained(Means(), OwnRegression(), [{}, {"shift": 1.0}], splits=(0, 1))
    assert result.status == [Status.FINISHED] * 4
    alone = trained(Means(), OwnRegression(), [{"shift": 1.0}], splits=(1,))
    np.testing.assert_array_equal(result.metrics["test"]["rmse"][3], alone.metrics["test"]["rmse"][0])
    assert (result.train_seconds > 0).all()


def test_a_predictor_without_a_size_has_none_on_record():
    assert trained(Means(), OwnRegression()).n_parameters is None

    class Sized(Means):
        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            return TargetPredictors(train.tasks, {}, n_parameters=train.n_rows + int(params.shift))

    assert trained(Sized(), OwnRegression(), [{}, {"shift": 1.0}]).n_parameters.tolist() == [40, 41]


def test_tasks_without_labels_are_left_out_of_what_is_handed_over():
    dataset = SharedRegression()
    problem = dataset.load(Path(), 0, None)
    labels = problem.parts["train"].labels.copy()
    labels[:, 2] = np.nan
    parts = {**problem.parts, "train": replace(problem.parts["train"], labels=labels)}
    seen = []

    class Noted(Means):
        def fit(self, train: Any, validation: Any, params: Any, seed: int) -> Predictor:
            seen.append(([t for t, _, _ in train.by_task()], [t.task for t, _, _ in validation.by_target()]))
            return super().fit(train, validation, params, seed)

    method = Noted()
    result = train_stack(method, {0: replace(problem, parts=parts)}, miniature_trials(method, dataset), dataset)
    assert seen == [([0, 1, 3], [0, 1, 3])]
    assert np.isnan(result.metrics["test"]["rmse"][0]).tolist() == [False, False, True, False]
