"""Checkpoints of half-trained stacks: disposable, and never trusted beyond what their writer could have written.

Guarantees: a checkpoint is complete or absent (written beside its name and renamed); training that goes on from one
gives what uninterrupted training gives, to the last bit; a checkpoint of another stack, another version of mtbench or
torch, or a damaged one, counts as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from mtbench.contracts.trials import Trial
from mtbench.tasks import Array

Arrays = Mapping[str, Array]
_V = TypeVar("_V")


def prefixed(prefix: str, values: Mapping[str, _V]) -> dict[str, _V]:
    """Values by longer names: how the parts of a stack keep theirs apart in one checkpoint."""
    return {prefix + name: value for name, value in values.items()}


def without(prefix: str, values: Mapping[str, _V]) -> dict[str, _V]:
    """Those values whose names begin with a prefix, by the rest of their names: the way back."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


_EVERY = 30.0  # seconds between writes
_DIGEST = 64  # bytes of a SHA-256 in hexadecimal, at the head of the file


class Checkpoint:
    """The checkpoint of one stack.

    Args:
        path: Its file.
        trials: The stack's trials.
        version: Of mtbench and the method's code, as far as known: another one's checkpoints are not used.
        every: Seconds between writes.
    """

    def __init__(self, path: Path, trials: Sequence[Trial], version: str = "", every: float = _EVERY) -> None:
        self._path, self._every = path, every
        self._owner = json.dumps([[trial.id for trial in trials], version, torch.__version__])
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= self._every

    def write(self, arrays: Arrays, texts: Mapping[str, str]) -> None:
        """Replaces what there was; a full disk costs the checkpoint, not the training."""
        self._written = time.monotonic()
        buffer = io.BytesIO()
        named = {f"arrays/{name}": value for name, value in arrays.items()}
        words = np.frombuffer(json.dumps({"owner": self._owner, **texts}).encode(), np.uint8)
        np.savez(buffer, allow_pickle=False, texts=words, **named)
        payload = buffer.getvalue()
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(hashlib.sha256(payload).hexdigest().encode() + payload)
            os.replace(draft, self._path)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Array], dict[str, str]] | None:
        """The arrays and texts last written for this stack; None where there are none that can be used."""
        try:
            content = self._path.read_bytes()
            digest, payload = content[:_DIGEST], content[_DIGEST:]
            if hashlib.sha256(payload).hexdigest().encode() != digest:
                return None
            with np.load(io.BytesIO(payload), allow_pickle=False) as found:
                texts = json.loads(bytes(found["texts"]))
                arrays = {name.removeprefix("arrays/"): found[name] for name in found.files if name != "texts"}
        except (OSError, ValueError, KeyError):
            return None
        return (arrays, texts) if texts.pop("owner", None) == self._owner else None

    def remove(self) -> None:
        """Deletes it, once the stack is finished."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
