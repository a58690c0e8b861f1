"""Kills a running grid at random moments, resumes it, and looks for damage: `python -m benchmarks.kill_drill`.

A small grid on generated and embedded data runs as a user would run it. SIGKILL strikes the driver or one of its
workers: at any moment, while stacks train (or their size is measured), or just as a result is published. The same
command then goes on. After every kill all trials that were finished before must still be there and every file must be
readable; once complete, the leaderboard must equal that of an uninterrupted run. Then a new store is begun, until there
were enough kills.

Stores take turns: `--stack-size 3`, whose table must be equal to the last digit, and `--stack-size auto`, where kills
also strike calibration; stacks may then be of other sizes, so it computes in float64 and tables must agree to 1e-8.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtbench.store import Store

GRID = shlex.split(
    "--methods nn,mt_nn,stl --datasets digits,amtfl_synthetic --splits 2 --search random:6 --refit "
    "--recipe digits.max_epochs=30 --recipe amtfl_synthetic.max_epochs=30"
)
KINDS = (("--stack-size", "3"), ("--stack-size", "auto", "--dtype", "float64"))
MOMENTS = ("any moment", "stacks under way", "publishing")
_PATIENCE = 300.0


@dataclass
class Tally:
    """What a drill has seen.

    Attributes:
        kills: By target and moment, and by what was going on.
        damage: Sentences; empty if all held.
    """

    kills: Counter[str] = field(default_factory=Counter)
    n_stores: int = 0
    n_runs: int = 0
    n_checked: int = 0
    damage: list[str] = field(default_factory=list)


class Drill:
    """Kills runs of one grid.

    Args:
        grid: Options of `mtbench run`.
        folder: Where stores go.
        rng: Decides whom and when.
    """

    def __init__(self, grid: Sequence[str], folder: Path, rng: random.Random) -> None:
        self._grid, self._folder, self._rng = list(grid), folder, rng
        self._references: dict[Sequence[str], list[dict[str, Any]]] = {}
        self._seconds = 10.0
        self.tally = Tally()

    def reference(self, kind: Sequence[str]) -> list[dict[str, Any]]:
        """The leaderboard of an uninterrupted run."""
        if kind not in self._references:
            path = self._folder / f"reference-{len(self._references)}"
            begun = time.monotonic()
            process = self._start(path, kind)
            if process.wait():
                raise SystemExit(f"The uninterrupted run failed; see {self._log(path)}.")
            self._seconds = time.monotonic() - begun
            self._references[kind] = leaderboard(path)
        return self._references[kind]

    def store(self, kind: Sequence[str], n_kills: int) -> int:
        """Runs the grid on a new store, with at most so many kills, until it is complete; gives the number of kills."""
        expected = self.reference(kind)
        path = self._folder / f"store-{self.tally.n_stores}"
        self.tally.n_stores += 1
        done, known = 0, set[str]()
        while True:
            since = time.time()
            process = self._start(path, kind)
            self.tally.n_runs += 1
            spared = False  # a stack is trained once more after a kill, not twice: one worker per run is enough
            while done < n_kills and process.poll() is None:
                target = self._strike(process, path, since, spared)
                done += target is not None
                spared = spared or target == "worker"
            code = process.wait()
            known = self._check(path, known)
            if code == 0:
                break
            if code not in (0, -signal.SIGKILL):
                self.tally.damage.append(f"{path.name}: a run ended with code {code}; see {self._log(path)}")
                break
        if not agree(leaderboard(path), expected, exact="auto" not in kind):
            self.tally.damage.append(f"{path.name}: its leaderboard differs from the uninterrupted run's")
        return done

    def _start(self, path: Path, kind: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from mtbench.cli import main; main()", "run", *self._grid, *kind]
        with self._log(path).open("ab") as log:
            return subprocess.Popen([*command, "--out", str(path)], stdout=log, stderr=log)

    def _log(self, path: Path) -> Path:
        return self._folder / f"{path.name}.log"

    def _strike(self, process: subprocess.Popen[bytes], path: Path, since: float, spared: bool) -> str | None:
        """Waits for a random moment and kills the driver or, unless they are spared, a worker; None if too late."""
        moment = self._rng.choice(MOMENTS)
        if moment == "any moment":
            _wait(process, lambda: False, self._rng.uniform(0.0, 0.5 * self._seconds))
        else:
            _wait(process, lambda: bool(_names(path / "logs", since)), _PATIENCE)
            _wait(process, lambda: False, self._rng.uniform(0.0, 0.2 * self._seconds))
        if moment == "publishing":
            _wait(process, lambda: any(".h5." in name for name in _names(path / "tmp", since)), _PATIENCE)
            time.sleep(self._rng.uniform(0.0, 0.004))
        workers = children(process.pid) if moment != "publishing" else []
        target, pid = "driver", process.pid
        if workers and not spared and self._rng.random() < 0.5:
            target, pid = "worker", self._rng.choice(workers)
        doing = _doing(path, since)
        if process.poll() is not None:
            return None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        if target == "driver":
            process.wait()
        self.tally.kills[f"{target}, {doing}"] += 1
        return target

    def _check(self, path: Path, known: set[str]) -> set[str]:
        """Every file readable, and every trial that was finished still there."""
        if not (path / "store.json").exists():
            return known
        store = Store.open(path)
        for checked in store.verify():
            self.tally.n_checked += 1
            if not checked.ok:
                self.tally.damage.append(f"{checked.path}: {checked.reason}")
        finished = store.finished_ids()
        if known - finished:
            self.tally.damage.append(f"{path.name}: {len(known - finished)} finished trials are gone")
        return finished


def leaderboard(path: Path) -> list[dict[str, Any]]:
    """A store's leaderboard without what no two runs share: times."""
    out = subprocess.run(
        [sys.executable, "-c", "from mtbench.cli import main; main()", "report", str(path), "--format", "json"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in json.loads(out)["leaderboard"]]


def agree(found: Any, expected: Any, exact: bool) -> bool:
    """Whether two leaderboards are equal, or equal but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(agree(found[k], expected[k], exact) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(agree(f, e, exact) for f, e in zip(found, expected, strict=True))
    if isinstance(expected, float) and isinstance(found, float) and not exact:
        return math.isclose(found, expected, rel_tol=1e-8, abs_tol=1e-8)
    return bool(found == expected)


def children(pid: int) -> list[int]:
    """Child processes of a process, and theirs: those that fork workers, and workers."""
    of: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            of.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = list(of.get(pid, ()))
    for child in found:
        found += of.get(child, ())
    return found


def _doing(path: Path, since: float) -> str:
    """What a run is about, from the traces it leaves."""
    logs = _names(path / "logs", since)
    if any(".h5." in name for name in _names(path / "tmp", since)):
        return "publishing"
    if any(name.endswith(".progress") for name in logs):
        return "training"
    if any(name.startswith("calibrate") for name in logs):
        return "calibrating"
    return "worker busy" if logs else "before, between or after stacks"


def _names(folder: Path, since: float) -> list[str]:
    """Files written lately: those of earlier, killed runs do not count."""
    try:
        return [entry.name for entry in os.scandir(folder) if entry.stat().st_mtime >= since]
    except FileNotFoundError:
        return []


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not ready():
        time.sleep(0.0005)


def run(drill: Drill, n_kills: int, kinds: Sequence[Sequence[str]] = KINDS, per_store: int = 12) -> Tally:
    """Begins stores, in turn of each kind, until there were so many kills."""
    done = 0
    while done < n_kills:
        done += drill.store(kinds[drill.tally.n_stores % len(kinds)], min(per_store, n_kills - done))
        print(f"{done} kills, {drill.tally.n_stores} stores, {len(drill.tally.damage)} damaged", flush=True)
    return drill.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="decides whom and when; take another for another piece")
    parser.add_argument("--out", type=Path, help="also write the counts to this JSON file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(Drill(GRID, Path(folder), random.Random(chosen.seed)), chosen.kills)
    counts = {
        "kills": sum(tally.kills.values()),
        "by_target": dict(sorted(tally.kills.items())),
        "stores": tally.n_stores,
        "runs": tally.n_runs,
        "files_checked": tally.n_checked,
        "damage": tally.damage,
    }
    print(json.dumps(counts, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(counts, indent=2) + "\n")
    sys.exit(1 if tally.damage else 0)


if __name__ == "__main__":
    main()
