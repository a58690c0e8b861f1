"""How far a stack has come: lines "epoch active" in a file beside its log, which its worker appends to."""

from __future__ import annotations

from pathlib import Path


def latest(path: Path) -> tuple[int, int] | None:
    """The last whole line of a progress file: epoch, and trials that still train; None before the first."""
    try:
        epoch, n_active = path.read_text().rsplit("\n", 2)[-2].split()
        return int(epoch), int(n_active)
    except (OSError, IndexError, ValueError):
        return None
