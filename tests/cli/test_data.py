"""`mtbench data` on a data set of one small file."""

import gzip
import hashlib
from pathlib import Path

import pytest

from mtbench.data_root import data_root

CONTENT = b"a,b\n1,2\n"


@pytest.fixture
def plugin_file(tmp_path):
    published = tmp_path / "published.csv"
    published.write_bytes(CONTENT)
    path = tmp_path / "mine.py"
    path.write_text(f'''
import shutil
from mtbench import DataError, Dataset, Reference, Source, hookimpl

class Mine(Dataset):
    name = "mine"
    title = "Mine"
    licence = "CC0"
    citation = Reference("Mine", "Nowhere 2020")
    selection_metric = report_metric = "rmse"
    sources = (Source("mine/a.csv", "{hashlib.sha256(CONTENT).hexdigest()}", n_bytes={len(CONTENT)}),)

    def prepare(self, root):
        target = root / self.sources[0].path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy("{published}", target)
        except FileNotFoundError:
            raise DataError("mine: the publisher\\nis gone.") from None

    def load(self, root, split, options):
        raise NotImplementedError

@hookimpl
def mtbench_datasets():
    return [Mine]
''')
    return path


@pytest.fixture
def data(mtbench, plugin_file, tmp_path):
    return lambda *words: mtbench("data", *words, "--plugin", plugin_file, "--data", tmp_path / "root")


def test_list_tells_what_is_there_and_what_it_takes(data, tmp_path):
    lines = data("list", "mine").stdout.splitlines()
    assert lines[0] == f"Data root: {tmp_path / 'root'}"
    assert lines[2].split() == ["mine", "1", "of", "1", "files", "missing", "8", "B", "CC0"]
    data("prepare", "mine")
    assert "present" in data("list", "mine").stdout


def test_prepare_fetches_and_verifies(data):
    result = data("prepare", "mine")
    assert result.exit_code == 0, result.output
    assert result.stdout == "mine: 1 of 1 files missing; licence: CC0\nmine: 1 file verified\n"


def test_prepare_that_fails_is_one_line_and_leaves_the_others(data, tmp_path):
    (tmp_path / "published.csv").unlink()
    result = data("prepare", "mine", "digits")
    assert result.exit_code == 1
    assert result.stderr == "Error: mine: the publisher is gone.\n"
    assert "digits: needs no data" in result.stdout


def test_verify_finds_a_corrupt_file(data, tmp_path):
    data("prepare", "mine")
    assert data("verify", "mine").exit_code == 0
    (tmp_path / "root" / "mine" / "a.csv").write_bytes(CONTENT[:-1])
    for words in (["verify", "mine"], ["verify"]):
        result = data(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: mine: ")
        assert hashlib.sha256(CONTENT).hexdigest() in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_missing_file_is_an_error_only_where_it_was_named(data):
    assert data("verify").exit_code == 0
    assert "mine: 1 of 1 files missing" in data("verify").stdout
    result = data("verify", "mine")
    assert result.exit_code == 1
    assert "no file 'mine/a.csv'" in result.stderr


def test_an_unknown_data_set_suggests_the_nearest(data):
    result = data("verify", "digit")
    assert result.exit_code == 1
    assert "Unknown data set 'digit'. Did you mean 'digits'?" in result.stderr


def test_the_data_root_is_the_option_then_the_variable_then_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MTBENCH_DATA", str(tmp_path))
    assert data_root(Path("here")) == Path("here")
    assert data_root() == tmp_path
    monkeypatch.setenv("MTBENCH_DATA", "")
    assert data_root().name == "mtbench"
    monkeypatch.setenv("MTBENCH_DATA", "~/data")
    assert data_root() == Path.home() / "data"


def test_a_gzip_file_is_verified_by_its_content(mtbench, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"no images"))
    result = mtbench("data", "verify", "mnist", "--data", tmp_path)
    assert result.exit_code == 1
    assert hashlib.sha256(b"no images").hexdigest() in result.stderr


MAKER = '''
from dataclasses import dataclass
from mtbench import DataError, Dataset, Reference, hookimpl, tunable

@dataclass(frozen=True)
class Options:
    size: int = tunable(8, choices=(8, 16))

class Made(Dataset):
    """A data set whose `prepare` makes one file for each value of its option."""
    name = "made"
    title = "Made"
    licence = "CC0"
    citation = Reference("Made", "Nowhere 2020")
    selection_metric = report_metric = "rmse"
    Options = Options

    def files(self, root, options):
        return (f"made/{options.size}.bin",)

    def prepare(self, root, options=Options()):
        (root / "made").mkdir(parents=True, exist_ok=True)
        (root / "made" / f"{options.size}.bin").write_bytes(bytes(options.size))

    def check(self, root, path):
        if not (root / path).is_file() or not any(size == (root / path).stat().st_size for size in (8, 16)):
            raise DataError(f"made: {path} is not right.")

    def load(self, root, split, options):
        raise NotImplementedError

@hookimpl
def mtbench_datasets():
    return [Made]
'''


@pytest.fixture
def made(mtbench, tmp_path):
    path = tmp_path / "made.py"
    path.write_text(MAKER)
    return lambda *words: mtbench("data", *words, "--plugin", path, "--data", tmp_path / "root")


def test_files_that_prepare_makes_are_listed_and_verified(made, tmp_path):
    assert "1 of 1 files missing" in made("list", "made").stdout
    assert "made: 1 file verified" in made("prepare", "made").stdout
    assert "present" in made("list", "made").stdout
    (tmp_path / "root" / "made" / "8.bin").write_bytes(b"")
    result = made("verify", "made")
    assert result.exit_code == 1
    assert result.stderr == "Error: made: made/8.bin is not right.\n"


def test_prepare_takes_the_options_of_a_data_set(made, tmp_path):
    assert made("prepare", "made", "--option", "made.size=16").exit_code == 0
    assert [path.name for path in (tmp_path / "root" / "made").iterdir()] == ["16.bin"]
    result = made("prepare", "made", "--option", "made.size=9")
    assert result.exit_code == 1
    assert "made.size must be one of 8, 16; found '9'" in result.stderr
