from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtbench.errors import StoreError
from mtbench.store import Store
from mtbench.store.image import encode, result_id
from mtbench.store.publish import STEPS, publish, sync_folder


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def leftovers(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "tmp"))


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "links are refused here")


@pytest.fixture(params=["link", "rename"])
def either_way(request, monkeypatch):
    """Publishing where links work, and where they do not."""
    if request.param == "rename":
        monkeypatch.setattr(os, "link", refuse_links)


def test_the_first_writer_of_a_name_wins(tmp_path, either_way):
    final = tmp_path / "a" / "b" / "name"
    assert publish(tmp_path, final, b"first")
    assert not publish(tmp_path, final, b"second")
    assert final.read_bytes() == b"first"
    assert leftovers(tmp_path) == []


def test_every_step_is_told_in_order(tmp_path):
    told: list[str] = []
    publish(tmp_path, tmp_path / "name", b"x", step=told.append)
    assert tuple(told) == STEPS


RACE = """
import errno, os, sys, time
from pathlib import Path
from mtbench.store.publish import publish
root, me, n, way = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
def refuse(*_, **__):
    raise OSError(errno.ENOTSUP, "no")
if way == "rename":
    os.link = refuse
(root / f"ready-{me}").touch()
while len(list(root.glob("ready-*"))) < 4:
    time.sleep(0.001)
won = [key for key in range(n) if publish(root, root / "files" / str(key), f"{me} {key}".encode() * 1000)]
print(*won)
"""


@pytest.mark.parametrize("way", ["link", "rename"])
def test_of_four_racing_processes_exactly_one_wins_each_name(tmp_path, way):
    racers = [run(RACE, tmp_path, me, 15, way) for me in range(4)]
    won = {me: {int(key) for key in racer.communicate()[0].split()} for me, racer in enumerate(racers)}
    assert all(racer.returncode == 0 for racer in racers)
    assert sum(len(keys) for keys in won.values()) == 15
    assert set().union(*won.values()) == set(range(15))
    for me, keys in won.items():
        for key in keys:
            assert (tmp_path / "files" / str(key)).read_bytes() == f"{me} {key}".encode() * 1000
    assert leftovers(tmp_path) == []


def test_where_links_are_refused_the_turn_of_a_dead_process_passes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse_links)
    (tmp_path / "tmp").mkdir()
    turn = tmp_path / "tmp" / "name.turn-0"
    turn.touch()
    os.utime(turn, (1, 1))
    assert publish(tmp_path, tmp_path / "name", b"x")
    assert (tmp_path / "name").read_bytes() == b"x"


KILLED = """
import os, signal, sys
from pathlib import Path
from mtbench.store import Store
def step(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
store = Store.open(Path(sys.argv[1]))
for number, image in enumerate(sys.argv[3:]):
    store.step = step if number else store.step
    store.publish_image(Path(image).read_bytes())
    print(number, flush=True)
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_at_any_step_loses_nothing_acknowledged(store, result, tmp_path, step):
    results = [result(split=split) for split in range(3)]
    images = [tmp_path / f"{i}.image" for i in range(3)]
    for image, each in zip(images, results, strict=True):
        image.write_bytes(encode(each))
    writer = run(KILLED, store.path, step, *images)
    assert writer.communicate()[0] == "0\n"
    assert writer.returncode == -signal.SIGKILL
    assert store.has_stack(result_id(results[0]))
    assert all(checked.ok for checked in store.verify())
    published = STEPS.index(step) > STEPS.index("link")
    assert store.has_stack(result_id(results[1])) == published
    for each in results:
        store.publish_stack(each)
    assert store.finished_ids() == {trial.id for each in results for trial in each.trials}
    assert len(store.stack_paths()) == 3


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full. Free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only. Choose another"),
        (errno.EACCES, "there is no permission"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_disk_is_one_clear_error_and_loses_nothing(store, result, monkeypatch, number, message):
    store.publish_stack(result(split=0))

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match=f"Cannot write .*{result_id(result(split=1))}.*{message}"):
            store.publish_stack(result(split=1))
    assert leftovers(store.path) == []
    assert [checked.ok for checked in store.verify()] == [True]
    assert store.publish_stack(result(split=1))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mtbench.errors import StoreError
from mtbench.store import Store
store = Store.open(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.publish_image(Path(sys.argv[2]).read_bytes())
except StoreError as error:
    print(error)
"""


def test_a_write_that_is_cut_short_publishes_nothing(store, result, tmp_path):
    (tmp_path / "image").write_bytes(encode(result()))
    message = run(FULL_DISK, store.path, tmp_path / "image").communicate()[0]
    assert message.startswith("Cannot write ")
    assert "Traceback" not in message
    assert store.stack_paths() == []
    assert leftovers(store.path) == []


def test_what_does_not_read_back_is_not_published(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"something else")
    with pytest.raises(StoreError, match="the disk is not reliable"):
        publish(tmp_path, tmp_path / "name", b"x")
    assert not (tmp_path / "name").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="no permission"):
        Store.create(tmp_path / "store")


def test_a_refused_directory_is_named(tmp_path, monkeypatch):
    def refuse(self: Path, *_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"Cannot write .*store\.json: there is no permission"):
        Store.create(tmp_path / "store")


def test_a_store_below_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot write"):
        Store.create(tmp_path / "file" / "store")


def test_new_folders_are_synced_with_their_parents(tmp_path, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr("mtbench.store.publish.sync_folder", synced.append)
    publish(tmp_path, tmp_path / "a" / "b" / "name", b"x")
    assert [path.relative_to(tmp_path).as_posix() for path in synced] == [".", ".", "a", "a/b"]


def test_file_systems_without_sync_of_folders_are_used_all_the_same(tmp_path, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
