"""mtbench on a GPU, in one command of at most nine minutes: `python -m benchmarks.gpu`.

Runs from a checkout wherever torch sees CUDA, installed or not: methods are imported from the checkout, data are
generated in the shapes of real data sets. In turn it looks at:

- agreement: every method on the device against the CPU, and stacked against alone, in float64 and float32;
- resume: the same training twice, and one that was stopped and goes on, to the last bit;
- epochs: what waits for the device inside an epoch, by the profiler, and where the data lie;
- memory: predicted before a stack starts, against the allocator's peak;
- precision: bfloat16 and channels last, their gain and what they change;
- speed: stacks against plain loops and one CPU core: tiny networks, School, LeNet, conv4 towers, ResNet-18.

Prints a table and writes the figures, with the card's name, to benchmarks/figures/gpu.json. Without CUDA it goes the
same way on the CPU, in miniature, and writes nothing unless asked to. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import agreement, epochs, memory, precision, resume, speed
from benchmarks.gpu.built_in import missing_packages
from benchmarks.gpu.figures import Row, Setting, environment
from mtbench.training.exactness import repeatable

SECTIONS: dict[str, tuple[Callable[[Setting], list[Row]], float]] = {
    "agreement": (agreement.rows, 0.27),
    "resume": (resume.rows, 0.15),
    "epochs": (epochs.rows, 0.10),
    "memory": (memory.rows, 0.07),
    "precision": (precision.rows, 0.03),
    "speed": (speed.rows, 0.38),
}
"""Each with its share of the time; what one leaves goes to those after it."""

FIGURES = Path(__file__).parents[1] / "figures" / "gpu.json"
LIMIT = 540.0
RESERVE = 30.0  # seconds before the limit at which nothing new is begun


def main() -> None:
    """Goes through the sections and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated  [default: all]")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="for all of it  [default: 540]")
    parser.add_argument("--out", type=Path, help="JSON file  [default on a GPU: benchmarks/figures/gpu.json]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    started = time.monotonic()
    small = device.type != "cuda"
    facts = environment(device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    if missing := missing_packages():
        print(f"not installed here, and done without: {', '.join(missing)}")
    sections, until = {}, started
    for name in options.only.split(","):
        until += SECTIONS[name][1] * (options.seconds - RESERVE)
        sections[name] = _section(name, Setting(device, small, until))
    print(f"{time.monotonic() - started:.0f} s in all")
    out = options.out or (FIGURES if device.type == "cuda" else None)
    if out is not None:
        out.write_text(json.dumps({**facts, "missing": missing, "sections": sections}, indent=1) + "\n")
    if any(row["met"] is False for rows in sections.values() for row in rows):
        raise SystemExit(1)


def _section(name: str, setting: Setting) -> list[dict[str, Any]]:
    started = time.monotonic()
    try:
        with repeatable(setting.device):
            rows = SECTIONS[name][0](setting)
    except Exception as error:  # one section's fault should not cost the figures of the others
        traceback.print_exc()
        rows = [Row(name, f"failed: {type(error).__name__}: {error}", "figures", False)]
    if setting.missed:
        rows.append(Row("not reached in time", ", ".join(setting.missed), "nothing", False))
    print(f"\n{name} ({time.monotonic() - started:.0f} s)")
    for row in rows:
        print(f"  {row.what:48} {row.figure}" + (f"   [{row.goal}: {row.verdict}]" if row.goal else ""), flush=True)
    return [
        {"what": r.what, "figure": r.figure, "goal": r.goal, "met": None if r.met is None else bool(r.met), **r.values}
        for r in rows
    ]


if __name__ == "__main__":
    main()
