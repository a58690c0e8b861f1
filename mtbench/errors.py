"""The errors mtbench raises on purpose. Each message says what must hold, what was found, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MtbenchError(Exception):
    """Root of all errors a user can cause or must hear of; the command line prints it as one line."""


class PluginError(MtbenchError):
    """A plugin could not be loaded, breaks a contract, or claims a name that is taken."""


class UnknownName(MtbenchError):
    """A method, data set, metric, field or rule of that name does not exist."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], hint: str = "", where: str = "") -> UnknownName:
        """Builds the error for `name`, with the nearest known name and where to see all of them.

        Args:
            kind: What the name should have named, e.g. "method".
            name: The name as given.
            known: All names that would have been right.
            hint: A closing sentence, e.g. "`mtbench list methods` shows all 22."
            where: What it should have been part of, e.g. "in this store".
        """
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        parts = [f"Unknown {kind} '{name}'{where and f' {where}'}."]
        if near:
            parts.append(f"Did you mean '{near[0]}'?")
        elif not hint:
            parts.append(f"Known: {', '.join(known) or 'none'}.")
        if hint:
            parts.append(hint)
        return cls(" ".join(parts))


class StudyError(MtbenchError):
    """A study, command-line setting or hyperparameter is malformed or out of range."""


class DataError(MtbenchError):
    """Data are missing, corrupt, or break the data model."""


class StoreError(MtbenchError):
    """A results store cannot be read or written."""
