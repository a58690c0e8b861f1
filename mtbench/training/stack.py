"""From a stack of trials to its result: the one entry of the trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import Method
from mtbench.contracts.scoring import check_scoring, metrics_by_part
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import StackResult, Status, Trial
from mtbench.errors import PluginError
from mtbench.tasks import Array, Problem
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.evaluate import finite_rows
from mtbench.training.exactness import repeatable
from mtbench.training.memory import is_out_of_memory, peak_bytes, restart_peak, used_bytes
from mtbench.training.prepared import untrained_tasks
from mtbench.training.progress import EpochListener
from mtbench.training.stacked import PretrainedWeights
from mtbench.training.trainer import StackTraining, TrainingInputs
from mtbench.training.trainers import trainer_of

_DIVERGED = "The loss or a parameter stopped being finite."
_UNJUDGED = (
    "The selection metric had no value on the validation part in any epoch: predictions or labels do not allow it."
)


def train_stack(
    method: Method,
    problems: Mapping[int, Problem],
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str = "cpu",
    on_epoch: EpochListener | None = None,
    pretrained: PretrainedWeights | None = None,
    checkpoint: Checkpoint | None = None,
) -> StackResult:
    """Trains the trials of a stack together.

    A trial's result depends on its identity alone, up to rounding, and not on the stack it is in. A stack that does not
    fit in memory is halved until it does; a single trial that does not fit is recorded as such.

    Args:
        method: The method.
        problems: Problems by split, as the data set gives them; refits join training and validation rows themselves.
        trials: Trials of one cell and one phase.
        dataset: Gives the metrics.
        device: As torch names it.
        on_epoch: Told (epoch, trials that still train) after each epoch.
        pretrained: Backbones to start from, where the recipe names a base.
        checkpoint: Where a half-trained stack is kept; training goes on from what is there.

    Returns:
        The result, in the order of `trials`.
    """
    first = trials[0]
    try:
        # For a method that draws while it trains. Such methods train alone: what is drawn depends on the trial only.
        with torch.random.fork_rng(devices=[]), repeatable(torch.device(device)):
            torch.manual_seed(seed_from(first.cell.dataset, first.split, first.seed, "training"))
            inputs = TrainingInputs(method, problems, trials, dataset, torch.device(device), pretrained)
            return _train(inputs, on_epoch, checkpoint)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    if len(trials) == 1:
        return StackResult.without_training(trials, Status.OOM, reason)
    half = len(trials) // 2
    halves = (trials[:half], trials[half:])
    return joined([train_stack(method, problems, part, dataset, device, on_epoch, pretrained) for part in halves])


def _train(inputs: TrainingInputs, on_epoch: EpochListener | None, checkpoint: Checkpoint | None) -> StackResult:
    started, device = time.perf_counter(), inputs.device
    restart_peak(device)
    before = used_bytes(device)
    for problem in inputs.problems.values():
        check_scoring(inputs.dataset, problem)
    _check_content(inputs)
    prepared = inputs.prepared()
    stack = trainer_of(inputs.method).start(prepared, checkpoint)
    stack.run(on_epoch)
    _check_content(inputs)
    result = _result(stack, inputs.trials)
    finished = np.array([status is Status.FINISHED for status in result.status])
    if finished.any():
        _measure(stack, result, prepared, np.flatnonzero(finished))
    result.provenance = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "wall_seconds": time.perf_counter() - started,
        "start_bytes": before,
        "peak_bytes": peak_bytes(device),
        **stack.facts,
    }
    left_out = {str(split): names for split, one in prepared.problems.items() if (names := untrained_tasks(one))}
    if left_out:
        result.provenance["untrained_tasks"] = left_out
    return result


def _check_content(inputs: TrainingInputs) -> None:
    """Refuses to train or score on rows that are no longer the data set's."""
    for problem in inputs.problems.values():
        if (name := problem.changed()) is not None:
            raise PluginError(
                f"Method '{inputs.method.name}' must not change the arrays of its problem, which its trials share; the "
                f"part '{name}' of {problem.dataset}, split {problem.split}, was written to. Copy them first: np.array."
            )


def _result(stack: StackTraining, trials: Sequence[Trial]) -> StackResult:
    progress = stack.progress
    unjudged = [False] * len(trials) if progress.unjudged is None else progress.unjudged.tolist()
    size = stack.n_parameters
    status = [Status.DIVERGED if bad else Status.FINISHED for bad in progress.diverged]
    return StackResult(
        trials,
        status,
        [
            _UNJUDGED if never else _DIVERGED if s is Status.DIVERGED else ""
            for s, never in zip(status, unjudged, strict=True)
        ],
        history={name: np.stack(rows, 1) for name, rows in progress.history.items()},
        best_epoch=progress.best_epoch,
        train_seconds=progress.seconds,
        n_parameters=None if size is None else np.full(len(trials), size, np.int64),
        residual=stack.residual,
    )


def _measure(stack: StackTraining, result: StackResult, inputs: TrainingInputs, finished: Array) -> None:
    """Fills in metrics, and what the recipe keeps, of the trials that finished."""
    refit, problem = inputs.refit, next(iter(inputs.problems.values()))
    asked = "none" if inputs.rung else inputs.recipe.keep
    keep = asked == "all" or (asked == "final" and refit)
    for part, metrics in metrics_by_part(inputs.dataset, problem).items():
        if refit and part == "validation":
            continue  # its rows were trained on
        if inputs.rung and part != "validation":
            continue  # nobody is to see a test result of a training that was cut short
        predictions = stack.predictions(part, finished)
        found = stack.evaluator.metrics(metrics, part, predictions, finished)
        for r in finished[~finite_rows(predictions)]:
            result.status[r], result.reason[r] = Status.DIVERGED, f"A prediction on the part '{part}' is not finite."
        result.metrics[part] = {name: _spread(values, finished, len(result.trials)) for name, values in found.items()}
        if keep and part != "validation":
            result.predictions[part] = _spread(predictions.astype(np.float32), finished, len(result.trials))
    if keep or asked == "learned":
        result.learned = stack.learned()
    if asked == "backbone":
        result.learned = stack.backbone()


def _spread(values: Array, positions: Array, n: int) -> Array:
    """Values of some trials as rows among all n, NaN elsewhere."""
    rows = np.full((n, *values.shape[1:]), np.nan, values.dtype)
    rows[positions] = values
    return rows


def joined(results: Sequence[StackResult]) -> StackResult:
    """Results of consecutive parts of a stack as one; NaN (or 0) where a part has no results and others have."""
    sizes = [len(r.trials) for r in results]

    def stacked(get: Callable[[StackResult], Array | None]) -> Array | None:
        arrays = [get(r) for r in results]
        some = next((a for a in arrays if a is not None), None)
        if some is None:
            return None
        width = max(a.shape[1] for a in arrays if a is not None) if some.ndim > 1 else None
        rows = [_padded(a, n, some, width) for a, n in zip(arrays, sizes, strict=True)]
        return np.concatenate(rows)

    def by_name(get: Callable[[StackResult], Mapping[str, Array]]) -> dict[str, Array]:
        names = dict.fromkeys(name for r in results for name in get(r))
        found = {name: stacked(lambda r, name=name: get(r).get(name)) for name in names}  # type: ignore[misc]
        return {name: array for name, array in found.items() if array is not None}

    parts = dict.fromkeys(part for r in results for part in r.metrics)
    provenance = dict(next((r.provenance for r in results if r.provenance), {}))
    provenance["wall_seconds"] = sum(r.provenance.get("wall_seconds", 0.0) for r in results)
    provenance["parts"] = len(results)
    return StackResult(
        [t for r in results for t in r.trials],
        [s for r in results for s in r.status],
        [s for r in results for s in r.reason],
        metrics={part: by_name(lambda r, part=part: r.metrics.get(part, {})) for part in parts},  # type: ignore[misc]
        history=by_name(lambda r: r.history),
        best_epoch=stacked(lambda r: r.best_epoch),
        train_seconds=stacked(lambda r: r.train_seconds),
        n_parameters=stacked(lambda r: r.n_parameters),
        residual=stacked(lambda r: r.residual),
        predictions=by_name(lambda r: r.predictions),
        learned=by_name(lambda r: r.learned),
        provenance=provenance,
    )


def _padded(array: Array | None, n: int, like: Array, width: int | None) -> Array:
    """An array [n, ...], made of NaN (0 for integers) where it is missing, padded to a width of its second axis."""
    fill = np.nan if like.dtype.kind == "f" else 0
    if array is None:
        return np.full((n, width, *like.shape[2:]) if width is not None else (n,), fill, like.dtype)
    if width is None or array.shape[1] == width:
        return array
    short = np.full((n, width - array.shape[1], *array.shape[2:]), fill, array.dtype)
    return np.concatenate([array, short], 1)
