"""From a study to cells, and from cells to trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.hyperparameters import Hyperparameter, Range, describe, find
from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.refusal import refusal
from mtbench.contracts.scale import PLAIN, Scale, scale_of
from mtbench.contracts.scoring import Scoring, check_scoring, scoring_of
from mtbench.contracts.trials import LEARNING_RATE, WITH, Cell, Trial, plain_name
from mtbench.contracts.values import Value
from mtbench.contracts.weighted import of_weighting
from mtbench.errors import StudyError, UnknownName
from mtbench.plan.ranges import own_range, searched
from mtbench.plan.search import Search, Setting, listed, parse_search
from mtbench.plan.searches import check_search, search_of
from mtbench.plugins.loading import content_hash, content_splits, load_split
from mtbench.tasks import Problem, Weight
from mtbench.tasks.fingerprint import Fingerprint, fingerprint

if TYPE_CHECKING:  # pydantic, and where plugins come from: trainers and benchmarks do without
    from mtbench.plan.study import Study
    from mtbench.plugins.host import Plugins


@dataclass(frozen=True, eq=False)
class PlannedCell:
    """A cell with all that a study asks of it.

    Attributes:
        cell: Its identity.
        method: The method.
        dataset: The data set.
        options: The data set's options.
        search: Which hyperparameters to try.
        splits: Splits to train on.
        seeds: Seeds per split.
        refit: Whether the selected setting is trained again on training and validation rows.
        shapes: By split, what problems must share to be trained in one stack.
        content: By split, the fingerprint of its problem.
        skipped: Why the method cannot train here, or None.
        recipe_changes: Recipe fields the user changed.
        base: The cell that is trained first, once per split and seed, for this one's trials to start from its backbone.
        scoring: The metrics that the data set is scored by.
        ranges: Where the search looks for what it varies, as `mtbench.plan.ranges.searched` has it.
        together: Whether one setting is selected for all splits, so that the search compares over all of them.
        weights: Which weights its problems declare.
    """

    cell: Cell
    method: Method
    dataset: Dataset
    options: Any
    search: Search
    splits: Sequence[int]
    seeds: int
    refit: bool
    shapes: Mapping[int, tuple[object, ...]]
    content: Mapping[int, Fingerprint]
    skipped: str | None
    recipe_changes: Mapping[str, object]
    scoring: Scoring
    base: PlannedCell | None = None
    ranges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    together: bool = False
    weights: tuple[Weight, ...] = ()

    @property
    def settings(self) -> Sequence[Setting]:
        """Settings that are tried in any case, draw 0 first."""
        return self.search.known

    @property
    def n_trials(self) -> int:
        """Trials of the whole search, as planned."""
        return len(self.splits) * self.seeds * sum(size.n_settings for size in self.search.sizes)

    @property
    def places(self) -> dict[str, Sequence[int]]:
        """Where results of settings are compared, by name: splits alone, or all splits together."""
        return {"all": self.splits} if self.together else {f"split {split}": [split] for split in self.splits}

    def trials(self) -> list[Trial]:
        """Full trainings of the settings that are known beforehand."""
        places = [(split, seed) for split in self.splits for seed in range(self.seeds)]
        return [Trial(self.cell, s, split, seed) for split, seed in places for s in self.settings]


def hyperparameters(method: type[Method], recipe: Recipe, scale: Scale = PLAIN) -> dict[str, Hyperparameter]:
    """A method's hyperparameters under a recipe: its own and, where it is trained in epochs, the learning rate.

    Args:
        method: The method.
        recipe: The recipe.
        scale: What defaults and ranges are to fit; without one they are as declared.
    """
    known = {name: h.at(scale) for name, h in describe(method.Params).items()}
    if method.in_epochs:
        rate, span = recipe.learning_rate, recipe.learning_rate_span
        grid = tuple(dict.fromkeys(float(f"{value:.6g}") for value in (rate / span, rate, rate * span)))
        known[LEARNING_RATE] = Hyperparameter(
            LEARNING_RATE,
            float,
            rate,
            Range(grid, rate / span, rate * span),
            0.0,
            None,
            (),
            "step size of the optimiser",
        )
    return known


def plan_cells(study: Study, plugins: Plugins, root: Path) -> list[PlannedCell]:
    """The grid of a study.

    Raises:
        UnknownName: A method, data set, hyperparameter, option or recipe field does not exist.
        StudyError: A value is out of range, or there are fewer splits.
        DataError: Data are missing or corrupt.
    """
    methods = {name: plugins.method(name) for name in study.methods}
    datasets = {name: plugins.dataset(name) for name in study.datasets}
    _check_owners(study, methods, datasets)
    check_search(study.search)
    return [
        _planned(study, plugins, method, loaded)
        for loaded in (_loaded(study, plugins, dataset(), root) for dataset in datasets.values())
        for method in methods.values()
    ]


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A data set as a study asks for it: what its cells have in common.

    Attributes:
        dataset: The data set.
        options: Its options.
        changes: Recipe fields the user changed.
        recipe: The recipe with them.
        content: Stands for its content.
        fingerprints: By split, that of its problem.
        problem: The problem of split 0.
        shapes: By split, what problems must share to be trained in one stack.
        scale: What defaults and ranges must fit: that of split 0, so that settings do not depend on how many there are.
        base: The cell whose backbone the recipe lets others start from.
    """

    dataset: Dataset
    options: Any
    changes: Mapping[str, object]
    recipe: Recipe
    content: str
    fingerprints: Mapping[int, Fingerprint]
    problem: Problem
    shapes: Mapping[int, tuple[object, ...]]
    scale: Scale
    base: PlannedCell | None = None


def _loaded(study: Study, plugins: Plugins, dataset: Dataset, root: Path) -> _Loaded:
    name = dataset.name
    options = parse_options(dataset, study.options.get(name, {}))
    changes = dict(study.recipe.get(name, {})) | ({"dtype": study.dtype} if study.dtype else {})
    recipe = dataset.recipe.override(changes, name)
    n_splits = study.splits or dataset.default_splits
    if n_splits > dataset.n_splits:
        raise StudyError(f"{name} has {dataset.n_splits} splits; found {n_splits} asked for.")
    splits = content_splits(dataset, range(n_splits))
    problems = {split: load_split(dataset, root, split, options, study.out / "logs") for split in splits}
    fingerprints = {split: fingerprint(problem) for split, problem in problems.items()}
    content = content_hash(dataset, root, options, fingerprints)
    problems = {split: problems[split] for split in range(n_splits)}
    for problem in problems.values():
        check_scoring(dataset, problem)
    shapes = {split: _shape(problem) for split, problem in problems.items()}
    known = (content, fingerprints, problems[0], shapes, scale_of(problems[0]))
    loaded = _Loaded(dataset, options, changes, recipe, *known)
    return dataclasses.replace(loaded, base=_base(study, plugins, loaded)) if recipe.base else loaded


def _base(study: Study, plugins: Plugins, loaded: _Loaded) -> PlannedCell:
    """The cell of a recipe's base: the method it names, with its defaults, trained from scratch."""
    recipe, dataset = loaded.recipe, loaded.dataset
    method = plugins.method(recipe.base)()
    known = loaded.problem.without_test()
    reason = refusal(method, known, recipe) if method.in_epochs else "it has no backbone"
    if reason is not None:
        raise StudyError(
            f"The base of {dataset.name} must be a method with a backbone that supports its problem; found "
            f"'{recipe.base}': {reason}. `--recipe {dataset.name}.base=cnn` names another."
        )
    own = dataclasses.replace(
        recipe,
        base="",
        base_epochs=0,
        base_learning_rate=0.0,
        max_epochs=recipe.base_epochs or recipe.max_epochs,
        learning_rate=recipe.base_learning_rate or recipe.learning_rate,
        keep="backbone",
    )
    cell = _identity(method, _distributions(plugins, method.name), loaded, own)
    # As declared, whatever the scale of the data: a base is part of the recipe, not of a search.
    defaults = {name: known.default for name, known in hyperparameters(type(method), own).items()}
    return PlannedCell(
        dataclasses.replace(cell, role="base"),
        method,
        dataset,
        loaded.options,
        listed([defaults]),
        range(len(loaded.shapes)),
        study.seeds,
        False,
        loaded.shapes,
        loaded.fingerprints,
        None,
        loaded.changes,
        scoring_of(dataset, loaded.problem.tasks),
    )


def _planned(study: Study, plugins: Plugins, method_class: type[Method], loaded: _Loaded) -> PlannedCell:
    method, dataset, recipe = method_class(), loaded.dataset, loaded.recipe
    known, fixed = _as_set(study, method, hyperparameters(method_class, recipe, loaded.scale))
    search = search_of(study.search, method, dataset, recipe, known, fixed)
    refit = recipe.refit if study.refit is None else study.refit
    # Where one setting is tried and nothing is refitted, the search's own trials are the final ones.
    if len(search.known) == 1 and not refit and recipe.keep == "final":
        recipe = dataclasses.replace(recipe, keep="all")
    cell = _identity(method, _distributions(plugins, method.name), loaded, recipe)
    base = loaded.base if method.in_epochs else None
    if base is not None:
        cell = dataclasses.replace(cell, base=base.cell.digest(base.settings[0]))
    return PlannedCell(
        cell,
        method,
        dataset,
        loaded.options,
        search,
        range(len(loaded.shapes)),
        study.seeds,
        refit,
        loaded.shapes,
        loaded.fingerprints,
        refusal(method, loaded.problem.without_test(), recipe),
        loaded.changes,
        scoring_of(dataset, loaded.problem.tasks),
        base,
        searched(known, parse_search(study.search)[0], fixed),
        study.selection == "across_splits",
        loaded.problem.weights,
    )


def _distributions(plugins: Plugins, name: str) -> str:
    """What provides a method: its distribution; under a weighting of another one, both."""
    return WITH.join(dict.fromkeys(owner.distribution for owner in plugins.providers(name)))


def _identity(method: Method, distribution: str, loaded: _Loaded, recipe: Recipe) -> Cell:
    dataset = loaded.dataset
    options = dataclasses.asdict(loaded.options)
    data = (dataset.name, dataset.version, options, loaded.content)
    return Cell(method.name, method.version, distribution, *data, recipe)


def _check_owners(study: Study, methods: Iterable[str], datasets: Iterable[str]) -> None:
    known = dict.fromkeys(name for method in methods for name in (method, plain_name(method)))
    for key in study.set:
        if (owner := key.split(".")[0]) not in known:
            raise UnknownName.among("method", owner, known, "Only methods of this run can be set.", where="in --set")
    for what, owners in (("--recipe", study.recipe), ("--option", study.options)):
        for owner in owners:
            if owner not in datasets:
                raise UnknownName.among(
                    "data set", owner, datasets, "Only data sets of this run can be set.", where=f"in {what}"
                )


def _as_set(
    study: Study, method: Method, known: Mapping[str, Hyperparameter]
) -> tuple[dict[str, Hyperparameter], dict[str, list[Value]]]:
    """The hyperparameters with the ranges that a study sets, and the values that it sets.

    What is set of a method holds under every weighting, too; what is set of "method+weighting" goes before it.
    """
    changed, fixed = dict(known), {}
    without = {name: h for name, h in known.items() if name not in of_weighting(method)}
    for name, (owner, values) in _values_set(study, method.name).items():
        h = find(known if owner == method.name else without, name, owner)
        own = own_range(h, values, owner)
        if own is not None:
            changed[name] = own
        else:
            fixed[name] = [h.parse(v, owner) for v in values]
    return changed, fixed


def _values_set(study: Study, method: str) -> dict[str, tuple[str, Sequence[object]]]:
    """What a study sets of a method: by name of the hyperparameter, the method it is set of and the values."""
    found: dict[str, tuple[str, Sequence[object]]] = {}
    for owner in dict.fromkeys((plain_name(method), method)):
        set_of_it = {key: values for key, values in study.set.items() if key.split(".")[0] == owner}
        found |= {key.split(".")[1]: (owner, values) for key, values in set_of_it.items()}
    return found


def parse_options(dataset: Dataset, changes: Mapping[str, object]) -> Any:
    """A data set's options with some changed.

    Raises:
        UnknownName: An option does not exist.
        StudyError: A value is not allowed.
    """
    known = describe(dataset.Options)
    parsed: dict[str, Value] = {}
    for name, value in changes.items():
        if name not in known:
            raise UnknownName.among(
                "option", name, known, f"`mtbench show {dataset.name}` lists them.", where=f"of {dataset.name}"
            )
        parsed[name] = known[name].parse(value, dataset.name)
    return dataset.Options(**parsed)


def _shape(problem: Problem) -> tuple[object, ...]:
    """What the splits in a stack must share: rows of each part, and the tasks' outputs."""
    train = problem.parts["train"].task
    present = problem.n_tasks if train is None else len(np.unique(train))  # absent ones may be given a row each
    return (tuple((name, part.inputs.shape) for name, part in problem.parts.items()), present, tuple(problem.tasks))
