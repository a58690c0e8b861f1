"""The Method contract: what an author writes, and what the harness promises in return.

Shapes: T tasks, B batch rows, d features, k latent features, O outputs of all tasks, R trials in a stack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from mtbench.contracts.batch import Batch
from mtbench.contracts.examples import Examples, Predictor
from mtbench.contracts.hyperparameters import NoParams
from mtbench.contracts.pretrained import Pretrainable
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.contracts.stages import Stage
from mtbench.contracts.terms import PerTask, Terms
from mtbench.contracts.weighting import Weighting
from mtbench.linear.data import LinearData
from mtbench.tasks import Problem, Weight


class Method(ABC):
    """An algorithm that turns a problem and hyperparameters into a predictor.

    Subclass `GradientMethod`, `SolverMethod` or `FitMethod`, not this class.

    Attributes:
        name: Unique among all plugins; words joined by underscores.
        reference: The paper it follows.
        version: Raised by the author when results change; part of every trial's identity.
        Params: Frozen dataclass of its hyperparameters; `tunable(...)` marks those a search varies.
        kind: Which trainer trains it; the base class of its kind says so, not the author.
        in_epochs: Whether it is trained in epochs by the recipe's optimiser, and so has the recipe's learning rate as a
            hyperparameter, stops early, and may start from a trained backbone; likewise.
        stackable: False where the trials of a stack cannot be trained as one computation; they then run one at a time.
        honours_weights: Which weights that a data set may declare it honours: "sample", "class" and "task", or some of
            them. Cells of data sets that declare others are skipped. None, as authors of gradient methods may leave it:
            all where it gives `terms`, whose losses `Batch.task_losses` weighs; none where it gives an `objective`,
            of which nobody can tell. Solvers honour all, by the losses of `LinearData`; fit methods none.
    """

    name: ClassVar[str]
    reference: ClassVar[Reference]
    version: ClassVar[str] = "1"
    Params: ClassVar[type] = NoParams
    kind: ClassVar[str]
    in_epochs: ClassVar[bool] = False
    stackable: ClassVar[bool] = True
    honours_weights: ClassVar[Collection[str] | None] = None

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """None, or the reason why this method cannot train here: the cell is then stored as skipped.

        Args:
            problem: Its tasks, layout and shapes.
            recipe: Backbone and the like; `mtbench.nn.backbones.backbone_support` says whether the one fits the other.
        """
        return None


class GradientMethod(Method):
    """A method that is one model and one scalar, minimised by the recipe's optimiser.

    Write `terms`, where the objective is a sum of task losses and a penalty: then any weighting can take that sum's
    place. Write `objective` where it is anything else. One of the two, not both.

    The harness trains R trials at once by mapping it over stacked parameters; the author never sees R. Real
    hyperparameters arrive as scalar tensors, so use tensor arithmetic and no `if` on their values.
    Every trial has a hyperparameter `learning_rate` that the recipe gives.

    Attributes:
        stackable: False where the objective cannot be mapped by torch.func.vmap.
        separate: Tasks share nothing: every parameter and buffer has a first axis of T, and each task keeps the epoch
            that is best for itself. Of a method with stages this is said of what the last one trains.
        update_every: Steps between calls of `after_step`; 0 never calls it.
        weighting: What takes the place of the sum of the task losses; None, as authors leave it, sums them. A method
            named "method+weighting" has one: see `mtbench.contracts.weighted`.
        weighting_names: The hyperparameters of a weighting, by its own names, as they are called here.
    """

    kind: ClassVar[str] = "gradient"
    in_epochs: ClassVar[bool] = True
    separate: ClassVar[bool] = False
    update_every: ClassVar[int] = 0
    weighting: ClassVar[Weighting | None] = None
    weighting_names: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        """A freshly initialised model; torch's generator is already seeded.

        Args:
            problem: Its tasks and shapes.
            params: An instance of `Params` with plain numbers.
            recipe: Backbone and width.

        Returns:
            A module whose `forward(batch)` gives the outputs [B, O] of all tasks (of which, in the own layout, only
            the columns of each row's own task are read).
        """

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        """What is minimised; as it stands, the sum of `terms`.

        Args:
            model: The model.
            batch: Rows and labels.
            params: An instance of `Params` whose floats are scalar tensors.

        Returns:
            A scalar.
        """
        return self.terms(model, batch, params).sum

    def terms(self, model: nn.Module, batch: Batch, params: Any) -> Terms:
        """The objective as a loss of each task and a penalty.

        Args:
            model: The model.
            batch: Rows and labels.
            params: As in `objective`.

        Returns:
            The losses [T], `batch.task_losses(model(batch))` as a rule, and the penalty, a scalar.

        Raises:
            TypeError: The method has an objective of its own, and no terms.
        """
        raise TypeError(f"{type(self).__qualname__} gives an objective that is no sum of task losses.")

    def task_axes(self, model: nn.Module) -> Mapping[str, int]:
        """Parameters that one task alone has: the axis of tasks, or of output columns, by name.

        A name is that of a parameter, or of a module and means all that it holds. What is not named is shared: a
        gradient weighting looks at the tasks' gradients there, and leaves heads to their own task. As it stands, what
        the modules of the model say (`mtbench.contracts.terms.PerTask`; heads are such), and all of a method that is
        `separate`.

        Args:
            model: A freshly built model.
        """
        if self.separate:
            return {name: 0 for name, _ in model.named_parameters()}
        found: dict[str, int] = {}
        for at, module in model.named_modules():
            if isinstance(module, PerTask):
                found |= {".".join(filter(None, (at, name))): axis for name, axis in module.task_axes.items()}
        return found

    def start_from(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Takes over a trained backbone, where the recipe names a base: in place, before training.

        As it stands, every backbone in the model does, and every set of copies of one.

        Args:
            model: A freshly built model.
            weights: Parameters and buffers of the backbone, by its own names.
        """
        for module in model.modules():
            if isinstance(module, Pretrainable):
                module.start_from(weights)

    def stages(self, params: Any, recipe: Recipe) -> Sequence[Stage]:
        """What is trained one after the other; as it stands, nothing but the objective.

        All stages together have the recipe's epochs, no more. Each starts with an optimiser of its own; batches, ramps
        and steps of the learning rate go on. Only the last stage is judged: best epoch, early stopping and selection
        look at no other.

        Args:
            params: An instance of `Params` with plain numbers. What shares depend on is declared
                `tunable(..., stackable=False)` where it is a float, since all trials of a stack have the same stages.
            recipe: Gives the epochs.

        Returns:
            The stages in their order, whose shares sum to 1; empty for a method without.
        """
        return ()

    def between(self, model: nn.Module, before: str, after: str, params: Any) -> Mapping[str, Tensor]:
        """What changes from one stage to the next: called once for each trial, outside any mapping.

        Tensors may be looked at and decided by. torch's generator is seeded by the trial.

        Args:
            model: As the stage before has left it.
            before: Name of the stage that is over.
            after: Name of the one that begins.
            params: As in `stages`.

        Returns:
            New values by name of a parameter or buffer, finite and of the same shapes; all others stay.
        """
        return {}

    def n_parameters(self, model: nn.Module, params: Any) -> int:
        """Numbers that were learned and are used to predict; as it stands, all parameters.

        To be given where a model holds more than that, such as what only an earlier stage needed. Called once for each
        trial, like `between`.
        """
        return sum(parameter.numel() for parameter in model.parameters())

    def learning_rate_factors(self, model: nn.Module) -> Mapping[str, float]:
        """Parameters that learn faster or slower than the rest: factors of the learning rate by name.

        A name is that of a parameter, or of a module and means all that it holds. All trials of a stack have the same.
        """
        return {}

    def after_step(self, model: nn.Module, batch: Batch, params: Any) -> Mapping[str, Tensor]:
        """Closed-form updates every `update_every` steps: new values by name of a parameter or buffer.

        Not called in stages that minimise something else than the method does.
        """
        return {}

    def learned(self, model: nn.Module, params: Any) -> Mapping[str, Tensor]:
        """Matrices worth keeping, by name: "transfer" [T, T] (row gives to column), "feedback" [T, k] and so on."""
        return {}


@dataclass(frozen=True, eq=False)
class LinearSolution:
    """What a solver found: R linear predictors.

    Attributes:
        weights: float64 [R, d + 1, T] where the data carry an intercept row (last), else [R, d, T].
        learned: Matrices worth keeping, each [R, ...], by name.
        n_parameters: Numbers learned per trial, without the intercepts.
        finite: Found to converge to something finite, bool [R]; None says all did.
        residual: How far from optimal each trial ended, float64 [R]: the norm of the smallest subgradient of the
            objective, relative to a norm that the method's `solve` states; of all blocks of variables where solvers
            alternate. It is stored, and told where it is above the method's `tolerance`. None states nothing.
    """

    weights: Tensor
    n_parameters: int
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    finite: Tensor | None = None
    residual: Tensor | None = None


class SolverMethod(Method):
    """A linear method with its own solver, which works on the R trials of a stack at once, in float64.

    Solvers see batched tensors [R, ...]; trials must not influence each other, so that a trial's result does not
    depend on the stack it is in (convergence is decided per trial, and a converged trial no longer changes).

    Attributes:
        tolerance: The relative residual at which its problem counts as solved; a report says which rows' solutions
            ended above it. None where the solver states no residual.
    """

    kind: ClassVar[str] = "solver"
    honours_weights: ClassVar[Collection[str] | None] = tuple(Weight)
    tolerance: ClassVar[float | None] = None

    @abstractmethod
    def solve(self, data: LinearData, params: Any) -> LinearSolution:
        """Fits R trials.

        Args:
            data: Training rows or their Gram matrices, losses and gradients, for the R trials.
            params: An instance of `Params` whose floats are tensors [R], float64; other fields are plain values,
                the same for all R trials.
        """


class FitMethod(Method):
    """Anything with fit and predict, in numpy: scikit-learn, boosted trees, a package of one's own.

    Trials are fitted one at a time, each in one process with the worker's threads: ask libraries for one job
    (`n_jobs=1`), so that results repeat. While `fit` or `predict` runs, the global generators of numpy and Python begin
    at the trial's seed; they are put back afterwards.

    Attributes:
        imports: Modules that `fit` imports where it uses them, such as "sklearn.ensemble". The harness imports them
            before it takes the time of a trial.
    """

    kind: ClassVar[str] = "fit"
    honours_weights: ClassVar[Collection[str] | None] = ()
    stackable: ClassVar[bool] = False
    imports: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, train: Examples, validation: Examples | None, params: Any, seed: int) -> Predictor:
        """Learns a predictor.

        Args:
            train: Training rows; in a refit the validation rows as well.
            validation: Validation rows, to stop by or to calibrate with; None in a refit, where they are among `train`.
            params: An instance of `Params` with plain numbers.
            seed: From 0 to 2^32 - 1, as `random_state` takes it: a function of data set, split and seed of the trial,
                the same for all methods and settings.

        Returns:
            The predictor. Tasks without a label in `train` are not scored: what it predicts for them means nothing.
        """
