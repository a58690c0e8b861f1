"""The benchmark of GPUs goes its whole way on a CPU, in miniature; timings are printed and not judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a bare machine with a GPU lacks: nothing of it may be imported.
BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pydantic", "platformdirs", "pooch", "matplotlib", "PIL", "pytest"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return found(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
sys.argv = ["benchmarks.gpu", *sys.argv[1:]]
from benchmarks.gpu.__main__ import main
main()
"""


@pytest.mark.parametrize("sections", ["agreement,resume,epochs", "memory,precision,speed"])
def test_the_whole_way_in_miniature(sections: str, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-c", BARE, "--device", "cpu", "--only", sections, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), done.stdout + done.stderr
    assert "done without: pydantic, platformdirs, pooch, matplotlib, PIL" in done.stdout
    found = json.loads(out.read_text())["sections"]
    assert list(found) == sections.split(",")
    missed = {name: row for name, rows in found.items() for row in rows if row["met"] is False}
    assert not missed, done.stdout + done.stderr
    assert all(len(rows) > 1 for rows in found.values())
