"""What training needs of memory: nothing is kept that need not be, and the peak is known before."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.amtl import AMTL
from mtbench_methods.cnn import CNN
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.mrn import MRN
from mtbench_methods.nn import NN
from mtbench_weightings.graddrop import GradDrop
from mtbench_weightings.mgda import MGDA
from torch import Tensor

from mtbench import GradientMethod, Method
from mtbench.contracts.weighted import weighted
from mtbench.testing.problems import (
    MINIATURES,
    OwnImages,
    OwnMulticlass,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
    miniature_trials,
)
from mtbench.training import (
    calibrate,
    evaluate,
    footprint,
    gradient_trainer,
    memory,
    predicted_bytes,
    train_stack,
)
from mtbench.training.data import PartData, part_bytes
from mtbench.training.evaluate import Chunk, Evaluator
from mtbench.training.memory import TensorBytes, is_out_of_memory

CPU = torch.device("cpu")


def cell_of(method: Method, dataset: Any, n_trials: int, n_splits: int = 1, **recipe: Any) -> tuple[Any, list[Any]]:
    settings = [{"learning_rate": 0.001 * (i + 1)} for i in range(n_trials // n_splits)]
    epochs = recipe.pop("epochs", None)
    settings = settings if isinstance(method, GradientMethod) else [{}]
    trials = miniature_trials(method, dataset, settings, tuple(range(n_splits)), epochs)
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
    return _problems(dataset, n_splits), [dataclasses.replace(trial, cell=cell) for trial in trials]


def _problems(dataset: Any, n_splits: int) -> Any:
    return {split: dataset.load(Path(), split, None) for split in range(n_splits)}


def test_an_evaluation_keeps_no_tensor_of_a_chunk_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_CHUNK", 6)
    monkeypatch.setattr(evaluate, "_FEW", 1)
    problem = SharedOneVsAll().load(Path(), 0, None)
    given: list[weakref.ref[Tensor]] = []

    def predict(positions: np.ndarray, split: int, chunk: Chunk) -> Tensor:
        assert all(one() is None for one in given)
        values = torch.full((len(positions), chunk.n_rows, 3), float(len(given)))
        given.append(weakref.ref(values))
        return values

    found = Evaluator([problem], np.zeros(2, int), width=1).predictions(predict, "validation", np.arange(2))
    assert len(given) == 7
    np.testing.assert_array_equal(found[:, :, 0], np.tile(np.arange(20) // 3, (2, 1)))


def test_bytes_of_tensors_are_counted_while_anything_refers_to_them() -> None:
    before = torch.ones(1000)
    with TensorBytes() as count:
        view = before.view(10, 100)
        assert count.live == 0  # it was there before
        first = torch.zeros(50, dtype=torch.float64)
        second = first + 1
        assert count.live == 800
        kept = second[:1]
        del first, second
        assert (count.live, count.peak) == (400, 800)
        count.restart()
        assert count.peak == 400
        loss = (kept.requires_grad_().expand(50) * 2).exp().sum()
        assert count.live > 800  # what the backward pass needs
        loss.backward()
        del loss, view
        assert count.live == 400 + 8  # and the gradient


@pytest.mark.parametrize("dataset", [*MINIATURES, SharedImages, OwnImages])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bytes_of_data_follow_from_their_shapes(dataset: Any, dtype: torch.dtype) -> None:
    problems = list(_problems(dataset(), 2).values())
    for name in problems[0].parts:
        with TensorBytes() as count:
            part = PartData(problems, name, CPU, dtype)
            gc.collect()
            assert count.live == sum(part_bytes(problem, name, dtype) for problem in problems)
        del part


@pytest.mark.parametrize(
    ("method", "dataset", "recipe", "shapes"),
    [
        pytest.param(NN, SharedOneVsAll, {"hidden": 200}, [(1, 1), (8, 1), (6, 2), (2, 2)], id="one layer"),
        pytest.param(NN, SharedRegression, {"hidden": 200, "optimiser": "sgd"}, [(8, 1)], id="missing labels"),
        pytest.param(NN, SharedOneVsAll, {"hidden": 200, "epochs": 2}, [(5, 1)], id="refit"),
        pytest.param(MRN, OwnMulticlass, {"hidden": 100, "clip_norm": 1.0}, [(4, 2)], id="mixed tasks"),
        pytest.param(CNN, SharedImages, {"augment": "crop_flip", "dtype": "float32"}, [(1, 1), (5, 1)], id="images"),
        pytest.param(HardSharing, OwnImages, {"rows_per_task": 4, "dtype": "float32"}, [(4, 1)], id="own images"),
        pytest.param(weighted(NN, MGDA), SharedOneVsAll, {"hidden": 200}, [(1, 1), (6, 2)], id="gradients of tasks"),
        pytest.param(weighted(HardSharing, GradDrop), OwnImages, {"dtype": "float32"}, [(4, 1)], id="Jacobians"),
    ],
)
def test_the_peak_of_a_stack_is_predicted(
    method: type[Method], dataset: Any, recipe: dict[str, Any], shapes: list[tuple[int, int]]
) -> None:
    for n_trials, n_splits in shapes:
        problems, trials = cell_of(method(), dataset(), n_trials, n_splits, max_epochs=1, **recipe)
        predicted = predicted_bytes(method(), problems, trials, dataset())
        with TensorBytes() as count:
            train_stack(method(), problems, trials, dataset())
        assert predicted == pytest.approx(count.peak, rel=0.1)


def test_a_chunked_evaluation_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_CHUNK", 2**14)
    monkeypatch.setattr(evaluate, "_FEW", 1)
    problems, trials = cell_of(NN(), SharedOneVsAll(), 12, max_epochs=1, hidden=300)
    predicted = predicted_bytes(NN(), problems, trials, SharedOneVsAll())
    with TensorBytes() as count:
        train_stack(NN(), problems, trials, SharedOneVsAll())
    assert predicted == pytest.approx(count.peak, rel=0.1)


def test_a_prediction_changes_no_result() -> None:
    problems, trials = cell_of(CNN(), SharedImages(), 1, max_epochs=1)
    alone = train_stack(CNN(), problems, trials, SharedImages())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert predicted_bytes(CNN(), problems, trials, SharedImages()) is not None
    assert torch.equal(torch.get_rng_state(), state)
    after = train_stack(CNN(), problems, trials, SharedImages())
    assert alone.history["loss"].tobytes() == after.history["loss"].tobytes()


def test_nothing_is_predicted_of_solvers_nor_of_what_fails() -> None:
    problems, trials = cell_of(AMTL(), SharedRegression(), 1)
    assert predicted_bytes(AMTL(), problems, trials, SharedRegression()) is None

    class Failing(NN):
        def objective(self, model: Any, batch: Any, params: Any) -> Tensor:
            raise ValueError("a fault")

    problems, trials = cell_of(NN(), SharedOneVsAll(), 2)
    assert predicted_bytes(Failing(), problems, trials, SharedOneVsAll()) is None


def test_calibration_tries_no_size_that_will_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_trainer, "_SECONDS", 0.0)
    monkeypatch.setattr(calibrate, "_WORSE", float("inf"))
    problems, trials = cell_of(NN(), SharedOneVsAll(), 20, batch_size=0)
    four = predicted_bytes(NN(), problems, trials[:4], SharedOneVsAll())
    assert four is not None
    for room, sizes in ((None, ["1", "4", "16", "20"]), (3 * four, ["1", "4"]), (four, ["1"]), (0, ["1"])):
        monkeypatch.setattr(footprint, "available_bytes", lambda device, room=room: room)
        found = calibrate.calibrate(NN(), problems, trials, SharedOneVsAll(), "cpu")
        assert list(found["seconds_per_trial"]) == sizes  # type: ignore[call-overload]


def test_workers_share_what_the_machine_or_container_has_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.delenv(memory.WORKERS, raising=False)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    6000 kB\n")
    assert memory.available_bytes(CPU) == 6000 * 1024
    monkeypatch.setenv(memory.WORKERS, "3")
    assert memory.available_bytes(CPU) == 2000 * 1024
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU) == 2000 * 1024
    (tmp_path / "memory.max").write_text("4000000\n")
    assert memory.available_bytes(CPU) == 1000000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_a_peak_begins_anew_where_the_system_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert memory.peak_bytes(CPU) >= memory.used_bytes(CPU) > 0  # type: ignore[operator]
    memory.restart_peak(CPU)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "none")
    memory.restart_peak(CPU)
    assert memory.used_bytes(CPU) is None
    assert memory.peak_bytes(CPU) > 0


def test_an_allocation_that_the_processor_cannot_make_is_known_for_what_it_is():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
