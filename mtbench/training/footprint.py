"""What a stack will need of memory, known before it starts.

The bytes of data follow from their shapes. All else grows linearly with the number of trials (a small stack is measured
to learn how) or, while a chunk of rows is predicted, with trials and rows. Alone, a trial runs without mapping, so that
R = 1 tells nothing of R = 2: what is measured is R itself up to 3, and 2 and 3 above; on a GPU, whose allocator rounds
up, larger stacks of small models.

Shapes: R trials of a stack, r of them measured, U splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.scoring import metrics_by_part
from mtbench.contracts.trials import Trial
from mtbench.tasks import Rows
from mtbench.training.data import part_bytes, shared_bytes
from mtbench.training.exactness import repeatable
from mtbench.training.gradient import GradientStack
from mtbench.training.memory import AllocatedBytes, TensorBytes, available_bytes, meter
from mtbench.training.trainer import Memory, TrainingInputs

_SMALL = (2, 3)
_ROUNDED = 2**17  # bytes of state from which it does not matter that a GPU's allocator gives 512 at a time
_MOST_MEASURED = 32
_AFTER_STEP = 4  # steps are measured up to the first `after_step`, but no more than so many
_HEAP = 2.5  # what a process takes on the CPU for every byte of tensors; 2.0 is the most seen (benchmarks.memory)


@dataclass(frozen=True)
class _Needs:
    """Bytes that r trials need besides the data.

    Attributes:
        state: Parameters, buffers and hyperparameters once.
        held: All that lives between steps.
        left: What of it is still there once all trials have stopped.
        step: More, during a step.
        prediction: More, while a chunk is predicted, however few its rows.
        per_row: More, for each of its rows.
    """

    state: float
    held: float
    left: float
    step: float
    prediction: float
    per_row: float

    def chunk(self, n_rows: int) -> float:
        """Bytes that predicting a chunk takes."""
        return self.prediction + n_rows * self.per_row

    def towards(self, other: _Needs, times: float) -> _Needs:
        """This one plus so many times its difference to another."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _Needs(*(a + times * (b - a) for a, b in pairs))


class Footprint(Memory):
    """Predicts the memory of stacks of one cell's trials, which train by a gradient method.

    Args:
        inputs: The trials; stacks are the first R of them.
    """

    def __init__(self, inputs: TrainingInputs) -> None:
        assert isinstance(inputs.method, GradientMethod)
        self._method: GradientMethod = inputs.method
        self._trials, self._dataset, self._device = inputs.trials, inputs.dataset, inputs.device
        self._pretrained, self._refit = inputs.pretrained, inputs.refit
        self._problems = inputs.prepared().problems
        self._dtype: torch.dtype = getattr(torch, inputs.recipe.dtype)
        self._known: dict[tuple[int, bool], _Needs] = {}
        self._stack: GradientStack | None = None

    def fits(self, n_trials: int) -> bool:
        """Whether a stack of the first so many trials is likely to fit in the memory that is available."""
        room = available_bytes(self._device)
        needed = self.of(n_trials) if room is not None else None
        return room is None or needed is None or needed * (_HEAP if self._device.type == "cpu" else 1.0) <= room

    def of(self, n_trials: int) -> int | None:
        """The most bytes of tensors that will live at once in a stack of the first so many trials.

        None where that is not known: where the method fails, which training will put on record.
        """
        try:
            with torch.random.fork_rng(devices=[]), repeatable(self._device):
                return round(self._peak(self._trials[:n_trials]))
        except Exception:
            return None

    def _peak(self, trials: Sequence[Trial]) -> float:
        shared = len({(trial.split, trial.seed) for trial in trials}) == 1
        needs = self._needs(len(trials), shared)
        per_split = Counter(trial.split for trial in trials)
        most = max(per_split.values())
        problem = self._problems[trials[0].split]
        looks = {}
        for part in metrics_by_part(self._dataset, problem):
            # A copy of the trials of a split, where there are others.
            picked = needs.state * most / len(trials) if len(per_split) > 1 else 0.0
            looks[part] = picked + self._look(part, most, shared)
        if self._refit:
            del looks["validation"]
        data = shared_bytes(problem, self._device) + len(per_split) * part_bytes(problem, "train", self._dtype)
        watched = looks.get("validation", 0.0)
        peak = data + needs.held + needs.step
        for part, look in looks.items():  # the validation part is the first of them
            data += len(per_split) * part_bytes(problem, part, self._dtype)
            held = needs.held + max(needs.step, watched) if part == "validation" else needs.left + look
            peak = max(peak, data + held)
        return peak

    def _look(self, part: str, n: int, shared: bool) -> float:
        """Bytes that predicting a part takes for n trials of a split."""
        needs = self._needs(n, shared or n == 1)
        assert self._stack is not None
        chunks = self._stack.evaluator.swept_rows(part, n)
        outputs = n * sum(chunks) * self._width * self._dtype.itemsize
        # The place of all outputs is made when the first chunk's are there.
        alone, beside = chunks[0], max(chunks[1:], default=0)
        return max(needs.chunk(alone), outputs + (needs.chunk(beside) if beside else outputs))

    def _needs(self, n: int, shared: bool) -> _Needs:
        """What n trials need, of one stream or of several."""
        small, large = self._sizes(shared)
        if n <= large:
            return self._measured(n, shared)
        low, high = self._measured(small, shared), self._measured(large, shared)
        return low.towards(high, (n - small) / (large - small))

    def _sizes(self, shared: bool) -> tuple[int, int]:
        """The sizes from which larger ones are extrapolated."""
        if self._device.type != "cuda":
            return _SMALL
        state = self._measured(_SMALL[0], shared).state / _SMALL[0]
        r = min(_MOST_MEASURED, max(_SMALL[0], round(_ROUNDED / max(state, 1))))
        return r, r + max(1, r // 2)

    def _measured(self, r: int, shared: bool) -> _Needs:
        if not self._known and self._device.type == "cuda":
            # What a GPU's libraries take once, at their first use, is no need of any stack.
            self._measure(_some(self._trials, r, shared))
        if (r, shared) not in self._known:
            self._known[r, shared] = self._measure(_some(self._trials, r, shared))
        return self._known[r, shared]

    def _measure(self, trials: Sequence[Trial]) -> _Needs:
        used = {split: self._problems[split] for split in {trial.split for trial in trials}}
        problem = next(iter(used.values()))
        steps = self._method.update_every if self._method.update_every <= _AFTER_STEP else 1
        with meter(self._device) as count:
            data = shared_bytes(problem, self._device) + len(used) * part_bytes(problem, "train", self._dtype)
            before = count.live + data
            stack = GradientStack(self._method, used, trials, self._dataset, self._device, self._pretrained)
            held = step = 0
            for i in range(len(stack.course.stages)):
                count.restart()
                stack.enter(i)
                stack.train_epoch(1)
                changing = count.peak - count.live if i else 0
                count.restart()
                stack.train_epoch(max(1, steps))
                held, step = max(held, count.live - before), max(step, changing, count.peak - count.live)
            rows = stack.evaluator.rows_at_once(len(trials))
            taken = [self._chunk(stack, n, count) for n in (rows, max(1, rows // 2))]
            state = sum(tensor.nbytes for tensor in stack.state.tensors().values())
            stack.leave(np.arange(len(trials)))
            left = count.live - before
        self._stack = stack
        (n, full), (m, half) = taken
        per_row = (full - half) / (n - m) if n > m else full / n
        return _Needs(state, held, left, step, full - n * per_row, per_row)

    def _chunk(self, stack: GradientStack, n_rows: int, count: TensorBytes | AllocatedBytes) -> tuple[int, int]:
        """Rows of a chunk of about so many, and the bytes that predicting it takes."""
        columns, per_task = stack.rows_to_predict(n_rows)
        problem = self._problems[self._trials[0].split]
        # Rows in order are views, but for the inputs of arrays that parts share.
        copied = [columns["inputs"]] if isinstance(problem.parts["train"].inputs, Rows) else []
        copied = list(columns.values()) if per_task else copied
        count.restart()
        before = count.live
        outputs = stack.models.predict(stack.state, columns, per_task)
        self._width = outputs.shape[2]
        return outputs.shape[1], count.peak - before + sum(column.nbytes for column in copied)


def _some(trials: Sequence[Trial], r: int, shared: bool) -> list[Trial]:
    """So many trials, of one stream or of several."""
    first = trials[0]
    streams = [(trial.split, trial.seed) for trial in trials]
    same = [trial for trial, stream in zip(trials, streams, strict=True) if stream == streams[0]]
    other = [trial for trial, stream in zip(trials, streams, strict=True) if stream != streams[0]]
    found = [first, *same[1:]] if shared else [first, *other, *same[1:]]
    return [*found, *[first] * r][:r]
