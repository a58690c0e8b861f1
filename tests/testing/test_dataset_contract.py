"""The contract finds what it is there to find: data sets that break it, one promise each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mtbench import Dataset, NoOptions, Part, Problem, Reference, Source, Task, TaskKind
from mtbench.testing import DatasetContract


class Right(Dataset):
    name = "right"
    title = "A data set that keeps the contract"
    licence = "none"
    citation = Reference("A data set", "Nowhere 2020")
    selection_metric = "error"
    report_metric = "error"
    n_splits = 3
    default_splits = 2
    classes = 2

    def load(self, root: Path, split: int, options: object) -> Problem:
        self.check_split(split)
        return self.drawn(split, np.random.default_rng(split))

    def drawn(self, split: int, rng: np.random.Generator) -> Problem:
        def part() -> Part:
            labels = rng.integers(self.classes, size=(20, 2)).astype(np.float32)
            return Part(rng.standard_normal((20, 3)).astype(np.float32), labels)

        tasks = (Task("a", TaskKind.BINARY), Task("b", TaskKind.BINARY))
        return Problem(self.name, split, tasks, {"train": part(), "validation": part(), "test": part()})


class Unseeded(Right):
    def load(self, root, split, options):
        return self.drawn(split, np.random.default_rng())


class GloballySeeded(Right):
    def load(self, root, split, options):
        return self.drawn(split, np.random.default_rng(np.random.randint(1000)))  # noqa: NPY002


class OneSplit(Right):
    def load(self, root, split, options):
        self.check_split(split)
        return self.drawn(split, np.random.default_rng(0))


class AnySplit(Right):
    def load(self, root, split, options):
        return self.drawn(split, np.random.default_rng(split + 1))


class ThreeClasses(Right):
    classes = 3


class FalselyShared(Right):
    splits_share_rows = True


class Nameless(Right):
    name = "Not a name"


class NoLicence(Right):
    licence = ""


class WrongMetric(Right):
    report_metric = "rmse"


class UnknownPart(Right):
    also_report = ("error@elsewhere",)


class Outside(Right):
    sources = (Source("../file", "0" * 64),)


class SilentlyMissing(Right):
    sources = (Source("file", "0" * 64),)


@dataclass(frozen=True)
class MutableOptions:
    sizes: list = None


class OddOptions(Right):
    Options = MutableOptions


def broken(dataset: type[Dataset], tmp_path: Path) -> list[str]:
    """Names of the contract's tests that fail, without test_."""
    suite = DatasetContract()
    suite.dataset, suite.root = dataset, tmp_path
    failed = []
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite, name)(*([tmp_path] if name == "test_missing_files_are_named" else []))
            except (Exception, pytest.fail.Exception):
                failed.append(name.removeprefix("test_"))
    return failed


def test_a_data_set_that_keeps_the_contract_passes(tmp_path):
    assert broken(Right, tmp_path) == []
    assert isinstance(Right.Options(), NoOptions)


@pytest.mark.parametrize(
    ("dataset", "promise"),
    [
        (Unseeded, "loading_is_deterministic"),
        (GloballySeeded, "loading_neither_reads_nor_moves_the_global_generators"),
        (OneSplit, "splits_differ_unless_they_share_their_rows"),
        (FalselyShared, "splits_differ_unless_they_share_their_rows"),
        (AnySplit, "splits_that_do_not_exist_are_refused"),
        (ThreeClasses, "every_split_gives_a_problem"),
        (Nameless, "it_says_what_it_is"),
        (NoLicence, "it_says_what_it_is"),
        (WrongMetric, "metrics_can_be_computed"),
        (UnknownPart, "metrics_can_be_computed"),
        (Outside, "sources_are_verifiable_and_stay_below_the_data_root"),
        (SilentlyMissing, "missing_files_are_named"),
        (OddOptions, "options_have_valid_defaults"),
    ],
)
def test_a_broken_promise_is_found(dataset, promise, tmp_path):
    assert promise in broken(dataset, tmp_path)
