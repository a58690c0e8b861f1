"""Compaction: nothing is lost or changed, whatever is killed, and whoever reads or writes meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mtbench.contracts.trials import Status
from mtbench.errors import StoreError
from mtbench.store import Store, claims, encode, packing, scan
from mtbench.store.compact import compact
from mtbench.store.image import result_id
from mtbench.store.packing import PACKING_STEPS
from mtbench.store.publish import STEPS

KILLED = [Status.KILLED] * 3


@pytest.fixture
def fill(store, result):
    """Publishes a finished stack for each of some splits, and gives the bytes of its file by its name."""

    def publish(*splits):
        images = {f"{result_id(result(split=split))}.h5": encode(result(split=split)) for split in splits}
        for image in images.values():
            assert store.publish_image(image)
        return images

    return publish


@pytest.fixture
def fail(store, result):
    """Publishes a try at the stack of a split that failed, and gives its name."""

    def publish(split, statuses=KILLED):
        before = set(contents(store))
        store.publish_stack(result(split=split, statuses=statuses, full=False))
        (name,) = set(contents(store)) - before
        return name

    return publish


@pytest.fixture
def small_packs(monkeypatch, result):
    """Lets a pack hold two stacks; one that holds two is large."""
    monkeypatch.setattr(packing, "PACK_BYTES", int(2.5 * len(encode(result()))))


def contents(store):
    """The bytes of every stack file by its name."""
    found: dict[str, set[bytes]] = {}
    sources, faults = store.files.listed()
    assert not faults
    for source in sources:
        found.setdefault(source.name, set()).add(source.read_bytes() if isinstance(source, Path) else source.read())
    assert all(len(each) == 1 for each in found.values())
    return {name: each.pop() for name, each in found.items()}


def counts(store):
    """How often each trial counts."""
    found = scan(store)
    assert not found.unreadable
    return Counter(trial for stack in found.stacks for trial in stack.ids[stack.counts])


def unpacked(store):
    return [path.name for path in store.files.singles()]


def packs(store):
    return store.files.packs.paths()


def test_a_compacted_store_holds_the_same_bytes_and_answers_the_same(store, result, fill):
    images = fill(*range(6))
    before, paths, ids = scan(store).stacks, store.stack_paths(), store.finished_ids()
    done = compact(store)
    assert (done.n_before, done.n_after, done.n_packed, done.n_packs, done.left) == (6, 1, 6, 1, [])
    assert (done.bytes_before, done.bytes_after) == (sum(map(len, images.values())), packs(store)[0].stat().st_size)
    assert unpacked(store) == []
    for reader in (store, Store.open(store.path)):
        assert contents(reader) == images
        assert reader.finished_ids() == ids
        assert [path.name for path in reader.stack_paths()] == [path.name for path in paths]
        after = scan(reader).stacks
        assert [stack.path.name for stack in after] == [path.name for path in paths]
        assert [stack.ids.tolist() for stack in after] == [stack.ids.tolist() for stack in before]
        assert [stack.metrics["test"]["pooled_rmse"].tolist() for stack in after] == [
            stack.metrics["test"]["pooled_rmse"].tolist() for stack in before
        ]
        assert set(counts(reader).values()) == {1}
        for path in (*paths, *reader.stack_paths()):
            assert encode(reader.read(path)) == images[path.name]
            assert reader.has_stack(path.stem)
            assert encode(reader.read_stack(path.stem)) == images[path.name]
        assert [checked.reason for checked in reader.verify()] == [""] * 7
        assert not reader.has_stack("0" * 64)


def test_compacting_again_does_nothing_until_there_is_more(store, fill):
    fill(0, 1, 2)
    compact(store)
    (first,) = packs(store)
    done = compact(store)
    assert (done.n_packs, done.n_merged, done.n_before, done.n_after) == (0, 0, 1, 1)
    assert packs(store) == [first]
    fill(3)
    done = compact(store)
    assert (done.n_packed, done.n_merged, done.n_packs, done.n_after) == (1, 1, 1, 1)
    assert packs(store) != [first]
    assert set(counts(store).values()) == {1}


def test_one_small_file_is_not_packed(store, fill):
    (name,) = fill(0)
    assert compact(store).n_packs == 0
    assert unpacked(store) == [name]


def test_an_empty_store_has_nothing_to_compact(store):
    assert compact(store).n_after == 0


def test_large_packs_and_large_files_stay_as_they_are(store, fill, small_packs, result):
    images = fill(*range(7))
    done = compact(store)
    assert (done.n_packs, done.n_after) == (4, 4)
    large = [path for path in packs(store) if path.stat().st_size > packing.PACK_BYTES / 2]
    assert len(large) == 3
    images |= fill(8)
    done = compact(store)
    assert (done.n_packed, done.n_merged, done.n_packs, done.n_after) == (1, 1, 1, 4)
    assert set(large) < set(packs(store))
    assert contents(store) == images
    store.publish_stack(result(9, split=9))  # larger than half a pack
    store.publish_stack(result(9, split=10))
    assert compact(store).n_packs == 0
    assert len(unpacked(store)) == 2


def test_a_stack_that_is_packed_is_published_no_second_time(store, result, fill):
    fill(0, 1)
    compact(store)
    again = result()
    again.metrics["test"]["rmse"] += 1
    assert not store.publish_stack(again)
    assert not Store.open(store.path).publish_stack(again)
    assert unpacked(store) == []
    assert store.claim(result_id(again)) is None


def test_the_first_result_counts_though_it_was_packed_while_a_later_one_was_written(store, result, fill):
    fill(0, 1)
    again = result()
    again.log = "the later one"
    slow = Store.open(store.path)
    slow.step = lambda name: compact(store) if name == "link" else None
    assert not slow.publish_stack(again)
    assert unpacked(store) == [f"{result_id(again)}.h5"]
    for reader in (store, slow, Store.open(store.path)):
        assert reader.read_stack(result_id(again)).log == result().log
        counted = [stack for stack in scan(reader).stacks if stack.counts.any()]
        assert [stack.path.parent.suffix for stack in counted] == [".pack"] * 2
    done = compact(store)
    assert [checked.path.name for checked in done.left] == unpacked(store)
    assert "another result of its stack" in done.left[0].reason
    assert store.read_stack(result_id(again)).log == result().log


def test_a_damaged_file_is_left_as_evidence_and_what_was_published_beside_it_is_packed(store, result, fill):
    fill(0, 1)
    path = store.stack_path(result_id(result()))
    path.write_bytes(path.read_bytes()[:-1])
    fill(0)
    done = compact(store)
    assert [(checked.path, "truncated" in checked.reason) for checked in done.left] == [(path, True)]
    assert unpacked(store) == [path.name]
    assert store.has_stack(path.stem)
    assert encode(store.read_stack(path.stem)) == encode(result())
    assert store.finished_ids() == {trial.id for split in (0, 1) for trial in result(split=split).trials}
    assert not store.publish_stack(result())
    path.unlink()
    assert store.has_stack(path.stem)
    assert not store.publish_stack(result())
    assert unpacked(store) == []


def test_what_is_misplaced_or_misnamed_is_left(store, fill):
    images = fill(0, 1, 2)
    name = min(images)
    misplaced = store.path / "stacks" / "zz" / name
    misplaced.parent.mkdir()
    misplaced.write_bytes(images[name])
    misnamed = store.path / "stacks" / name[:2] / f"{name[:64]}.old.h5"
    misnamed.write_bytes(images[name])
    done = compact(store)
    assert {checked.path for checked in done.left} == {misplaced, misnamed}
    assert misplaced.exists()
    assert misnamed.exists()
    assert done.n_packed == 3


def test_failed_tries_are_kept_and_counted_on_unless_dropped(store, result, fill, fail):
    names = [fail(0), fail(0), fail(1)]
    fill(2)
    compact(store)
    assert unpacked(store) == []
    assert sorted(name.partition(".")[2] for name in names) == ["failed-1.h5", "failed-1.h5", "failed-2.h5"]
    later = fail(0)
    assert later.endswith(".failed-3.h5")
    assert counts(store)[result().trials[0].id] == 1
    last = [
        stack.path.name for stack in scan(store).stacks if stack.counts.any() and result().trials[0].id in stack.ids
    ]
    assert last == [later]
    assert [compact(store).n_dropped, compact(store, drop_failed=True).n_dropped] == [0, 0]


def test_superseded_failed_tries_are_dropped_where_asked_for(store, result, fill, fail):
    fail(0)
    fail(1)
    compact(store)
    kept, fresh = fail(1), fail(0)
    images = fill(0, 2)
    done = compact(store, drop_failed=True)
    assert done.n_dropped == 2
    assert fresh not in contents(store)
    assert kept in contents(store)
    assert {name for name in contents(store) if "failed" not in name} == set(images)
    assert len(contents(store)) == 4
    assert [checked.reason for checked in store.verify() if not checked.ok] == []
    fill(1)
    assert compact(store, drop_failed=True).n_dropped == 2
    assert set(contents(store)) == {f"{result_id(result(split=split))}.h5" for split in range(3)}


def test_failed_tries_do_not_vouch_for_each_other(store, result, fill, fail):
    half = [Status.FINISHED, Status.KILLED, Status.KILLED]
    fail(0, half)
    fail(0, half)
    # Its first trial has finished in failed tries only; the others have in this stack.
    rest = result()
    for name in ("trials", "status", "reason"):
        setattr(rest, name, list(getattr(rest, name))[1:])
    for name in ("best_epoch", "train_seconds", "n_parameters", "residual"):
        setattr(rest, name, getattr(rest, name)[1:])
    for fields in (rest.history, rest.predictions, rest.learned, *rest.metrics.values()):
        fields.update({key: value[1:] for key, value in fields.items()})
    store.publish_stack(rest)
    ids = store.finished_ids()
    assert result().trials[0].id in ids
    assert compact(store, drop_failed=True).n_dropped == 0
    assert store.finished_ids() == ids


KILLS = """
import itertools, os, shutil, signal, sys, uuid
from pathlib import Path
from mtbench.store import Store, packing
from mtbench.store.compact import compact
original, folder, packing.PACK_BYTES = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
kill, numbers = 0, itertools.count()
# What all would write at a step is the same, so that `different` finds what is.
uuid.uuid4 = lambda: uuid.UUID(int=next(numbers))
while True:
    copy = folder / str(kill)
    shutil.copytree(original, copy)
    pid = os.fork()
    if not pid:
        store, left = Store.open(copy), kill
        def step(name):
            global left
            if not left:
                (folder / f"{kill}.{name.replace(' ', '-')}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        store.step = step
        compact(store, drop_failed=True)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != signal.SIGKILL:
        break
    kill += 1
print(kill)
"""


def test_a_compaction_killed_at_any_step_loses_nothing_and_the_next_one_finishes_it(
    store, result, fill, fail, small_packs, different, tmp_path
):
    fail(0)
    images = fill(0)
    compact(store)  # a pack that is merged and loses its failed try
    images |= fill(1, 2)
    fail(1)
    kept = fail(7)
    images[kept] = contents(store)[kept]
    trials = {trial.id for split in (0, 1, 2) for trial in result(split=split).trials}
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-c", KILLS, str(store.path), str(folder), str(packing.PACK_BYTES)]
    n_kills = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    steps = [path.suffix[1:].replace("-", " ") for path in folder.glob("*.*")]
    assert len(steps) == n_kills
    assert set(steps) == {*PACKING_STEPS, *STEPS}
    copies = different(path for path in folder.iterdir() if path.is_dir())
    assert 10 < len(copies) < n_kills
    for copy in copies:
        killed = Store.open(copy)
        assert images.items() <= contents(killed).items()
        assert killed.finished_ids() == trials
        assert set(counts(killed).values()) == {1}
        assert all(checked.ok for checked in killed.verify())
        assert all(killed.has_stack(name[:64]) for name in images if name != kept)
        compact(killed, drop_failed=True)
        assert contents(killed) == images
        assert set(counts(killed).values()) == {1}
        assert (len(packs(killed)), unpacked(killed)) == (2, [])
        sources, _ = killed.files.listed()
        assert len(sources) == len(images)


def steps_of(store, action, drop_failed=False):
    """Compacts, and acts before every step."""

    def step(name):
        store.step = lambda _: None
        action()
        store.step = step

    store.step = step
    try:
        return compact(store, drop_failed)
    finally:
        store.step = lambda _: None


def test_readers_miss_nothing_at_any_step(store, result, fill, small_packs):
    images = fill(*range(3))
    compact(store)
    images |= fill(3, 4)
    paths = store.stack_paths()
    known = scan(store).stacks
    reader = Store.open(store.path)
    trials = {trial.id for split in range(5) for trial in result(split=split).trials}

    def read():
        assert contents(reader) == images
        assert reader.finished_ids() == trials
        assert counts(reader) == dict.fromkeys(trials, 1)
        stacks = scan(reader, known).stacks
        assert sorted(trial for stack in stacks for trial in stack.ids[stack.counts]) == sorted(trials)
        for path in paths:
            assert reader.has_stack(path.stem)
            assert (
                reader.read(path).log == reader.read_stack(path.stem).log == "the last line\nwith a tab\t and a \u03b3"
            )

    done = steps_of(store, read)
    assert (done.n_packed, done.n_merged) == (2, 1)


@pytest.mark.parametrize("moment", range(5))
def test_a_scan_under_way_follows_files_that_are_moved(store, fill, moment):
    images = fill(0, 1, 2)
    compact(store)
    images |= fill(3, 4)
    reader = Store.open(store.path)
    seen = []
    for number, (path, found) in enumerate(reader.files.each(lambda source: source.name)):
        if number == moment:
            compact(store)
            fill(5)
        assert path.name == found
        seen.append(found)
    assert set(images) <= set(seen)
    looked = []
    for number, (path, found) in enumerate(reader.files.each(lambda source: len(read(source)))):
        if number == moment:
            compact(store)
        assert found == len(images.get(path.name, b"")) or path.name not in images
        looked.append(path.name)
    assert sorted(looked) == sorted(contents(store))


def read(source):
    """Its bytes, with the error that readers of the store meet."""
    try:
        return source.read_bytes() if isinstance(source, Path) else source.read()
    except OSError as error:
        raise StoreError(str(error)) from None


def test_a_run_may_publish_at_any_step(store, result, fill):
    images = fill(0, 1)
    writer = Store.open(store.path)
    splits = iter(range(2, 1000))

    def publish():
        image = encode(result(1, split=next(splits), full=False))
        assert writer.publish_image(image)
        assert not writer.publish_image(image)
        assert not writer.publish_image(encode(result()))

    steps_of(store, publish)
    n_published = next(splits) - 2
    assert images.items() <= contents(store).items()
    assert set(counts(store).values()) == {1}
    assert len(counts(store)) == 6 + n_published
    assert compact(store).n_packed == n_published
    assert len(counts(store)) == 6 + n_published


@pytest.mark.parametrize("drops", [(False, False), (False, True), (True, False), (True, True)])
def test_two_compactions_that_know_nothing_of_each_other_lose_nothing(
    store, result, fill, fail, small_packs, monkeypatch, drops
):
    """The claim is advice: here nobody heeds it, and one overtakes the other at every step."""
    monkeypatch.setattr(claims, "take", lambda path, name: claims.Claim(path, name, 0))
    fail(0)
    images = fill(*range(3))
    compact(store)
    images |= fill(3, 4, 5)
    fail(3)
    other = Store.open(store.path)
    first, second = drops
    try:
        steps_of(store, lambda: compact(other, second), first)
    except StoreError as error:
        assert "has overtaken this one" in str(error)  # noqa: PT017 - it depends on the step whether one is raised
    for reader in (store, Store.open(store.path)):
        assert images.items() <= contents(reader).items()
        assert set(counts(reader).values()) == {1}
        assert all(reader.has_stack(name[:64]) for name in images)
    compact(store, drop_failed=True)
    assert contents(store) == images
    assert len(store.files.listed()[0]) == len(images)


def test_a_second_compaction_is_refused_while_one_is_at_work(store, fill):
    fill(0, 1)

    def compact_too():
        with pytest.raises(StoreError, match="Another `mtbench store compact` or `slim` is at work on"):
            compact(Store.open(store.path))

    assert steps_of(store, compact_too).n_packed == 2
    compact(store)


def damage(path, at):
    image = bytearray(path.read_bytes())
    image[at] ^= 1
    path.write_bytes(image)


def test_a_truncated_pack_loses_what_was_cut_and_the_rest_is_copied(store, result, fill):
    images = fill(*range(4))
    compact(store)
    (path,) = packs(store)
    names = sorted(images)
    path.write_bytes(path.read_bytes()[: -len(images[names[-1]]) - 10])
    store = Store.open(store.path)
    assert [store.has_stack(name[:64]) for name in names] == [True, True, False, False]
    found = scan(store)
    assert [stack.path.name for stack in found.stacks] == names[:2]
    assert [checked.path for checked in found.unreadable] == [path / name for name in names[2:]]
    assert all("truncated" in checked.reason for checked in found.unreadable)
    bad = {checked.path.name: checked.reason for checked in store.verify() if not checked.ok}
    assert bad.keys() == {*names[2:], path.name}
    assert "truncated" in bad[path.name]
    for split in range(4):
        store.publish_stack(result(split=split))
    assert unpacked(store) == names[2:]
    done = compact(store)
    (left,) = done.left
    assert left.path == path
    assert "truncated" in left.reason
    assert "Of its 4 stack files 2 cannot be read; the others lie elsewhere too by now" in left.reason
    assert len(packs(store)) == 2
    assert compact(store).n_packs == 0
    path.unlink()
    assert contents(store) == images
    assert all(checked.ok for checked in store.verify())


def test_a_damaged_member_costs_its_own_stack(store, fill):
    images = fill(*range(3))
    compact(store)
    (path,) = packs(store)
    name = sorted(images)[1]
    damage(path, path.read_bytes().find(images[name]) + images[name].find(b"the last line"))
    store = Store.open(store.path)
    bad = {checked.path.name: checked.reason for checked in store.verify() if not checked.ok}
    assert bad.keys() == {name}
    assert "SHA-256" in bad[name]
    with pytest.raises(StoreError, match=f"No file of stack {name[:64]} can be read: .*SHA-256"):
        store.read_stack(name[:64])
    assert "1 cannot be read" in compact(store).left[0].reason
    path.unlink()
    assert set(contents(store)) == set(images) - {name}


def test_a_pack_whose_index_is_damaged_is_an_unreadable_file(store, result, fill):
    images = fill(*range(3))
    compact(store)
    (path,) = packs(store)
    damage(path, 600)
    store = Store.open(store.path)
    assert store.finished_ids() == set()
    assert not store.has_stack(min(images)[:64])
    assert [checked.path for checked in scan(store).unreadable] == [path]
    assert store.stack_paths() == [path]
    with pytest.raises(StoreError, match=path.name):
        store.read(path)
    (checked,) = store.verify()
    assert "its index does not have the SHA-256" in checked.reason
    (left,) = compact(store).left
    assert left.path == path
    assert store.publish_stack(result())


def test_a_file_that_took_the_name_of_a_packed_one_meanwhile_is_not_removed(store, result, fill):
    images = fill(0, 1)
    name = min(images)
    other = store.path / "tmp" / "other"
    other.write_bytes(b"what came later")

    def step(told):
        if told == "check pack":
            os.replace(other, store.files.own(name))

    store.step = step
    assert compact(store).n_packed == 1
    assert store.files.own(name).read_bytes() == b"what came later"
    assert encode(store.read_stack(name[:64])) == images[name]


def test_a_full_disk_is_one_clear_error_and_loses_nothing(store, fill, monkeypatch):
    images = fill(*range(3))
    fsync = os.fsync

    def full(descriptor):
        if os.fstat(descriptor).st_size > 3 * 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"Cannot write .*\.pack: the disk is full\. Free some space"):
            compact(store)
    assert unpacked(store) == sorted(images)
    assert packs(store) == []
    assert os.listdir(store.path / "tmp") == []
    assert compact(store).n_after == 1


def test_files_that_cannot_be_removed_are_named_and_removed_the_next_time(store, fill, monkeypatch):
    images = fill(*range(3))

    def refuse(self, missing_ok=False):
        if self.suffix == ".h5":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        os.unlink(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StoreError, match=rf"Cannot remove .*{min(images)}: Permission denied\. .* nothing is lost"):
            compact(store)
    assert contents(store) == images
    assert set(counts(store).values()) == {1}
    assert len(packs(store)) == 1
    done = compact(store)
    assert (done.n_twice, done.n_packs, done.n_after) == (3, 0, 1)
    assert contents(store) == images


def test_without_permission_nothing_is_begun(store, fill, monkeypatch):
    images = fill(0, 1)

    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "write_text", refuse)  # root may write anywhere
    with pytest.raises(StoreError, match="there is no permission to write there"):
        compact(store)
    assert unpacked(store) == sorted(images)


def test_packs_of_two_stores_can_be_put_together(store, fill, result, tmp_path):
    images = fill(0, 1)
    compact(store)
    other = Store.create(tmp_path / "other")
    for split in (1, 2):
        other.publish_stack(result(split=split))
    compact(other)
    for path in packs(other):
        (store.path / "stacks" / "packs" / path.name).write_bytes(path.read_bytes())
    assert set(counts(store).values()) == {1}
    assert len(counts(store)) == 9
    assert compact(store).n_merged == 2
    assert len(store.files.listed()[0]) == 3
    assert images.items() <= contents(store).items()
