"""`mtbench data` on a data set of one small file."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.cli.preparing import how_far, progress_shown
from mtbench.data.preparation import report
from mtbench.data.root import data_root

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


LICENCED = """
import os
from pathlib import Path
from mtbench import Dataset, Reference, Source, fetch, hookimpl, tunable
from mtbench.data.preparation import report
from dataclasses import dataclass

@dataclass(frozen=True)
class Options:
    n: int = tunable(1)

class First(Dataset):
    name = "family_first"
    title = "First"
    licence = "CC BY 9.0"
    licence_text = "You may do\\nas you like."
    citation = Reference("First", "Nowhere 2020")
    selection_metric = report_metric = "rmse"
    Options = Options
    sources = (
        Source("family/a.csv", "{sha256}", "http://127.0.0.1:9/a.csv", 8_000_000),
        Source("family/b.csv", "{sha256}", "http://127.0.0.1:9/b.csv", 1_000_000),
    )

    def prepare(self, root, options=None):
        if os.environ.get("MTBENCH_OFFLINE") or options is None:
            return super().prepare(root)
        report("a.csv", 1, 2, "B")
        for source in self.sources:
            (root / source.path).parent.mkdir(parents=True, exist_ok=True)
            (root / source.path).write_bytes({content!r})
        print("prepared with", options.n)

    def load(self, root, split, options):
        raise NotImplementedError

class Second(First):
    name = "family_second"
    licence_text = ""

@hookimpl
def mtbench_datasets():
    return [First, Second]
"""


@pytest.fixture
def licenced(mtbench, tmp_path):
    """Runs `mtbench data` with a family of two data sets, whose first has a licence to be shown."""
    path = tmp_path / "licenced.py"
    path.write_text(
        LICENCED.replace("{sha256}", hashlib.sha256(CONTENT).hexdigest()).replace("{content!r}", repr(CONTENT))
    )
    return lambda *words: mtbench("data", *words, "--plugin", path, "--data", tmp_path / "root")


@pytest.fixture
def terminal(monkeypatch, licenced, tmp_path):
    """Runs it as if at a terminal, with what is typed there."""

    def run(typed, *words):
        monkeypatch.setattr("mtbench.cli.preparing.at_a_terminal", lambda: True)
        words = ["data", *words, "--plugin", tmp_path / "licenced.py", "--data", tmp_path / "root"]
        return CliRunner().invoke(main, [str(word) for word in words], input=typed)

    return run


N = ("--option", "family_first.n=3")


def test_a_licence_is_shown_and_asked_for_at_a_terminal(terminal, tmp_path):
    result = terminal("y\n", "prepare", "family_first", *N)
    assert result.exit_code == 0, result.output
    assert "You may do\nas you like." in result.stdout
    assert "family_first: fetch 9 MB under this licence? [y/N]: y" in result.stdout
    assert (tmp_path / "root" / "family" / "a.csv").is_file()


def test_nothing_is_fetched_where_the_licence_is_not_accepted(terminal, tmp_path):
    result = terminal("n\n", "prepare", "family_first", *N)
    assert result.exit_code == 1
    assert "Error: family_first: nothing was fetched: its licence was not accepted (--yes accepts it)." in result.stderr
    assert not (tmp_path / "root").exists()


def test_yes_shows_the_licence_and_does_not_ask(terminal):
    result = terminal("", "prepare", "family_first", *N, "--yes")
    assert result.exit_code == 0, result.output
    assert "as you like." in result.stdout
    assert "[y/N]" not in result.stdout


def test_without_a_terminal_nobody_accepts_a_licence(licenced, tmp_path):
    result = licenced("prepare", "family_first", *N)
    assert result.exit_code == 1
    assert "as you like." in result.stdout
    assert "Error: family_first: nothing was fetched: its licence was not accepted (--yes accepts it)." in result.stderr
    assert not (tmp_path / "root").exists()


def test_a_licence_is_not_shown_again_where_nothing_is_to_be_fetched(terminal):
    terminal("y\n", "prepare", "family_first", *N)
    result = terminal("", "prepare", "family_first")
    assert result.exit_code == 0, result.output
    assert result.stdout == "family_first: present; licence: CC BY 9.0\nfamily_first: 2 files verified\n"


def test_options_reach_the_preparation(licenced):
    assert "prepared with 3" in licenced("prepare", "family_first", *N, "--yes").stdout
    result = licenced("prepare", "family_first", "--option", "family_first.m=3")
    assert result.exit_code == 1
    assert "'m'" in result.stderr
    result = licenced("prepare", "family_first", "--option", "famly_first.n=3")
    assert "Unknown data set 'famly_first'. Did you mean 'family_first'?" in result.stderr


def test_the_name_of_a_family_stands_for_all_of_it(licenced):
    assert [line.split()[0] for line in licenced("list", "family").stdout.splitlines()[2:]] == [
        "family_first", "family_second",
    ]  # fmt: skip
    assert licenced("list", "family", "family_second").stdout == licenced("list", "family").stdout
    assert licenced("list", "famil").exit_code == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_says_of_every_missing_file_where_it_comes_from_and_goes(licenced, tmp_path, monkeypatch, how):
    monkeypatch.delenv("MTBENCH_OFFLINE", raising=False)
    if how == "variable":
        monkeypatch.setenv("MTBENCH_OFFLINE", "1")
    result = licenced("prepare", "family", *(["--offline"] if how == "option" else []))
    assert result.exit_code == 1
    first, also, *_ = result.stderr.splitlines()
    for word in ("family_first", "http://127.0.0.1:9/a.csv", str(tmp_path / "root" / "family" / "a.csv"), "--offline"):
        assert word in first
    assert also == f"  missing too: {tmp_path / 'root' / 'family' / 'b.csv'}, from http://127.0.0.1:9/b.csv"
    assert "Error: family_second: " in result.stderr
    assert "as you like." not in result.stdout
    assert not (tmp_path / "root").exists()
    assert os.environ.get("MTBENCH_OFFLINE") == ("1" if how == "variable" else None)


def test_offline_data_that_are_there_are_verified(licenced):
    licenced("prepare", "family_first", *N, "--yes")
    result = licenced("prepare", "family_first", "--offline")
    assert result.exit_code == 0, result.output
    assert "2 files verified" in result.stdout


def test_what_is_to_be_downloaded_shrinks_with_what_is_there(licenced, tmp_path):
    (tmp_path / "root" / "family").mkdir(parents=True)
    (tmp_path / "root" / "family" / "a.csv").write_bytes(CONTENT)
    assert "1 of 2 files missing  1 MB" in licenced("list", "family_first").stdout


@pytest.mark.parametrize(
    ("state", "words"),
    [((1_500_000, 3_000_000, "B"), "1.5 MB of 3 MB"), ((1500, 0, "B"), "1.5 kB"), ((3, 8, "shards"), "3 of 8 shards"),
     ((12345, 0, "images"), "12,345 images")],
)  # fmt: skip
def test_progress_is_told_in_the_unit_of_what_is_counted(state, words):
    assert how_far(*state) == words


def test_progress_is_shown_in_a_terminal_and_nowhere_else(monkeypatch, capsys):
    with progress_shown():
        report("a.csv", 1, 2, "B")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_shown():
        report("a.csv", 1, 2, "B")
        report("a.csv", 2, 2, "B")
        report("images", 1, 0, "images")
    shown = capsys.readouterr().err
    assert "images" in shown


@pytest.mark.parametrize("words", [(), ("mnist", "--all")])
def test_nothing_is_fetched_unless_it_was_named_or_all_was_meant(data, words):
    result = data("prepare", *words)
    assert result.exit_code == 2
    assert "Name the data sets to prepare, or say --all" in result.stderr
