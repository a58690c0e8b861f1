"""How cells were divided into stacks: decided once per set of trials, so that a resumed run trains the same stacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtbench.errors import StoreError

DIVISION_FORMAT = 1


@dataclass(frozen=True)
class Division:
    """The division of a set of trials of one cell.

    Attributes:
        cell_key: `Cell.key` of the cell.
        stacks: Trial ids, stack by stack.
        facts: What led to it (device, calibration), for people.
    """

    cell_key: str
    stacks: list[list[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of its file: the same for every division of the same trials of the same cell."""
        return division_name(self.cell_key, [trial for stack in self.stacks for trial in stack])

    def to_bytes(self) -> bytes:
        """Its file's content."""
        record = {
            "format": DIVISION_FORMAT,
            "cell": self.cell_key,
            "stacks": self.stacks,
            "facts": dict(self.facts),
        }
        return json.dumps(record, indent=1, default=str).encode() + b"\n"


def division_name(cell_key: str, trial_ids: Sequence[str]) -> str:
    """The name of the file that holds how these trials of a cell are divided, whatever their order."""
    digest = hashlib.sha256("\n".join([cell_key, *sorted(trial_ids)]).encode())
    return digest.hexdigest() + ".json"


def read_division(path: Path) -> Division:
    """The division in a file.

    Raises:
        StoreError: The file does not hold one, or not the one its name says.
    """
    try:
        record = json.loads(path.read_bytes())
        found = record["format"]
        division = Division(record["cell"], record["stacks"], record["facts"])
        fits = found == DIVISION_FORMAT and division.file_name == path.name and all(division.stacks)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} must hold a division: {error!r}. {_REMEDY}") from None
    if not fits:
        raise StoreError(
            f"{path} must hold a division of format {DIVISION_FORMAT} of the trials its name stands for; found format "
            f"{found} or other trials. {_REMEDY}"
        )
    return division


_REMEDY = "Move it away: the cell is then divided anew, and finished trials stay."
