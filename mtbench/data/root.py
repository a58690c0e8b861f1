"""Where data sets lie: one rule for every command."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "MTBENCH_DATA"


def data_root(given: Path | None = None) -> Path:
    """The data root: the folder the user names, else MTBENCH_DATA, else the platform's place for user data.

    Args:
        given: What `--data` was given, if it was.
    """
    if given is not None:
        return given.expanduser()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    return Path(platformdirs.user_data_dir("mtbench"))
