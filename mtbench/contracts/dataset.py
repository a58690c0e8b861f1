"""The Dataset contract: where data come from, how they become problems, and the recipe they are compared under."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.data.sources import Source
from mtbench.errors import DataError
from mtbench.tasks import Problem


@dataclass(frozen=True)
class NoOptions:
    """The options of a data set that has none."""


class Dataset(ABC):
    """A data set as a family of problems, one per split.

    Guarantees asked of a plugin: `load` is pure and deterministic and never touches the network; whatever is fitted to
    data (standardisation, PCA) is fitted on training rows only; `prepare` is idempotent and resumable, and does nothing
    where all `files` are there.

    Attributes:
        name: Unique among all plugins; words joined by underscores.
        title: In words.
        version: Raised when the problems it gives change.
        licence: Licence of the data, in a few words.
        licence_text: More of it, shown before a download: terms to agree to, whom to ask. Empty where there is no more.
        citation: What to cite.
        sources: The files it is made from; empty for generated and bundled data.
        self_contained: `load` reads no file that can change: its data are generated, or come with a package, so that
            name and version stand for them. Without this, without sources and without a `content_hash` of its own, a
            data set is known by what `load` gives, and other content means new trials.
        Options: Frozen dataclass of its options, each a float, int, str or bool with a default.
        recipe: The recipe all methods share on it.
        selection_metric: Chooses epochs and settings, on the validation part.
        report_metric: The headline on the test part.
        metric_by_kind: A metric for each kind of task, such as {"regression": "rmse", "binary": "auc"}, shown task by
            task. Where `selection_metric` or `report_metric` is left out, it is the metric of their kind if all tasks
            are of one, else `relative_loss`, whose mean over tasks of different kinds means something.
        also_report: Further metrics, "name" or "name@part" for a further test part.
        n_splits: How many splits there are.
        default_splits: How many of them a run takes unless told otherwise.
        splits_share_rows: Every split holds the same rows: a split is one run, whose initialisation and batches differ.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str] = "1"
    licence: ClassVar[str]
    licence_text: ClassVar[str] = ""
    citation: ClassVar[Reference]
    sources: ClassVar[tuple[Source, ...]] = ()
    self_contained: ClassVar[bool] = False
    Options: ClassVar[type] = NoOptions
    recipe: ClassVar[Recipe] = Recipe()
    selection_metric: ClassVar[str] = ""
    report_metric: ClassVar[str] = ""
    metric_by_kind: ClassVar[Mapping[str, str]] = MappingProxyType({})
    also_report: ClassVar[tuple[str, ...]] = ()
    n_splits: ClassVar[int] = 5
    default_splits: ClassVar[int] = 5
    splits_share_rows: ClassVar[bool] = False

    @abstractmethod
    def load(self, root: Path, split: int, options: Any) -> Problem:
        """One split as a problem.

        Args:
            root: The data root; files are found at `root / source.path`.
            split: 0 to n_splits - 1.
            options: An instance of `Options`.

        Returns:
            The problem, with `dataset` and `split` set to `name` and `split`.

        Raises:
            DataError: A file is missing, or its content is not what it must be.
        """

    def prepare(self, root: Path, options: Any = None) -> None:
        """Makes `load` possible. May use the network; nothing else may. The default fetches all sources.

        Args:
            root: The data root.
            options: What `load` will be asked for: an instance of `Options`, or None for its defaults.

        Raises:
            DataError: A source cannot be fetched, or what came is not what was published.
        """
        # pooch, and the HTTP stack under it, only where something is fetched.
        from mtbench.data.downloads import fetch

        for source in self.sources:
            fetch(source, root, self.name)

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """Paths below the root of the files that `load` reads: by default the sources, as they are.

        A data set whose `prepare` makes files, or that reads a user's own, names those instead.

        Args:
            root: The data root; nothing is read of it but which files there are.
            options: An instance of `Options`.
        """
        return tuple(source.path for source in self.sources)

    def download_bytes(self, root: Path, options: Any) -> int:
        """Bytes that are still to be fetched, 0 where nobody knows how many: by default those of missing sources.

        Args:
            root: The data root; nothing is read of it but which files there are.
            options: An instance of `Options`.
        """
        if all((root / path).is_file() for path in self.files(root, options)):
            return 0
        return sum(source.n_bytes for source in self.sources if not (root / source.path).is_file())

    def check(self, root: Path, path: str) -> None:
        """Reads a whole file and compares it with what it must be. The default does so for the sources.

        Args:
            root: The data root.
            path: One of `files`, or of the sources' paths.

        Raises:
            DataError: It is missing, or its content is not what it must be.
        """
        from mtbench.data.downloads import verified

        for source in self.sources:
            if source.path == path:
                verified(source, root, self.name)

    def content_hash(self, root: Path, options: Any) -> str:
        """The hash of the data that trial identities hold: by default a SHA-256 over the sources' hashes.

        A data set that reads other files than its sources takes their content in as well. A data set with neither
        sources, nor `self_contained`, nor this method is known by what `load` gives: see `mtbench.plugins.loading`.

        Args:
            root: The data root, which holds what `load` needs.
            options: An instance of `Options`.

        Returns:
            64 hexadecimal digits.
        """
        record = [self.name, self.version, [source.digest for source in self.sources]]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def check_split(self, split: int) -> None:
        """Refuses a split that does not exist.

        Raises:
            DataError: It is not in 0 to n_splits - 1.
        """
        if not 0 <= split < self.n_splits:
            raise DataError(f"{self.name} has splits 0 to {self.n_splits - 1}; found {split}.")
