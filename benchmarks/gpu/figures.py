"""The rows that the sections give, and the clock that they share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from benchmarks.devices import device_name

Case = TypeVar("Case")


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: What was measured.
        figure: In words, with its unit.
        goal: What it should be, in words; "" where there is no goal.
        met: Whether it is; None where there is no goal.
        values: The numbers behind it, for the JSON file.
    """

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One word."""
        return {None: "", True: "met", False: "MISSED"}[self.met]


@dataclass(frozen=True)
class Setting:
    """Where a section measures, and how much of it.

    Attributes:
        device: The device under test.
        small: Miniature sizes and few repetitions: the same path in seconds, for machines without a GPU.
        until: Monotonic time at which the section stops to begin anything new.
        missed: What was not begun for that reason.
    """

    device: torch.device
    small: bool
    until: float
    missed: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        """Until nothing new is begun."""
        return self.until - time.monotonic()

    def in_time(self, cases: Mapping[str, Case]) -> Iterator[tuple[str, Case]]:
        """The cases that are reached in time, with their names; the others are noted as missed."""
        for name, case in cases.items():
            if self.seconds_left <= 0:
                self.missed.append(name)
            else:
                yield name, case


def environment(device: torch.device) -> dict[str, Any]:
    """The card, its driver's version of CUDA, torch."""
    found: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
        }
    return found
