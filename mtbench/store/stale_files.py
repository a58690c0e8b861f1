"""What writers that were killed leave in a store's tmp/."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from mtbench.store.claims import alive

_OLD = 3600.0  # seconds


def clear_stale_files(store: Path) -> int:
    """Removes what dead writers left behind more than an hour ago.

    Args:
        store: The store's directory.

    Returns:
        The number of files removed.
    """
    removed = 0
    for path in (store / "tmp").glob("*"):
        with contextlib.suppress(OSError):
            # The number is this machine's or another's; a living process of that number keeps the file either way.
            writer = path.name.rpartition(".")[2].partition("-")[0]
            living = writer.isdigit() and alive(int(writer))
            if not living and time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
                removed += 1
    return removed
