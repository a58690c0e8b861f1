"""The devices that benchmarks measure on."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import torch

from mtbench.trials import Trial


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
