"""Every gradient method's objective and its gradient on random weights and data, computed twice in float64.

Also what is no objective: MRN's covariances, Deep-AMTL's projection, and the decompositions that DMTRL starts from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mtbench_methods.dmtrl.factors import LAF, TensorTrain, Tucker
from torch import Tensor, nn

from benchmarks.reference import factorised, mixture_systems, shared_systems, task_systems
from benchmarks.reference.comparison import Comparison, compared
from benchmarks.reference.problems import Case, cases
from mtbench import GradientMethod
from mtbench.contracts.hyperparameters import describe
from mtbench.plugins.host import load_plugins

OBJECTIVES: Mapping[str, Callable[[Mapping[str, Tensor], Case, Any], Tensor]] = {
    **shared_systems.OBJECTIVES,
    **task_systems.OBJECTIVES,
    **mixture_systems.OBJECTIVES,
}
METHODS = (*OBJECTIVES, *factorised.PRODUCTS)
_SIZES: Mapping[str, int] = {
    "h": 3,
    "experts": 4,
    "shared_experts": 2,
    "task_experts": 2,
    "tower": 5,
    "channels": 3,
    "n_basis": 3,
}
_OTHER_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "cross_stitch": {"per_channel": True},
    "dmtrl_tt": {"capped": False},
    "dselect_k": {"per_example": True},
    "mtan": {"squeeze": 2},
    "ple": {"levels": 3},
}


def comparisons(asked: Collection[str] = (), some: Collection[str] = ()) -> Iterator[Comparison]:
    """All of them, or those of some methods, on all problems or on some."""
    known = load_plugins().methods
    for i, case in enumerate(cases()):
        if some and case.name not in some:
            continue
        for name in METHODS:
            method = known[name]()
            assert isinstance(method, GradientMethod)
            if (asked and name not in asked) or method.supports(case.problem, case.recipe) is not None:
                continue
            if name == "mrn" and case.recipe.backbone != "auto":
                continue  # 500 features: a Kronecker product with a billion numbers
            for changes in ({}, *([_OTHER_SETTINGS[name]] if name in _OTHER_SETTINGS else ())):
                yield from of_method(method, case, 100 * i + len(name), changes)
    for name, kind in (("dmtrl_laf", LAF), ("dmtrl_tucker", Tucker), ("dmtrl_tt", TensorTrain)):
        if not asked or name in asked:
            yield from of_start(name, kind)


def of_method(method: GradientMethod, case: Case, seed: int, changes: Mapping[str, Any]) -> Iterator[Comparison]:
    """The objective and its gradient by all weights, and what follows a step."""
    params = hyperparameters(method, changes)
    torch.manual_seed(seed)
    model = method.build(case.problem, params, case.recipe).double()
    randomise(model, case)
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    parameters = list(model.parameters())
    mine = method.objective(model, case.batch(), params)
    if method.name in OBJECTIVES:
        other = OBJECTIVES[method.name](held, case, params)
    else:
        shapes = {name: layer_shape(method.name, name, f) for name, f in model.factors.items()}
        other = factorised.objective(method.name, held, case, params, shapes)
    yield compared(method.name, case.name, "objective", mine.item(), other.item())
    gradients = [gradient_of(value, parameters) for value in (mine, other)]
    yield compared(method.name, case.name, "gradient", *gradients)
    yield from of_first_stage(method, model, case, params)
    yield from after_step(method, model, case, params)


def of_first_stage(method: GradientMethod, model: nn.Module, case: Case, params: Any) -> Iterator[Comparison]:
    """The objective of a first stage, where it is that of another method: fine-tuning's."""
    if method.name != "fine_tuned":
        return
    joint = method.stages(params, case.recipe)[0].terms
    assert joint is not None
    other = shared_systems.hard_sharing(dict(model.named_parameters()), case, params)
    mine = joint(model, case.batch(), params).sum
    yield compared(method.name, case.name, "objective of the first stage", mine.item(), other.item())


def hyperparameters(method: GradientMethod, changes: Mapping[str, Any]) -> Any:
    """Real ones different from each other and from 0, sizes small; dropout, which depends on the step, is 0."""
    known = describe(method.Params)
    values = {name: 0.1 + 0.07 * i for i, name in enumerate(known) if known[name].kind is float}
    values |= {name: size for name, size in {**_SIZES, "dropout": 0.0}.items() if name in known}
    return dataclasses.replace(method.Params(), **{**values, **changes})


def randomise(model: nn.Module, case: Case) -> None:
    """Every weight random; covariances random, their precisions with them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3)
            if name in ("heads.S", "S") and parameter.ndim == 3:  # columns beyond a task's outputs are never read
                for t, task in enumerate(case.problem.tasks):
                    parameter[t, :, task.n_outputs :] = 0
        for name, buffer in model.named_buffers():
            if ".covariance_" in name:
                root = torch.randn_like(buffer)
                buffer.copy_(root @ root.T / len(root) + torch.eye(len(root)))
                model.get_buffer(name.replace("covariance", "precision")).copy_(torch.linalg.inv(buffer))


def layer_shape(method: str, name: str, factors: Any) -> tuple[int, ...]:
    """The shape of one task's weights."""
    return tuple(factors.weights().shape[1:])


def gradient_of(value: Tensor, parameters: list[nn.Parameter]) -> Any:
    """By all parameters, one after the other."""
    found = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found]).numpy()


def after_step(method: GradientMethod, model: nn.Module, case: Case, params: Any) -> Iterator[Comparison]:
    """Closed-form updates: MRN's covariances and their inverses, Deep-AMTL's transfer."""
    if not method.update_every:
        return
    with torch.no_grad():
        mine = method.after_step(model, case.batch(), params)
        held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        wanted = {}
        if method.name == "mrn":
            wanted = task_systems.flip_flop(held, "hidden_prior", held["V"])
            if "head_prior.covariance_tasks" in held:
                wanted |= task_systems.flip_flop(held, "head_prior", held["heads.S"])
            wanted |= {n.replace("covariance", "precision"): torch.linalg.inv(v) for n, v in wanted.items()}
        if method.name == "deep_amtl":
            wanted = {"B": shared_systems.projected(held["B"], case)}
    for name in sorted({*mine, *wanted}):
        yield compared(
            method.name, case.name, f"{name.rsplit('.', 1)[-1]} after", *(x.get(name, ()) for x in (mine, wanted))
        )


def of_start(name: str, kind: type[Any]) -> Iterator[Comparison]:
    """Truncated decompositions of noisy weights of few directions, with a cap on the rank of the tasks and without."""
    rng = np.random.default_rng(0)
    for n_tasks, shape in ((2, (5, 4)), (6, (7, 5)), (5, (3, 3, 2, 4))):
        bases = rng.normal(size=(n_tasks, 2)) @ rng.normal(size=(2, int(np.prod(shape))))
        weights = (bases + 0.3 * rng.normal(size=bases.shape)).reshape(n_tasks, *shape)
        for capped in (True, False):
            found = kind(torch.from_numpy(weights).float())
            found.load_state_dict(found.state_dict() | found.truncated(0.1, capped))
            most = max(1, n_tasks - 1) if capped else n_tasks
            wanted, rank = factorised.STARTS[kind.__name__](weights, 0.1, most)
            where = f"{n_tasks} tasks, {shape}"
            yield compared(name, where, "truncated start", found.weights().detach().numpy(), wanted)
            yield compared(name, where, "rank of the tasks", found.task_rank.item(), rank)
            error = np.linalg.norm(wanted - weights) / np.linalg.norm(weights)
            # Both are shares of the weights already: where the rank is whole they are rounding.
            yield compared(name, where, "error of the start", 1 + found.relative_error.item(), 1 + error)
