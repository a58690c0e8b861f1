"""Plugins as separate distributions: installed into a fresh environment beside mtbench, seen there, and run there."""

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Environment:
    """A fresh environment that borrows the packages of the present one, so that nothing is fetched."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder, self.python = folder, folder / "bin" / "python"
        (packages,) = (folder / "lib").glob("python*/site-packages")
        # addsitedir, unlike a plain path, also follows the .pth files there: editable installs are made of them.
        lines = [f"import site; site.addsitedir({folder!r})" for folder in site.getsitepackages()]
        (packages / "borrowed.pth").write_text("\n".join(lines))

    def run(self, *words, cwd=None):
        """Runs this environment's Python; gives its stdout."""
        env = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        command = [str(self.python), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd or self.folder, env=env, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, package: Path) -> None:
        """Installs a distribution, without its dependencies."""
        flags = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
        self.run("-m", "pip", "install", *flags, package)

    def listed(self, what: str) -> dict[str, dict]:
        """What `mtbench list` shows there, by name."""
        record = json.loads(self.run("-m", "mtbench", "list", what, "--format", "json"))
        assert record["warnings"] == []
        return {row["name"]: row for row in record[what]}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def example(environment):
    environment.install(ROOT / "examples" / "mtbench-mean-regularized")
    return environment


def test_the_example_is_listed_beside_the_built_in_methods(example):
    methods = example.listed("methods")
    assert methods["mean_regularized"]["from"] == "mtbench-mean-regularized 0.1.0"
    assert methods["stl"]["from"].startswith("mtbench ")


def test_the_example_runs_beside_a_built_in_method(example, tmp_path):
    words = ["--methods", "mean_regularized,stl", "--datasets", "amtfl_synthetic", "--splits", "1"]
    example.run("-m", "mtbench", "run", *words, "--search", "default", "--out", tmp_path / "store")
    record = json.loads(example.run("-m", "mtbench", "report", tmp_path / "store", "--format", "json"))
    rows = {row["method"]: row for row in record["leaderboard"]}
    assert rows.keys() == {"mean_regularized", "stl"}
    assert all(row["n_failed"] == 0 and 0 < row["mean"] < 100 for row in rows.values())


def test_the_examples_own_tests_pass(example):
    example.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=ROOT / "examples" / "mtbench-mean-regularized")


@pytest.mark.parametrize("kind", ["method", "metric", "dataset"])
def test_a_package_that_mtbench_wrote_installs_and_passes_its_own_tests(environment, tmp_path, kind):
    name = f"my_{kind}"
    environment.run("-m", "mtbench", "new", kind, name, "--directory", tmp_path)
    package = tmp_path / f"mtbench-my-{kind}"
    environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    environment.install(package)
    assert environment.listed(f"{kind}s")[name]["from"] == f"mtbench-my-{kind} 0.1.0"


def test_the_tests_run_in_the_environment_they_mean(environment):
    assert environment.run("-c", "import sys; print(sys.prefix)").strip() == str(environment.folder)
    assert sys.prefix != str(environment.folder)
