"""The built-in methods and the data sets they are measured on, without what a bare machine lacks.

A machine with a GPU often has torch and numpy and no way to install anything. The plugin host needs the installed
package, pydantic and platformdirs; methods and trainer do not. So methods are imported from the checkout's folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from typing import Any

from mtbench.contracts.method import Method
from mtbench.testing.problems import (
    Miniature,
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
)

ASKED_FOR = (
    "torch", "numpy", "scipy", "pandas", "h5py", "pluggy", "click", "rich", "sklearn", "pydantic", "platformdirs",
    "pooch", "matplotlib", "PIL",
)  # fmt: skip
"""What an installation of mtbench has."""


def missing_packages() -> list[str]:
    """Packages of an installation that are not here."""
    return [name for name in ASKED_FOR if importlib.util.find_spec(name) is None]


def methods() -> dict[str, Method]:
    """All built-in methods by name."""
    folder = Path(__file__).parents[2] / "plugins"
    if importlib.util.find_spec("mtbench_methods") is None:
        sys.path.insert(0, str(folder))
    package = importlib.import_module("mtbench_methods")
    modules = [
        importlib.import_module(found.name) for found in pkgutil.iter_modules(package.__path__, "mtbench_methods.")
    ]
    classes: list[Any] = [
        cls for module in modules if hasattr(module, "mtbench_methods") for cls in module.mtbench_methods()
    ]
    return {cls.name: cls() for cls in sorted(classes, key=lambda cls: cls.name)}


SOME = ("stl", "amtfl", "cross_stitch", "mmoe", "dmtrl_laf", "taan_trace_norm")


def cells(small: bool, n_each: int) -> dict[str, tuple[Method, Miniature]]:
    """Methods on miniature data sets that they support, at most so many for each; in miniature, some methods on one."""
    found = {}
    for name, method in methods().items():
        if small and name not in SOME:
            continue
        for dataset in miniatures(method)[: 1 if small else n_each]:
            found[f"{name} x {dataset.name}"] = (method, dataset)
    return found


def miniatures(method: Method) -> list[Miniature]:
    """Miniature data sets that a method supports: both layouts in turn, tables and images."""
    kinds = (SharedOneVsAll, OwnImages, OwnRegression, OwnMulticlass, SharedImages, SharedRegression)
    datasets = [kind() for kind in kinds]
    return [
        dataset
        for dataset in datasets
        if method.supports(dataset.load(Path(), 0, None).without_test(), dataset.recipe) is None
    ]
