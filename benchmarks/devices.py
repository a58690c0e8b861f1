"""The devices that benchmarks measure on, and their clocks."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mtbench.contracts.trials import Trial


def devices() -> list[torch.device]:
    """The CPU, and the first CUDA device where there is one."""
    cuda = [torch.device("cuda:0")] if torch.cuda.is_available() else []
    return [torch.device("cpu"), *cuda]


def device_name(device: torch.device) -> str:
    """What the device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def on_cuda(trial: Trial) -> Trial:
    """The trial with what suits a GPU: bfloat16 autocast, images channels last."""
    recipe = dataclasses.replace(trial.cell.recipe, autocast="bfloat16", channels_last=True)
    return dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))


def seconds(work: Callable[[], object], device: torch.device) -> np.ndarray:
    """Wall and processor seconds of some work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])
