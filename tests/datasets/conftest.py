import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtbench import Dataset


@pytest.fixture(scope="session")
def root_of() -> Callable[[type[Dataset]], Path]:
    """The data root for a data set; skips where it needs files that are not there."""

    def find(dataset: type[Dataset]) -> Path:
        root = Path(os.environ.get("MTBENCH_DATA", ""))
        files = dataset().files(root, dataset.Options())
        if files and not os.environ.get("MTBENCH_DATA"):
            pytest.skip(f"MTBENCH_DATA is not set; it must name the folder that holds the files of '{dataset.name}'")
        missing = [path for path in files if not (root / path).is_file()]
        if missing:
            pytest.skip(f"MTBENCH_DATA={root} does not hold {missing[0]}, which '{dataset.name}' is made from")
        return root

    return find
