"""What training needs of memory: nothing is kept that need not be."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbench.testing.problems import SharedOneVsAll
from mtbench.training import evaluate
from mtbench.training.evaluate import Chunk, Evaluator


def test_an_evaluation_keeps_no_tensor_of_a_chunk_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_CHUNK", 6)
    monkeypatch.setattr(evaluate, "_FEW", 1)
    problem = SharedOneVsAll().load(Path(), 0, None)
    given: list[weakref.ref[Tensor]] = []

    def predict(positions: np.ndarray, split: int, chunk: Chunk) -> Tensor:
        assert all(one() is None for one in given[:-1])
        values = torch.full((len(positions), chunk.n_rows, 3), float(len(given)))
        given.append(weakref.ref(values))
        return values

    found = Evaluator([problem], np.zeros(2, int), width=1).predictions(predict, "validation", np.arange(2))
    assert len(given) == 7
    np.testing.assert_array_equal(found[:, :, 0], np.tile(np.arange(20) // 3, (2, 1)))
