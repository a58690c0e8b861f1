"""Times small commands, of this checkout and of another: `python -m benchmarks.startup [--before FOLDER]`.

Runs of a 30-6-12 network (nn on amtfl_synthetic) of 3 and of 200 trials, each in a new store; `mtbench list methods`
and `mtbench show nn`, whose answers are remembered from an earlier call. FOLDER is a checkout of the commit to compare
with, such as `git worktree add FOLDER COMMIT` makes. The two take turns, so that other work on the machine falls on
both.

Prints and writes medians: seconds until the command ended, CPU seconds (of it and of all processes it waited for), and
the seconds that training itself took, as the store has them. On a busy machine ratios and CPU seconds tell more than
seconds on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtbench.store import Store

HERE = Path(__file__).parents[1]
_NETWORK = ("run", "--methods", "nn", "--datasets", "amtfl_synthetic", "--devices", "cpu:2")
COMMANDS = {
    "3 trials": (*_NETWORK, "--splits", "3"),
    "200 trials": (*_NETWORK, "--splits", "2", "--search", "random:100"),
    "list methods": ("list", "methods"),
    "show nn": ("show", "nn"),
}


def measure(checkout: Path, command: Sequence[str], folder: Path) -> dict[str, float]:
    """One call of a command: "seconds", "cpu_seconds" and, of a run, "training_seconds"."""
    words = [*command, "--out", str(folder / "store")] if command[0] == "run" else list(command)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from mtbench.cli import main; main()", *words],
        cwd=folder, env=_environment(checkout), stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": seconds, "cpu_seconds": cpu}
    if command[0] == "run":
        store = Store.open(folder / "store")
        found["training_seconds"] = sum(
            float(seconds.sum())
            for path in store.stack_paths()
            if (seconds := store.read(path).train_seconds) is not None
        )
    return found


def _environment(checkout: Path) -> dict[str, str]:
    paths = [str(checkout / name) for name in ("", "plugins", "datasets")]
    cache = tempfile.gettempdir() + f"/mtbench-startup-{os.getpid()}-{checkout.name}"
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"}


def compare(checkouts: dict[str, Path], n_rounds: int) -> dict[str, Any]:
    """Medians by command and checkout; the first round, which fills caches of files and names, does not count."""
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    for i in range(n_rounds + 1):
        for name, command in COMMANDS.items():
            for side, checkout in checkouts.items():
                with tempfile.TemporaryDirectory() as folder:
                    found = measure(checkout, command, Path(folder))
                print(f"{i}  {name:<14} {side:<7} " + "  ".join(f"{k} {v:.2f}" for k, v in found.items()), flush=True)
                if i:
                    taken.setdefault((name, side), []).append(found)
    return {
        name: {
            side: {k: round(statistics.median(each[k] for each in taken[name, side]), 2) for k in taken[name, side][0]}
            for side in checkouts
        }
        for name in COMMANDS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of another commit, measured beside this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the medians to this JSON file")
    chosen = parser.parse_args()
    checkouts = {"before": chosen.before.resolve()} if chosen.before else {}
    found = {"rounds": chosen.rounds, "commands": compare({**checkouts, "after": HERE}, chosen.rounds)}
    found["load_average"] = round(os.getloadavg()[1], 1)
    print(json.dumps(found, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
