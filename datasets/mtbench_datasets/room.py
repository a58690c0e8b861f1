"""Indoor scenes: 20 classes of ImageNet, one against all, on features that the user has.

Source: a subset of ImageNet that "Asymmetric Multi-task Learning Based on Task Relatedness and Loss" (ICML 2016) chose:
14,140 images of 20 indoor scenes, described by 4,096 DeCAF features. Neither these features nor the list of images are
public, and ImageNet may not be passed on. The loader therefore reads any features of any scenes, from
room/room_features.h5, in the layout that `mtbench.data.feature_file` states: `class_index`, integers [n], with an
attribute `classes` that holds the names, and one float matrix [n, d] for each kind of features. `write_features` there
writes it.
The option `features` names kinds, joined by "+"; "all" takes all of them side by side.
Licence: ImageNet's terms (research and education only).
Preprocessing: of each kind, every image's features are scaled to a mean square of 1; more than 500 columns are
projected on their first 500 principal components, fitted on the training rows of the split, as in the paper.
Shapes: rows [at most 500], labels [n, C].
Splits: 20 images of each class test, as in the paper. It trains on the others, 30 to over 1,000 a class; here a fifth
of them validates. Every split is a draw. A trial's identity holds the content of the features.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtbench import DataError, Dataset, Problem, Recipe, Reference, draw_by_group, hookimpl, seed_from, tunable
from mtbench.data.feature_file import Features, kinds_in, read_features
from mtbench.data.projection import principal_components
from mtbench.data.splits import one_vs_all

FEATURE_FILE = "room/room_features.h5"
N_COMPONENTS = 500
TEST_IMAGES, VALIDATION_SHARE = 20, 0.2  # of each class


@dataclass(frozen=True, kw_only=True)
class RoomOptions:
    """Which features."""

    features: str = tunable("all", help="kinds of features joined by '+', or all")


class Room(Dataset):
    """Indoor scenes, told apart one against all."""

    name = "room"
    title = "Indoor scenes of ImageNet, one-vs-all, features of the user's own"
    licence = "ImageNet's terms: research and education only"
    licence_text = (
        "ImageNet (https://www.image-net.org/download.php) is given, on request, to researchers who agree to use it "
        "for non-commercial research and education only, and may not be passed on. mtbench fetches nothing: the "
        "features are the user's own, and so is the care for these terms."
    )
    citation = Reference("Asymmetric Multi-task Learning Based on Task Relatedness and Loss", "ICML 2016")
    Options = RoomOptions
    recipe = Recipe(backbone="mlp", hidden=1000, max_epochs=40, patience=8)
    selection_metric = report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Says what is to be put where; nothing can be fetched."""
        if not (root / FEATURE_FILE).is_file():
            raise DataError(
                f"{self.name}: its features are not public. Write features of your own to {root / FEATURE_FILE}: "
                "'class_index', whole numbers [n], with the attribute 'classes' (the names), and one float matrix "
                f"[n, d] per kind of features; at least {TEST_IMAGES + 2} images a class. "
                "mtbench.data.feature_file.write_features writes it."
            )

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """The file of features."""
        return (FEATURE_FILE,)

    def check(self, root: Path, path: str) -> None:
        """Reads all of it, and compares it with its hashes where it has any."""
        read_features(root / path, self.name, kinds_in(root / path, self.name))

    def content_hash(self, root: Path, options: RoomOptions) -> str:
        """Takes in the content of the features in use."""
        record = [self.name, self.version, self._features(root, options).sha256]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def load(self, root: Path, split: int, options: RoomOptions) -> Problem:
        """Draws a split of the images that the features describe."""
        self.check_split(split)
        chosen = self._features(root, options)
        n = np.bincount(chosen.class_index, minlength=len(chosen.classes))
        if n.min() < TEST_IMAGES + 2:
            raise DataError(
                f"{self.name}: every class in {root / FEATURE_FILE} must have at least {TEST_IMAGES + 2} images; found "
                f"{n.min()} of '{chosen.classes[int(n.argmin())]}'. Leave that class out."
            )
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        n_validation = np.maximum(np.rint(VALIDATION_SHARE * (n - TEST_IMAGES)), 1)
        test, validation, train = draw_by_group(chosen.class_index, (TEST_IMAGES, n_validation), rng)
        rows = chosen.rows
        if rows.shape[1] > N_COMPONENTS:
            centre, components = principal_components(rows[train].astype(np.float64), N_COMPONENTS)
            rows = ((rows - centre) @ components).astype(np.float32)
        drawn = {"train": train, "validation": validation, "test": test}
        return one_vs_all(self.name, split, rows, chosen.class_index, chosen.classes, drawn)

    def _features(self, root: Path, options: RoomOptions) -> Features:
        path = root / FEATURE_FILE
        kinds = kinds_in(path, self.name) if options.features == "all" else options.features.split("+")
        return read_features(path, self.name, kinds)


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [Room]
