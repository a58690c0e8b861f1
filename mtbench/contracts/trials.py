"""Trials and stacks: what is to be trained, under which identity, and what came of it. No I/O, no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from mtbench.contracts.recipe import NOT_IDENTITY, Recipe
from mtbench.contracts.values import Value
from mtbench.errors import StoreError
from mtbench.tasks import Array

IDENTITY_FORMAT = 1

CONTENT = "content"
"""Key of the provenance: by split, the fingerprint of the problem that trials were trained on."""

METRIC_PLUGIN = "metric_plugin_"
"""Begins the keys of the provenance that say who provides a metric, where that is a plugin."""

WITH = "+"
"""What joins the names of a method and a weighting, where a method is named."""

LEARNING_RATE = "learning_rate"
"""The hyperparameter every gradient method has besides its own."""


def plain_name(method: str) -> str:
    """The name of a method without its weighting: "mmoe" of "mmoe+uw", and of "mmoe"."""
    return method.partition(WITH)[0]


class Status(StrEnum):
    """How a trial ended; a closed set.

    Attributes:
        FINISHED: It was trained to its end.
        DIVERGED: The loss or a parameter stopped being finite.
        FAILED: An exception.
        TIMEOUT: Its job took longer than allowed.
        OOM: It did not fit in memory, even alone.
        KILLED: Its worker process died.
        SKIPPED: The method does not support the problem.
    """

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    KILLED = "killed"
    SKIPPED = "skipped"


FINAL = (Status.FINISHED, Status.DIVERGED, Status.SKIPPED)
"""Statuses that training again would only repeat; a later run tries the others again."""


PHASES = ("search", "rung", "refit")
"""What a trial is for: a setting of a search trained in full, or at a rung of one, or a selected setting again."""


def canonical(record: object) -> str:
    """JSON with one way to write each value, so that equal records have equal hashes."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True)
class Cell:
    """A method on a data set under a recipe: one box of the grid.

    Attributes:
        method: Name of the method.
        method_version: Its version, raised by its author when its results change.
        distribution: The distribution that provides it, or "file" for a plugin file.
        dataset: Name of the data set.
        dataset_version: Its version.
        options: Its options, complete.
        content: SHA-256 that stands for the data themselves.
        recipe: What is equal for all methods of the data set.
        role: "base" for trials whose backbone others start from, which no report compares; else "".
        base: Where trials start from a base: what stands for its cell and setting, see `Cell.digest`; else "".
    """

    method: str
    method_version: str
    distribution: str
    dataset: str
    dataset_version: str
    options: Mapping[str, Value]
    content: str
    recipe: Recipe
    role: str = ""
    base: str = ""

    @property
    def label(self) -> str:
        """Text for people: "method x data set", with the role where it has one."""
        return f"{self.method} x {self.dataset}" + (f" ({self.role})" if self.role else "")

    def digest(self, params: Mapping[str, Value]) -> str:
        """SHA-256 of this cell's identity together with a setting.

        Args:
            params: The setting: hyperparameters by name.
        """
        return hashlib.sha256(canonical([self.identity, dict(params)]).encode()).hexdigest()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a trial's identity holds of the cell, ready for JSON."""
        # Fields at their defaults are left out, so that a cell or a recipe can gain one without orphaning stores.
        named = [f.name for f in dataclasses.fields(self) if f.name != "recipe"]
        record = {name: getattr(self, name) for name in named if name not in ("role", "base") or getattr(self, name)}
        fields = dataclasses.asdict(self.recipe).items()
        recipe = {k: v for k, v in fields if k not in NOT_IDENTITY and v != getattr(Recipe, k)}
        return {"format": IDENTITY_FORMAT, **record, "options": dict(self.options), "recipe": recipe}

    @cached_property
    def key(self) -> str:
        """Canonical JSON of the identity: equal for trials that may share a stack, in any run."""
        return canonical(self.identity)


@dataclass(frozen=True)
class Trial:
    """One training: a cell with a setting, a split and a seed.

    Attributes:
        cell: Method, data set and recipe.
        params: Hyperparameters, complete; gradient methods' include the learning rate.
        split: Split of the data set.
        seed: Seed of initialisation and batch order.
        epochs: None in a search; at a rung of one, and in a refit on training + validation rows, the epochs to train (0
            for solvers).
        rung: Whether it is trained so far only to find out whether it is worth going on with: at a rung of a successive
            halving. Such a trial is no result of its setting, and selection never sees it.
    """

    cell: Cell
    params: Mapping[str, Value]
    split: int
    seed: int
    epochs: int | None = None
    rung: bool = False

    @property
    def phase(self) -> str:
        """One of `PHASES`."""
        return "rung" if self.rung else "search" if self.epochs is None else "refit"

    @property
    def most_epochs(self) -> int:
        """Epochs that it trains at most: `epochs`, in a search those of the recipe."""
        return self.cell.recipe.max_epochs if self.epochs is None else self.epochs

    @cached_property
    def identity(self) -> str:
        """Canonical JSON of all that the result depends on."""
        own = {"params": dict(self.params), "split": self.split, "seed": self.seed, "epochs": self.epochs}
        rung = {"rung": True} if self.rung else {}  # left out of all others, whose identities are older
        return canonical({**self.cell.identity, **own, **rung})

    @cached_property
    def id(self) -> str:
        """SHA-256 of the identity, as 64 hexadecimal digits."""
        return hashlib.sha256(self.identity.encode()).hexdigest()

    @classmethod
    def from_identity(cls, text: str, known: Cell | None = None) -> Trial:
        """The trial with this identity. What is not part of an identity (`keep`, `refit`) takes its default.

        Args:
            text: An identity.
            known: A cell that is used instead of an equal new one, if it is the trial's; None to make a new one.

        Raises:
            StoreError: This is no identity that this version of mtbench could have written.
        """
        try:
            record = json.loads(text)
            found = record.pop("format")
            own = {name: record.pop(name) for name in ("params", "split", "seed", "epochs")}
            own["rung"] = record.pop("rung", False)
            cell = Cell(**{**record, "recipe": Recipe(**record["recipe"])})
            trial = cls(known if known is not None and known.key == cell.key else cell, **own)
            same = found == IDENTITY_FORMAT and trial.identity == text
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreError(f"A trial's identity must be canonical JSON of its cell and setting; {error!r}.") from None
        if not same:
            raise StoreError(f"A trial's identity must be canonical JSON of format {IDENTITY_FORMAT}; found {found!r}.")
        return trial


@dataclass(frozen=True)
class Stack:
    """Trials of one cell that train together; the unit of scheduling, storage and resume."""

    trials: tuple[Trial, ...]

    @property
    def cell(self) -> Cell:
        """The cell all its trials belong to."""
        return self.trials[0].cell

    @cached_property
    def id(self) -> str:
        """SHA-256 over its trials' ids, in order."""
        return stack_id([trial.id for trial in self.trials])


def stack_id(trial_ids: Sequence[str]) -> str:
    """SHA-256 over trial ids, in order."""
    return hashlib.sha256("\n".join(trial_ids).encode()).hexdigest()


@dataclass
class StackResult:
    """What came of a stack. Arrays have the R trials first; a trial that did not finish has NaN there.

    Attributes:
        trials: The R trials.
        status: How each ended.
        reason: Why, for those that did not finish; "" for the others.
        metrics: By part, then by metric: float64 [R, T], or [R] for joint metrics.
        history: By name, float64 [R, E], one value per look at the validation part, NaN after a trial has stopped:
            "epoch", "loss" (training objective) and the monitored validation metric. Of a method with stages also the
            index of the "stage", in all but the last of which the metric is NaN. Of a method with a weighting also
            "weights" [R, E, T], by which the tasks' losses or gradients were multiplied, and where gradients are formed
            "gradient_cosine" and "gradient_conflicts": see `mtbench.training.weighting.TaskWeighting.history`.
        best_epoch: int64 [R], the epoch whose parameters the metrics belong to.
        train_seconds: float64 [R], each trial's share of the stack's training time.
        n_parameters: int64 [R], numbers learned; None where the method does not know.
        residual: float64 [R], how far from optimal a solver ended, see `LinearSolution`; None where it does not say.
        predictions: By part, float32 [R, n, O or C]; empty unless the recipe keeps them.
        learned: Matrices the method learned (e.g. "transfer" [R, T, T]); empty unless kept.
        provenance: Versions, device, stack size, peak memory, wall time: recorded, compared, never hashed.
        log: Last lines of the worker's log, for stacks that failed.
    """

    trials: Sequence[Trial]
    status: list[Status]
    reason: list[str]
    metrics: dict[str, dict[str, Array]] = field(default_factory=dict)
    history: dict[str, Array] = field(default_factory=dict)
    best_epoch: Array | None = None
    train_seconds: Array | None = None
    n_parameters: Array | None = None
    residual: Array | None = None
    predictions: dict[str, Array] = field(default_factory=dict)
    learned: dict[str, Array] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    def learned_by(self, row: int) -> dict[str, Array]:
        """The matrices of one trial; without those it has not finished, or that `mtbench store slim` dropped."""
        rows = {name: values[row] for name, values in self.learned.items()}
        return {
            name: values
            for name, values in rows.items()
            if values.dtype.kind != "f" or not values.size or not np.isnan(values).all()
        }

    @classmethod
    def without_training(cls, trials: Sequence[Trial], status: Status, reason: str, log: str = "") -> StackResult:
        """The record of trials that all ended the same way before any result."""
        return cls(trials, [status] * len(trials), [reason] * len(trials), log=log)
