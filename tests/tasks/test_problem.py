"""Problems check themselves: what they refuse, in one line, and what they take whatever its class, type and order."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from mtbench import DataError, Part, PluginError, Problem, Rows, Task, TaskKind

BITS = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]], np.float32)
X = np.arange(12, dtype=np.float32).reshape(4, 3)
BINARY = [Task(f"t{t}", TaskKind.BINARY) for t in range(3)]


def problem(inputs: Any, labels: Any, task: Any = None, tasks: Any = BINARY, **parts: Part) -> Problem:
    part = Part(inputs, labels, task)
    return Problem("set", 3, tasks, dict.fromkeys(("train", "validation", "test"), part) | parts)


def with_value(value: Any, row: int = 2, column: int = 1, dtype: Any = np.float64) -> np.ndarray:
    labels = BITS.astype(dtype)
    labels[row, column] = value
    return labels


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        problem(*arguments, **more)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("set, split 3")
    return text


@pytest.mark.parametrize("value", [2, -1, 0.5, 1.0000001, np.inf, -np.inf])
def test_binary_labels_are_0_or_1(value):
    text = refusal(X, with_value(value))
    assert "part 'train', task 't1': labels must be 0 or 1" in text
    assert f"row 2 holds {value}" in text
    assert "NaN alone means missing" in text


@pytest.mark.parametrize("labels", [BITS + 1, 2 * BITS - 1], ids=["1 and 2", "-1 and 1"])
def test_other_codes_of_two_classes_are_refused(labels):
    assert "labels must be 0 or 1" in refusal(X, labels)


@pytest.mark.parametrize("value", [4, -1, 1.5])
def test_classes_are_whole_numbers_from_0(value):
    tasks = [Task(f"t{t}", TaskKind.MULTICLASS, 4) for t in range(3)]
    text = refusal(X, with_value(value), tasks=tasks)
    assert "task 't1': labels must be whole numbers from 0 to 3" in text
    assert f"row 2 holds {value}" in text
    problem(X, with_value(3), tasks=tasks)


def test_multilabel_labels_are_0_or_1_in_every_column():
    tasks = [Task("one", TaskKind.MULTILABEL, 2), Task("other", TaskKind.BINARY)]
    assert "task 'one': labels must be 0 or 1" in refusal(X, with_value(3), tasks=tasks)


@pytest.mark.parametrize("value", [np.inf, 1e300])
def test_targets_are_finite_numbers_that_float32_holds(value):
    tasks = [Task(f"t{t}", TaskKind.REGRESSION) for t in range(3)]
    assert "task 't1': a target must be finite" in refusal(X, with_value(value), tasks=tasks)


def test_in_the_own_layout_a_row_is_held_to_its_own_task():
    tasks = [Task("yes", TaskKind.BINARY), Task("which", TaskKind.MULTICLASS, 3), Task("how much", TaskKind.REGRESSION)]
    labels, task = np.array([[1.0], [2.0], [-7.5], [0.0]]), np.array([0, 1, 2, 0])
    problem(X, labels, task, tasks)
    assert "task 'which': labels must be whole numbers from 0 to 2" in refusal(X, labels + 1, task * 0 + 1, tasks)
    assert "task 'yes'" in refusal(X, labels, task * 0, tasks)


def test_labels_beyond_those_of_a_rows_task_are_refused():
    tasks = [Task("one", TaskKind.REGRESSION), Task("two", TaskKind.REGRESSION, 2)]
    text = refusal(X, BITS[:, :2], [0, 1, 1, 1], tasks)
    assert "rows of this task have 1 label columns, and NaN beyond; row 0 holds 1 in column 1" in text


def test_nan_alone_means_missing():
    labels = with_value(np.nan)
    found = problem(X, labels)
    assert found.missing(found.parts["train"]).sum() == 1
    assert found.task_sizes().tolist() == [4, 3, 4]
    assert problem(X, BITS).missing(found.parts["train"]) is not None
    complete = problem(X, BITS)
    assert complete.missing(complete.parts["train"]) is None


@pytest.mark.parametrize(
    "give",
    [
        *(pytest.param(lambda x, d=d: x.astype(d), id=d) for d in ("f2", "f8", ">f4", ">f8", "i1", ">i8", "u2", "g")),
        pytest.param(lambda x: x.tolist(), id="lists"),
        pytest.param(np.asfortranarray, id="columns first"),
        pytest.param(lambda x: np.ascontiguousarray(x[::-1])[::-1], id="backwards"),
        pytest.param(lambda x: np.repeat(x, 3, 1)[:, ::3], id="strided"),
        pytest.param(pd.DataFrame, id="frame"),
        pytest.param(lambda x: pd.DataFrame(x).astype("Int64"), id="nullable frame"),
        pytest.param(lambda x: torch.tensor(x), id="tensor"),
        pytest.param(lambda x: torch.tensor(x, requires_grad=True), id="tensor with a gradient"),
        pytest.param(lambda x: torch.tensor(x).bfloat16(), id="bfloat16"),
        pytest.param(lambda x: torch.tensor(x).to_sparse(), id="sparse tensor"),
        pytest.param(scipy.sparse.csr_matrix, id="sparse matrix"),
        pytest.param(scipy.sparse.coo_array, id="sparse array"),
        pytest.param(np.ma.masked_array, id="masked array"),
    ],
)
def test_any_class_type_and_order_of_numbers_means_its_values(give):
    found = problem(give(X), give(BITS)).parts["train"]
    assert found.inputs.dtype == found.labels.dtype == np.float32
    assert np.array_equal(found.inputs, X)
    assert np.array_equal(found.labels, BITS)


def test_masked_labels_are_missing_and_masked_inputs_refused():
    masked = np.ma.masked_array(BITS, BITS > 5)
    masked[1, 1] = np.ma.masked
    assert np.argwhere(np.isnan(problem(X, masked).parts["test"].labels)).tolist() == [[1, 1]]
    assert "row 1 holds nan" in refusal(masked, BITS)


@pytest.mark.parametrize(
    "wrong",
    [X.astype(str), X.astype(object), X * 1j, X.astype("M8[s]"), [[1.0], [1.0, 2.0]], None, "text", {"a": 1},
     pd.DataFrame({"name": ["a"] * 4}), torch.zeros(4, 3, dtype=torch.complex64), [[None] * 3] * 4],
    ids=["text", "objects", "complex", "dates", "ragged", "None", "a text", "dict", "frame of text", "complex tensor",
         "lists of None"],
)  # fmt: skip
def test_what_are_no_real_numbers_is_refused(wrong):
    assert "inputs must be" in refusal(wrong, BITS)
    assert "labels must be" in refusal(X, wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39, -1e300])
@pytest.mark.parametrize("as_rows", [False, True])
def test_inputs_are_finite_and_fit_float32(value, as_rows):
    inputs = X.astype(np.float64)
    inputs[3, 2] = value
    text = refusal(Rows(inputs, np.arange(4)) if as_rows else inputs, BITS)
    assert "row 3 holds" in text
    assert "at 2" in text


def test_numbers_that_float32_cannot_tell_apart_are_refused():
    seconds = 1.7e9 + np.arange(12).reshape(4, 3)
    assert "column 0 runs from 1700000000.0 to 1700000009.0" in refusal(seconds, BITS)
    assert "labels must be told apart" in refusal(X, seconds, tasks=[Task(t, TaskKind.REGRESSION) for t in "abc"])
    problem(
        np.full((4, 3), 0.1) + np.array([[0], [1e-17], [0], [0]]), BITS
    )  # a constant, but for the rounding of float64


def test_bytes_are_images_only_where_a_row_has_two_or_three_axes():
    bits = BITS.astype(np.uint8)
    assert np.array_equal(problem(bits, BITS).parts["train"].inputs, BITS)
    image = problem(bits[:, None].repeat(2, 1), BITS).parts["train"]
    assert image.inputs.dtype == np.uint8
    assert image.numbers().max() == np.float32(1 / 255)
    assert problem(bits[:, None, None, None], BITS).parts["train"].numbers().max() == 1
    shared = problem(Rows(bits, np.arange(4)), BITS).parts["train"]
    assert not shared.is_image
    assert np.array_equal(shared.numbers(), BITS)


def test_images_in_bytes_and_in_floats_do_not_mix():
    images = np.full((4, 2, 2), 200, np.uint8)
    text = refusal(images, BITS, test=Part(images.astype(np.float32), BITS))
    assert "part 'test': inputs must be bytes of images" in text


def test_large_arrays_are_not_copied(tmp_path):
    images = np.zeros((4, 2, 2), np.uint8)
    assert np.shares_memory(problem(images, BITS).parts["train"].inputs, images)
    mapped = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float64, (9, 3))
    rows = problem(Rows(mapped, np.array([8, 0, 3, 3], np.uint8)), BITS).parts
    assert np.shares_memory(rows["train"].inputs.base, mapped)
    assert rows["train"].inputs.place == rows["test"].inputs.place
    assert rows["train"].inputs.index.dtype == np.int64


@pytest.mark.parametrize("index", [[0, 1, 2, 4], [0, 1, 2, -1], [0.0, 1.0, 2.0, 3.0], [True] * 4, [[0, 1, 2, 3]]])
def test_rows_name_rows_that_there_are(index):
    refusal(Rows(X, np.array(index)), BITS)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", ">i8", "u8"])
def test_task_may_be_of_any_type_of_integers(dtype):
    found = problem(X, BITS[:, :1], np.array([0, 2, 1, 0], dtype))
    assert found.parts["train"].task.dtype == np.int64
    assert found.task_sizes().tolist() == [2, 1, 1]


@pytest.mark.parametrize("task", [[0.0, 1.0, 2.0, 0.0], [0, 1, 3, 0], [0, -1, 2, 0], [0, 1], [[0], [1], [2], [0]], "x"])
def test_task_must_number_the_tasks(task):
    assert "`task`" in refusal(X, BITS[:, :1], task)


def test_a_row_is_never_a_single_number_and_a_part_never_empty():
    assert "`x.reshape(-1, 1)`" in refusal(X[:, 0], BITS)
    assert "at least one row" in refusal(X[:0], BITS[:0])


def test_arrays_cannot_be_written_to_nor_parts_changed():
    found = problem(X.copy(), BITS.copy(), None)
    part = found.parts["train"]
    for array in (part.inputs, part.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(TypeError):
        found.parts["train"] = part


def test_kinds_are_named_by_text_as_well_and_unknown_ones_refused():
    assert Task("a", "regression").kind is TaskKind.REGRESSION
    for arguments in (("a", "ordinal"), ("", TaskKind.BINARY), (3, TaskKind.BINARY), ("a", TaskKind.MULTICLASS, 2.5)):
        with pytest.raises(DataError):
            Task(*arguments)


def test_task_names_are_unique_and_there_is_one():
    assert "'t0' occurs 2 times" in refusal(X, BITS, tasks=[BINARY[0], BINARY[0], BINARY[1]])
    assert "at least one task" in refusal(X, BITS, tasks=[])


def test_a_refitted_problem_and_what_methods_are_handed_share_what_was_checked():
    found = problem(X, BITS)
    assert found.refit().parts["train"].n_rows == 8
    handed = found.without_test()
    assert handed.parts["train"] is found.parts["train"]
    assert list(handed.parts) == ["train", "validation"]
    assert "test" not in handed.parts
    with pytest.raises(PluginError, match=re.escape("a part 'test' is withheld")):
        handed.parts["test"]
    assert handed.without_test().refit().parts["train"].n_rows == 8
    doubled = dataclasses.replace(handed, parts={**handed.parts, "train": handed.refit().parts["train"]})
    assert list(doubled.parts) == ["train", "validation"]
    assert dataclasses.replace(found, truth={"W": X}).without_test().truth == {}
