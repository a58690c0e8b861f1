"""The names of methods, data sets and so on, remembered on disk: completing them in a shell must not import torch.

The file is a convenience: missing, stale or corrupt, it is made again, and nothing else depends on it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from mtbench.plugins.sources import distribution_of, entry_points

_REFRESH_SECONDS = 30
KINDS = ("methods", "weightings", "datasets", "metrics")
"""What has names."""


@dataclass(frozen=True)
class Names:
    """What the installed plugins offer.

    Attributes:
        fingerprint: Of the distributions that offer plugins and of their files.
        methods: Names of all methods, sorted.
        weightings: Names of all weightings, sorted.
        datasets: Names of all data sets, sorted.
        metrics: Names of all metrics, sorted.
    """

    fingerprint: str
    methods: list[str]
    weightings: list[str]
    datasets: list[str]
    metrics: list[str]

    @property
    def all(self) -> list[str]:
        """All names, kind by kind."""
        return [*self.methods, *self.weightings, *self.datasets, *self.metrics]


def fingerprint() -> str:
    """Changes when mtbench, or a distribution that offers plugins, is installed, updated, removed or edited."""
    record: list[object] = [[_stamp(path) for path in _files(__name__)]]
    for entry in entry_points():
        files = [_stamp(path) for path in _files(entry.module)]
        record.append((entry.value, *distribution_of(entry), files))
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


def _files(module: str) -> list[Path]:
    """The Python files of a module's top-level package, found without importing it."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if folders is None:
        return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.py") if path.is_file())


def cache_file() -> Path:
    """Where the names are remembered, one file per Python environment."""
    environment = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    return Path(platformdirs.user_cache_dir("mtbench")) / f"names-{environment}.json"


def read() -> Names | None:
    """The names as remembered, or None where there are none that can be used."""
    try:
        record = json.loads(cache_file().read_text())
        names = Names(record["fingerprint"], *(list(record[kind]) for kind in KINDS))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = all(isinstance(name, str) for name in (names.fingerprint, *names.all))
    return names if sound else None


def write(names: Names) -> None:
    """Remembers names, if they differ from what is there; does nothing where that is not possible."""
    if names == read():
        return
    replace(cache_file(), json.dumps(asdict(names)))


def replace(path: Path, text: str) -> None:
    """Puts a text into a file at once; does nothing where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        return  # a read-only home or a full disk costs time at the next command, nothing else


def known_names() -> Names:
    """The names as they are now; loads all plugins in a process of its own if the remembered ones are stale."""
    now = fingerprint()
    names = read()
    if names is None or names.fingerprint != now:
        _refresh()
        names = read()
    return names or Names(now, [], [], [], [])


def _refresh() -> None:
    command = [sys.executable, "-c", "from mtbench.plugins.host import load_plugins; load_plugins()"]
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_REFRESH_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
