import os

import pytest

from mtbench import DataError
from mtbench.data.preparation import cache_place, kept_offline, made, offline, report, watched


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def calls():
    return []


@pytest.fixture
def make(calls):
    def write(path):
        calls.append(path)
        path.write_text("made")

    return write


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "set").mkdir(parents=True)
    return tmp_path / "root"


def read_only(folder):
    folder.chmod(0o555)
    return folder


def test_a_file_is_made_once_below_the_root(root, make, calls):
    for _ in range(2):
        assert made(root, "set/images.h5", "key", make, "set") == root / "set" / "images.h5"
    assert (root / "set" / "images.h5").read_text() == "made"
    assert len(calls) == 1
    assert [path.name for path in (root / "set").iterdir()] == ["images.h5"]


def test_folders_are_made(tmp_path, make):
    assert made(tmp_path / "new", "set/deep/images.h5", "key", make, "set").read_text() == "made"


def test_below_a_read_only_root_nothing_is_written_and_the_users_cache_serves(root, make, calls, user_cache):
    """Also for a user who may write everywhere."""
    read_only(root / "set")
    for _ in range(2):
        path = made(root, "set/images.h5", "0123456789abcdef0123", make, "set")
    assert list((root / "set").iterdir()) == []
    assert path == cache_place("set/images.h5", "0123456789abcdef0123")
    assert path.is_relative_to(user_cache)
    assert path.name == "images-0123456789abcdef.h5"
    assert path.read_text() == "made"
    assert len(calls) == 1


def test_other_content_is_another_file_of_the_cache(root, make):
    read_only(root / "set")
    assert made(root, "set/a.h5", "one", make, "set") != made(root, "set/a.h5", "other", make, "set")


def test_a_read_only_root_that_holds_the_file_is_used(root, make, calls):
    (root / "set" / "images.h5").write_text("made before")
    read_only(root / "set")
    assert made(root, "set/images.h5", "key", make, "set").read_text() == "made before"
    assert not calls


def test_what_was_broken_off_is_not_there(root):
    def broken(path):
        path.write_text("half")
        raise DataError("the archive ends here")

    with pytest.raises(DataError, match="the archive ends here"):
        made(root, "set/images.h5", "key", broken, "set")
    assert list((root / "set").iterdir()) == []


def test_a_file_that_another_process_made_meanwhile_is_as_good(root):
    def late(path):
        (root / "set" / "images.h5").write_text("by another")
        path.write_text("mine")

    assert made(root, "set/images.h5", "key", late, "set").read_text() == "mine"
    assert os.listdir(root / "set") == ["images.h5"]


def test_no_room_anywhere_is_a_data_error_that_says_where(root, make, user_cache):
    read_only(root / "set")
    user_cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"set: cannot write .*--data DIR or MTBENCH_DATA") as caught:
        made(root, "set/images.h5", "key", make, "set")
    assert str(user_cache) in str(caught.value)


def test_fetching_is_switched_off_for_a_while(monkeypatch):
    monkeypatch.delenv("MTBENCH_OFFLINE", raising=False)
    with kept_offline():
        assert offline()
    assert not offline()
    monkeypatch.setenv("MTBENCH_OFFLINE", "yes")
    with kept_offline():
        pass
    assert os.environ["MTBENCH_OFFLINE"] == "yes"


def test_reports_reach_whoever_watches_and_nobody_else():
    told = []
    report("images", 1, 2, "images")
    with watched(lambda *what: told.append(what)):
        report("images", 2, 2, "images")
    report("images", 3, 3, "images")
    assert told == [("images", 2, 2, "images")]
