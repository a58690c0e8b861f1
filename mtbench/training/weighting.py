"""A weighting at work on a stack: from the trials' task losses, or the gradients of these, to one gradient each.

Shapes: R held trials, T tasks, P parameters of one model, of which tasks share P' (`GradientMethod.task_axes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.weighted import weighting_params
from mtbench.contracts.weighting import GramWeighting, JacobianWeighting, LossWeighting, TaskStep, Weighting
from mtbench.errors import PluginError
from mtbench.tasks import Array, Problem
from mtbench.training.memory import is_out_of_memory
from mtbench.training.optimisers import StackedOptimiser, optimiser_for
from mtbench.training.stacked import StackedModels, StackState

_SALT = 0x2545F4914F6CDD1D  # what is random here is not what dropout draws from the same key
_NOTED = 2**16  # numbers that are noted before they are added up, 512 KiB
_IMAGES = 4  # axes of a convolution's filters, whose gradients torch does not map over tasks without loss of speed

Named = dict[str, Tensor]
ByRows = Callable[[Sequence[str]], Named]
"""Gradients of the tasks' losses on named parameters, [R, T, ...] each."""


@dataclass(frozen=True, eq=False)
class Update:
    """What a weighting makes of a step.

    Attributes:
        objective: What is told as the training loss, [R].
        gradient: Of the parameters by name, [R, ...].
        learned: Of what the weighting learns by name, [R, ...].
    """

    objective: Tensor
    gradient: Mapping[str, Tensor]
    learned: Mapping[str, Tensor] = field(default_factory=dict)


class TaskWeighting:
    """The weighting of a method, and all that it remembers and learns of each held trial.

    Args:
        method: With a weighting.
        models: Of the trials.
        state: Their state before the first step.
        problem: Its tasks.
        rates: Learning rates, [R].
        recipe: Names the optimiser of what the weighting learns.
    """

    def __init__(
        self,
        method: GradientMethod,
        models: StackedModels,
        state: StackState,
        problem: Problem,
        rates: Tensor,
        recipe: Recipe,
    ) -> None:
        assert method.weighting is not None
        shared = models.shared_sizes(problem.n_tasks, problem.n_outputs)
        self._method, self._params, self.shared_sizes = method, models.params, shared
        self.weighting: Weighting = method.weighting
        n_tasks, n_shared, hyper = problem.n_tasks, sum(shared.values()), state.hyper
        device, dtype = rates.device, rates.dtype
        settings = [self._own({name: values[r] for name, values in hyper.items()}) for r in range(len(rates))]
        self._state = _stacked([dict(self.weighting.start(n_tasks, n_shared, own)) for own in settings], device, dtype)
        learned: list[Named] = [{} for _ in settings]
        if isinstance(self.weighting, LossWeighting):
            learned = [dict(self.weighting.learned(n_tasks, own)) for own in settings]
        self._learned = _stacked(learned, device, dtype)
        self._optimiser: StackedOptimiser | None = None
        if self._learned:
            self._optimiser = optimiser_for(recipe, self._flat(self._learned), rates)
        self._dtype = dtype
        self._noted: list[Named] = []  # steps that are not in the sums yet
        self._rows_fit: bool | None = None  # whether gradients can be taken row by row; not known before the first step
        # Over the steps in which a task was present: losses of the epoch, all else since the last look.
        of_tasks, of_trials = (len(rates), n_tasks), (len(rates),)
        shapes = dict.fromkeys(("losses", "trained", "weights", "present"), of_tasks)
        shapes |= dict.fromkeys(("cosine", "conflicts", "pairs"), of_trials)  # type: ignore[arg-type]
        self._sums = {name: torch.zeros(shape, device=device, dtype=torch.float64) for name, shape in shapes.items()}

    @property
    def sees_losses_after(self) -> bool:
        """Whether `after_step` is to be called."""
        return isinstance(self.weighting, LossWeighting) and self.weighting.sees_losses_after

    def update(
        self,
        leaves: Mapping[str, Tensor],
        terms: Mapping[str, Tensor],
        hyper: Mapping[str, Tensor],
        key: Tensor,
        by_rows: ByRows | None = None,
    ) -> Update:
        """The gradients of a step; moves on what the weighting remembers, not what it learns.

        Args:
            leaves: Parameters by name, [R, ...].
            terms: "tasks" [R, T], "penalty" [R] and "present" [R, T], as functions of the leaves.
            hyper: Hyperparameters by name, [R].
            key: int64 [R], or a scalar that all trials share.
            by_rows: The gradients of all tasks in one pass, where every row belongs to one task.
        """
        key = key + _SALT % 2**62
        if isinstance(self.weighting, LossWeighting):
            return _of_losses(self, leaves, terms, hyper, key)
        shared = {name: leaf for name, leaf in leaves.items() if name in self.shared_sizes}
        jacobian = self._task_gradients(terms["tasks"], shared, by_rows)
        return _of_gradients(self, leaves, terms, hyper, key, jacobian)

    def _task_gradients(self, tasks: Tensor, leaves: Mapping[str, Tensor], by_rows: ByRows | None) -> Named:
        """The gradient of every task's loss by name of a shared parameter, [R, T, ...]."""
        if not leaves:
            return {}
        if by_rows is None or self._rows_fit is False:
            return _jacobian(tasks, leaves)
        if self._rows_fit is None:
            # Once, in the first step: by rows the same must come out, which it does not where rows of a batch depend on
            # each other (batch norm), and where it cannot be mapped over rows.
            known = _jacobian(tasks, leaves)
            try:
                self._rows_fit = _alike(by_rows(list(leaves)), known)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                if is_out_of_memory(error):
                    raise
                self._rows_fit = False
            return known
        return by_rows(list(leaves))

    def enter_stage(self) -> None:
        """What is minimised has changed: whether gradients can be taken row by row is not known any more."""
        self._rows_fit = None

    def after_step(self, before: Tensor, after: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the losses [R, T] of a batch before and after the parameters changed."""
        weighting = self.weighting
        assert isinstance(weighting, LossWeighting)

        def run(state: Named, hyper: Named, before: Tensor, after: Tensor) -> Named:
            return dict(weighting.after_step(before, after, state, self._own(hyper)))

        self._keep(_mapped(run, self._state, dict(hyper), before, after))

    def end_epoch(self, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the mean losses of the epoch."""
        self._add_up()
        losses = self._sums["losses"] / self._sums["trained"].clamp(min=1.0)
        self._sums["losses"].zero_()
        self._sums["trained"].zero_()

        def run(state: Named, hyper: Named, losses: Tensor) -> Named:
            return dict(self.weighting.after_epoch(losses, state, self._own(hyper)))

        self._keep(_mapped(run, self._state, dict(hyper), losses.to(self._dtype)))

    def history(self) -> dict[str, Array]:
        """Means over the steps since the last call, of each held trial, by name; starts anew.

        "weights" [R, T]: what each task's loss, or gradient, was multiplied by. Where gradients are formed: the mean
        cosine between those of two tasks, "gradient_cosine" [R], and the share of pairs of tasks whose gradients point
        in opposite directions, "gradient_conflicts" [R].
        """
        self._add_up()
        sums = self._sums
        found = {"weights": sums["weights"] / sums["present"].clamp(min=1.0)}
        if not isinstance(self.weighting, LossWeighting):
            pairs = sums["pairs"].clamp(min=1.0)
            found |= {"gradient_cosine": sums["cosine"] / pairs, "gradient_conflicts": sums["conflicts"] / pairs}
        if isinstance(self.weighting, JacobianWeighting):
            del found["weights"]
        for name in ("weights", "present", "cosine", "conflicts", "pairs"):
            sums[name].zero_()
        return {name: value.cpu().numpy() for name, value in found.items()}

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self._add_up()
        self._state = {name: value[keep] for name, value in self._state.items()}
        self._learned = {name: value[keep] for name, value in self._learned.items()}
        self._sums = {name: value[keep] for name, value in self._sums.items()}
        if self._optimiser is not None:
            self._optimiser.select(keep)

    def tensors(self) -> Named:
        """All that it remembers and learns, under one name each."""
        self._add_up()
        optimiser = {} if self._optimiser is None else self._optimiser.state()
        groups = {"state": self._state, "learned": self._learned, "sums": self._sums, "optimiser": optimiser}
        return {f"{group}/{name}": value for group, held in groups.items() for name, value in held.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `tensors`."""

        def of(group: str) -> Named:
            found = {name: value for name, value in tensors.items() if name.startswith(group + "/")}
            return {name.removeprefix(group + "/"): value for name, value in found.items()}

        self._state, self._learned, self._sums = of("state"), of("learned"), of("sums")
        if self._optimiser is not None:
            self._optimiser.restore(of("optimiser"))

    def learn(self, gradient: Mapping[str, Tensor], scale: float) -> None:
        """A step of the recipe's optimiser on what the weighting learns."""
        if self._optimiser is None:
            return
        theta = self._flat(self._learned)
        self._optimiser.step(theta, self._flat(gradient), scale)
        shapes = [value.shape for value in self._learned.values()]
        blocks = torch.split(theta, [shape[1:].numel() for shape in shapes], 1)
        self._learned = {
            name: block.reshape(shape) for name, block, shape in zip(self._learned, blocks, shapes, strict=True)
        }

    @property
    def learned(self) -> Named:
        """What it learns, [R, ...] by name, ready for gradients to be taken of."""
        return {name: value.detach().requires_grad_() for name, value in self._learned.items()}

    def combine(self, seen: Mapping[str, Tensor], learned: Named, hyper: Mapping[str, Tensor], key: Tensor) -> Tensor:
        """What the weighting makes of every trial's step, [R, ...]; moves on what it remembers.

        Args:
            seen: Fields of `TaskStep` by name, [R, ...].
            learned: What it learns, [R, ...].
            hyper: Hyperparameters by name, [R].
            key: int64 [R] or a scalar.
        """

        def run(seen: Named, learned: Named, state: Named, hyper: Named, key: Tensor) -> tuple[Tensor, Named]:
            step = TaskStep(**seen, learned=learned, state=state, key=key)
            found = self.weighting.combine(step, self._own(hyper))
            return self._checked(found, state)

        keys = key.expand(len(seen["losses"])) if key.ndim == 0 else key
        value, state = _mapped(run, dict(seen), learned, self._state, dict(hyper), keys)
        self._keep(state)
        return value  # type: ignore[no-any-return]

    def note(self, losses: Tensor, weights: Tensor | None, present: Tensor, gram: Tensor | None) -> None:
        """Notes a step: losses, weights and presence [R, T], the Gram matrices [R, T, T]."""
        known = {"losses": losses, "weights": weights, "present": present, "gram": gram}
        self._noted.append({name: value.detach() for name, value in known.items() if value is not None})
        if len(self._noted) * sum(value.numel() for value in self._noted[-1].values()) > _NOTED:
            self._add_up()

    def _add_up(self) -> None:
        """Adds the steps that were noted to the sums, all at once: one by one they would take as long as the steps."""
        if not self._noted:
            return
        sums, steps = self._sums, {name: torch.stack([one[name] for one in self._noted]) for name in self._noted[0]}
        self._noted.clear()
        there = steps["present"].double()
        sums["losses"] += (steps["losses"] * there).sum(0)
        sums["trained"] += there.sum(0)
        sums["present"] += there.sum(0)
        if "weights" in steps:
            sums["weights"] += torch.where(there > 0, steps["weights"].double(), 0.0).sum(0)
        if "gram" in steps:
            norms = steps["gram"].diagonal(dim1=-2, dim2=-1).sqrt()
            products = norms[..., :, None] * norms[..., None, :]
            cosines = steps["gram"] / products.clamp(min=torch.finfo(torch.float64).tiny)
            pairs = (there[..., :, None] * there[..., None, :]).triu(1)
            sums["cosine"] += (cosines * pairs).sum((0, 2, 3))
            sums["conflicts"] += ((cosines < 0) * pairs).sum((0, 2, 3))
            sums["pairs"] += pairs.sum((0, 2, 3))

    def _own(self, hyper: Mapping[str, Tensor]) -> Any:
        """The weighting's hyperparameters of one trial."""
        return weighting_params(self._method, dataclasses.replace(self._params, **hyper))

    def _keep(self, state: Named) -> None:
        self._state = {name: value.detach() for name, value in state.items()}

    def _checked(self, found: object, state: Named) -> tuple[Tensor, Named]:
        name = type(self.weighting).__qualname__
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
            raise PluginError(f"{name}.combine must return (tensor, state); found {type(found).__name__}.")
        value, after = found[0], dict(found[1])
        shapes = {n: v.shape for n, v in after.items()}
        if shapes != {n: v.shape for n, v in state.items()}:
            held = ", ".join(f"'{n}' {list(v.shape)}" for n, v in state.items()) or "nothing"
            raise PluginError(f"{name}.combine must return a state as `start` gave it, {held}; found {shapes}.")
        return value, after

    @staticmethod
    def _flat(values: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([value.detach().flatten(1) for value in values.values()], 1)


def _of_losses(
    held: TaskWeighting,
    leaves: Mapping[str, Tensor],
    terms: Mapping[str, Tensor],
    hyper: Mapping[str, Tensor],
    key: Tensor,
) -> Update:
    """One backward pass from a scalar of the losses."""
    tasks, present, learned = terms["tasks"], terms["present"], held.learned
    combined = held.combine({"losses": tasks, "present": present}, learned, hyper, key)
    _check_shape(held.weighting, combined, "a scalar", ())
    objective = combined + terms["penalty"]
    wanted = [*leaves.values(), *learned.values(), tasks]
    *found, weights = torch.autograd.grad(objective.sum(), wanted, materialize_grads=True)
    gradient = dict(zip(leaves, found[: len(leaves)], strict=True))
    held.note(tasks, weights, present, None)
    return Update(objective.detach(), gradient, dict(zip(learned, found[len(leaves) :], strict=True)))


def _of_gradients(
    held: TaskWeighting,
    leaves: Mapping[str, Tensor],
    terms: Mapping[str, Tensor],
    hyper: Mapping[str, Tensor],
    key: Tensor,
    jacobian: Named,
) -> Update:
    """From the tasks' gradients on what they share, and one backward pass through the rest."""
    tasks, penalty, present, weighting = terms["tasks"], terms["penalty"], terms["present"], held.weighting
    shared = {name: leaves[name] for name in jacobian}
    own = {name: leaf for name, leaf in leaves.items() if name not in jacobian}
    gram = torch.zeros(*tasks.shape, tasks.shape[1], device=tasks.device, dtype=torch.float64)
    for block in jacobian.values():
        rows = block.flatten(2).double()
        gram.baddbmm_(rows, rows.mT)
    seen = {"losses": tasks.detach(), "present": present, "gram": gram}
    weights = None
    if isinstance(weighting, GramWeighting):
        weights = held.combine(seen, {}, hyper, key)
        _check_shape(weighting, weights, f"[T] = [{tasks.shape[1]}]", (tasks.shape[1],))
        weights = torch.where(present > 0, weights, 0.0).to(tasks.dtype)
        gradient = {
            name: torch.bmm(weights[:, None], block.flatten(2)).view_as(shared[name])
            for name, block in jacobian.items()
        }
    else:
        # What a stage does not train has gradients of 0: a weighting may remember numbers for each.
        blocks = [
            jacobian[name].flatten(2) if name in jacobian else tasks.new_zeros(*tasks.shape, size)
            for name, size in held.shared_sizes.items()
        ]
        rows = torch.cat(blocks, 2) if blocks else gram[:, :, :0]
        combined = held.combine({**seen, "jacobian": rows}, {}, hyper, key)
        _check_shape(weighting, combined, f"[P] = [{rows.shape[2]}]", (rows.shape[2],))
        parts = torch.split(combined.to(tasks.dtype), list(held.shared_sizes.values()), 1)
        by_name = zip(held.shared_sizes, parts, strict=True)
        gradient = {name: part.reshape(shared[name].shape) for name, part in by_name if name in shared}
    if weights is not None and isinstance(weighting, GramWeighting) and weighting.heads == "weighted":
        of_heads = weights * tasks
    else:
        of_heads = tasks
    heads = of_heads.sum(1) + penalty
    rest = _gradients(heads.sum(), own) | _gradients(penalty.sum(), shared)
    held.note(tasks, weights, present, gram)
    found = {name: gradient[name] + rest[name] if name in gradient else rest[name] for name in leaves}
    return Update(tasks.detach().sum(1) + penalty.detach(), found)


def _gradients(total: Tensor, leaves: Mapping[str, Tensor]) -> Named:
    """Gradients by name, 0 where there is no way."""
    if not total.requires_grad or not leaves:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _jacobian(tasks: Tensor, leaves: Mapping[str, Tensor]) -> Named:
    """The gradient of every task's loss by name of a parameter, [R, T, ...], from losses [R, T]."""
    wanted, n_tasks = list(leaves.values()), tasks.shape[1]
    if max(leaf.ndim for leaf in wanted) > _IMAGES:  # with the axis of trials
        rows = [
            torch.autograd.grad(tasks[:, t].sum(), wanted, retain_graph=True, materialize_grads=True)
            for t in range(n_tasks)
        ]
        return {name: torch.stack(of_tasks, 1) for name, of_tasks in zip(leaves, zip(*rows, strict=True), strict=True)}
    each = torch.eye(n_tasks, device=tasks.device, dtype=tasks.dtype)[:, None].expand(-1, len(tasks), -1)
    found = torch.autograd.grad(
        tasks, wanted, grad_outputs=each, is_grads_batched=True, retain_graph=True, materialize_grads=True
    )
    return {name: block.transpose(0, 1) for name, block in zip(leaves, found, strict=True)}


def _alike(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether gradients are the same but for rounding."""
    error, size = (
        torch.stack([value.double().square().sum() for value in values]).sum().sqrt()
        for values in ([some[name] - other for name, other in others.items()], list(others.values()))
    )
    eps = torch.finfo(next(iter(others.values())).dtype).eps
    return bool(error <= eps**0.5 * size)


def _check_shape(weighting: Weighting, found: Tensor, wanted: str, shape: tuple[int, ...]) -> None:
    if tuple(found.shape[1:]) != shape:
        raise PluginError(
            f"{type(weighting).__qualname__}.combine must return {wanted} first; found shape {list(found.shape[1:])}."
        )


def _mapped(run: Callable[..., Any], *arguments: Any) -> Any:
    """A function of one trial's tensors over those of R trials; a trial alone is not mapped, which costs."""
    n = len(_some(arguments))
    if n > 1:
        return vmap(run)(*arguments)
    return _unsqueezed(run(*(_squeezed(argument) for argument in arguments)))


def _some(arguments: Any) -> Tensor:
    for argument in arguments:
        if isinstance(argument, Tensor):
            return argument
        for value in argument.values():
            return value  # type: ignore[no-any-return]
    raise ValueError("no tensor")


def _squeezed(value: Any) -> Any:
    return value.squeeze(0) if isinstance(value, Tensor) else {name: v.squeeze(0) for name, v in value.items()}


def _unsqueezed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[None]
    if isinstance(value, tuple):
        return tuple(_unsqueezed(one) for one in value)
    return {name: v[None] for name, v in value.items()}


def _stacked(each: Sequence[Named], device: torch.device, dtype: torch.dtype) -> Named:
    """Tensors of R trials by name, stacked; float32 ones in the dtype of training."""
    found = {}
    for name in each[0]:
        value = torch.stack([torch.as_tensor(one[name]).detach().to(device) for one in each])
        found[name] = value.to(dtype) if value.dtype == torch.float32 else value
    return found
