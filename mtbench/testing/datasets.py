"""What every data set plugin must keep, as tests. The built-in data sets are held to the same suite.

class TestMine(DatasetContract):
    dataset = Mine
    root = Path("/data")     # only for data sets made from files
"""

from __future__ import annotations

import random
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.contracts.scoring import check_scoring, metrics_by_part
from mtbench.errors import DataError
from mtbench.metrics import Metric, prediction_width, register
from mtbench.plugins.loading import load_split
from mtbench.tasks import Array, Problem

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")
MD5 = re.compile(r"[0-9a-f]{32}")


class DatasetContract:
    """Base class of a data set's tests.

    Attributes:
        dataset: The data set class.
        root: The data root that holds its files, prepared.
        metrics: Those that it names and a plugin offers.
    """

    dataset: type[Dataset]
    root: Path = Path()
    metrics: tuple[Metric, ...] = ()

    @pytest.fixture(autouse=True)
    def _known_metrics(self) -> None:
        for found in self.metrics:
            register(found)

    def problem(self, split: int = 0) -> Problem:
        """A split with default options; loaded once, so do not write to it."""
        return _loaded(self.dataset, self.root, split)

    def test_it_says_what_it_is(self) -> None:
        data = self.dataset
        assert NAME.fullmatch(data.name), f"a name is lower-case words joined by underscores; found {data.name!r}"
        for field in ("title", "licence", "version"):
            text = getattr(data, field)
            assert text, f"{data.name}: {field} must not be empty"
            assert "\n" not in text, f"{data.name}: {field} must be one line"
        assert isinstance(data.citation, Reference)
        assert isinstance(data.recipe, Recipe)
        assert 1 <= data.default_splits <= data.n_splits

    def test_sources_are_verifiable_and_stay_below_the_data_root(self) -> None:
        for source in self.dataset.sources:
            path = Path(source.path)
            assert not path.is_absolute(), f"{source.path} must be relative to the data root"
            assert ".." not in path.parts, f"{source.path} must stay below the data root"
            assert (SHA256 if source.sha256 else MD5).fullmatch(source.digest), (
                f"{source.path}: the SHA-256 must be 64 lower-case hexadecimal digits, or an MD5 32 where there is none"
            )
            assert source.url is None or source.url.startswith(("https://", "http://"))
        assert len({source.path for source in self.dataset.sources}) == len(self.dataset.sources)

    def test_content_hash_is_stable(self) -> None:
        first, second = (self.dataset().content_hash(self.root, self.dataset.Options()) for _ in range(2))
        assert SHA256.fullmatch(first)
        assert first == second

    def test_options_have_valid_defaults(self) -> None:
        for name, option in describe(self.dataset.Options).items():
            assert option.parse(option.default, self.dataset.name) == option.default, name

    def test_every_choice_of_an_option_loads_where_its_files_are_there(self) -> None:
        for name, option in describe(self.dataset.Options).items():
            for value in option.choices:
                options = self.dataset.Options(**{name: value})
                if value != option.default and not self._has(options):
                    continue
                assert isinstance(self.dataset().load(self.root, 0, options), Problem), f"{name}={value}"

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        if self.dataset().files(tmp_path, self.dataset.Options()):
            with pytest.raises(DataError) as caught:
                self.dataset().load(tmp_path, 0, self.dataset.Options())
            assert str(tmp_path) in str(caught.value), "the message must say where the file was looked for"
            assert self.dataset.name in str(caught.value), "the message must name the data set"

    def test_prepare_leaves_what_is_there_alone(self) -> None:
        before = self._files()
        self.dataset().prepare(self.root)
        assert self._files() == before

    def test_splits_that_do_not_exist_are_refused(self) -> None:
        for split in (-1, self.dataset.n_splits):
            with pytest.raises(DataError):  # `self.check_split(split)` raises it
                self.dataset().load(self.root, split, self.dataset.Options())

    def test_loading_is_deterministic(self) -> None:
        first, second = (self.dataset().load(self.root, 0, self.dataset.Options()) for _ in range(2))
        assert first.tasks == second.tasks
        ours, theirs = _arrays(first), _arrays(second)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype, name
            assert np.array_equal(ours[name], theirs[name], equal_nan=ours[name].dtype.kind == "f"), name

    def test_loading_neither_reads_nor_moves_the_global_generators(self) -> None:
        def draws() -> tuple[float, float]:
            return random.random(), np.random.random()  # noqa: NPY002

        loaded = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            expected = draws()
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            loaded.append(self.dataset().load(self.root, 0, self.dataset.Options()).parts["train"])
            assert draws() == expected, (
                "load must draw from a generator of its own: np.random.default_rng(seed_from(...))"
            )
        assert np.array_equal(loaded[0].inputs, loaded[1].inputs)

    def test_splits_differ_unless_they_share_their_rows(self) -> None:
        for a, b in pairwise(range(min(self.dataset.n_splits, 3))):
            one, other = _arrays(self.problem(a)), _arrays(self.problem(b))
            same = [np.array_equal(one[name], other[name], equal_nan=True) for name in ("train inputs", "train labels")]
            assert all(same) == self.dataset.splits_share_rows, (
                f"splits {a} and {b} have {'the same' if all(same) else 'different'} training rows: make the splits "
                "differ, or say splits_share_rows"
            )

    def test_splits_have_the_same_tasks(self) -> None:
        assert self.problem(self.dataset.n_splits - 1).tasks == self.problem(0).tasks
        assert self.problem(self.dataset.n_splits - 1).input_shape == self.problem(0).input_shape

    def test_problem_carries_its_name_and_split(self) -> None:
        assert self.problem(0).dataset == self.dataset.name
        assert self.problem(self.dataset.n_splits - 1).split == self.dataset.n_splits - 1

    def test_every_split_gives_a_problem(self) -> None:
        # What must hold of parts, labels and inputs a problem checks itself, for every run: see `mtbench.tasks`.
        for split in range(min(self.dataset.n_splits, 3)):
            for name, values in self.problem(split).truth.items():
                assert np.isfinite(values).all(), f"split {split}: truth '{name}' must be finite"

    def test_every_task_has_training_rows(self) -> None:
        sizes = self.problem().task_sizes()
        empty = [task.name for task, size in zip(self.problem().tasks, sizes, strict=True) if size == 0]
        assert not empty, f"tasks without a labelled training row: {empty}"

    def test_metrics_can_be_computed(self) -> None:
        data, problem = self.dataset, self.problem()
        check_scoring(data(), problem)
        for name, metrics in metrics_by_part(data(), problem).items():
            part = problem.parts[name]
            zeros = np.zeros((1, part.n_rows, prediction_width(problem, part)), dtype=np.float32)
            for measure in metrics:
                values = measure.compute(problem, part, zeros)
                assert values.shape == ((1, problem.n_tasks) if measure.per_task else (1,))
                assert np.isfinite(measure.headline(values)).all(), f"{measure.name} on {name} is not finite"

    def _has(self, options: Any) -> bool:
        return all((self.root / path).is_file() for path in self.dataset().files(self.root, options))

    def _files(self) -> dict[str, tuple[int, int]]:
        paths = [self.root / path for path in self.dataset().files(self.root, self.dataset.Options())]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@cache
def _loaded(dataset: type[Dataset], root: Path, split: int) -> Problem:
    return load_split(dataset(), root, split, dataset.Options())


def _arrays(problem: Problem) -> dict[str, Array]:
    """Every array of a problem by name."""
    found: dict[str, Any] = {f"truth {name}": values for name, values in problem.truth.items()}
    for name, part in problem.parts.items():
        found |= {f"{name} inputs": part.inputs, f"{name} labels": part.labels}
        if part.task is not None:
            found[f"{name} task"] = part.task
        if part.sample_weight is not None:
            found[f"{name} sample_weight"] = part.sample_weight
    return found
