import errno
import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import mtbench.data.downloads
from mtbench import DataError, Source, fetch, verified
from mtbench.data.downloads import fetch_unhashed
from mtbench.data.preparation import watched

CONTENT = b"rows and labels, " * 5000
CHUNK = 1 << 16  # what of a broken download is sure to have been written
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every address; says what was asked for; can break off, or ignore byte ranges."""

    daemon_threads = False
    content = CONTENT
    break_after: int | None = None
    knows_ranges = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        body, status = self.server.content, self.server.status
        if asked and self.server.knows_ranges:
            if asked == f"bytes={len(body)}-":
                self.send_error(416)
                return
            body, status = body[int(asked.removeprefix("bytes=").rstrip("-")) :], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: self.server.break_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def source(server: Server, path: str = "set/rows.bin", sha256: str = SHA256) -> Source:
    return Source(path, sha256, server.url, len(CONTENT))


def test_a_file_is_fetched_into_its_folder_and_verified(server, tmp_path):
    path = fetch(source(server), tmp_path, "set")
    assert path == tmp_path / "set" / "rows.bin"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["rows.bin"]
    assert verified(source(server), tmp_path, "set") == path


def test_a_file_that_is_there_and_right_is_left_alone(server, tmp_path):
    path = fetch(source(server), tmp_path, "set")
    before = path.stat()
    fetch(source(server), tmp_path, "set")
    assert path.stat() == before
    assert len(server.ranges) == 1


def test_a_corrupt_file_is_replaced(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.bin").write_bytes(b"something else")
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT


def test_a_broken_download_says_so_and_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = CHUNK + 1000
    with pytest.raises(DataError, match="`mtbench data prepare set` again"):
        fetch(source(server), tmp_path, "set")
    assert not (tmp_path / "set" / "rows.bin").exists()
    server.break_after = None
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CHUNK}-"]


def test_a_server_without_byte_ranges_is_asked_for_the_whole_file(server, tmp_path):
    server.break_after = CHUNK + 1000
    with pytest.raises(DataError):
        fetch(source(server), tmp_path, "set")
    server.break_after, server.knows_ranges = None, False
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT


def test_a_leftover_that_is_no_part_of_the_file_is_dropped(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.bin.part").write_bytes(b"x" * 10)
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT
    (tmp_path / "set" / "rows.bin").unlink()
    (tmp_path / "set" / "rows.bin.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT


def test_a_file_the_publisher_changed_is_refused_with_both_hashes(server, tmp_path):
    server.content = b"changed"
    with pytest.raises(DataError) as caught:
        fetch(source(server), tmp_path, "set")
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(b"changed").hexdigest() in str(caught.value)
    assert list((tmp_path / "set").iterdir()) == []


def test_an_address_that_is_gone_is_a_data_error(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="404"):
        fetch(source(server), tmp_path, "set")


def test_a_download_that_never_began_leaves_nothing_and_says_so_in_plain_words(server, tmp_path):
    gone = Source("set/rows.bin", SHA256, "http://127.0.0.1:9/file")
    with pytest.raises(DataError, match=r"127\.0\.0\.1 cannot be reached, or the connection broke\. Run `mt") as caught:
        fetch(gone, tmp_path, "toy")
    assert "HTTPConnectionPool" not in str(caught.value)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_disk_that_takes_nothing_is_named_as_the_cause(server, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="No space left on device"):
        fetch(source(server), tmp_path, "toy")


def test_an_empty_answer_is_told_by_its_hash(server, tmp_path):
    server.content = b""
    with pytest.raises(DataError, match=f"must give content with SHA-256 {SHA256}, found"):
        fetch(source(server), tmp_path, "toy")
    assert list((tmp_path / "set").iterdir()) == []


def test_a_folder_that_grants_no_writing_stays_as_it_is(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set").chmod(0o555)
    with pytest.raises(DataError, match=r"set grants no writing, so http.* Name a data folder that can be written to"):
        fetch(source(server), tmp_path, "toy")
    assert server.ranges == []
    assert list((tmp_path / "set").iterdir()) == []


def test_a_source_without_an_address_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(Source("set/rows.bin", SHA256), tmp_path, "set")
    assert str(tmp_path / "set" / "rows.bin") in str(caught.value)
    assert SHA256 in str(caught.value)


def test_a_folder_in_the_way_is_a_data_error(server, tmp_path):
    (tmp_path / "set").write_text("no folder")
    with pytest.raises(DataError, match="cannot fetch"):
        fetch(source(server), tmp_path, "set")


def test_a_download_of_unknown_size_goes_on_too(server, tmp_path):
    server.break_after = CHUNK + 1000
    wanted = Source("set/rows.bin", SHA256, server.url)
    with pytest.raises(DataError):
        fetch(wanted, tmp_path, "set")
    server.break_after = None
    assert fetch(wanted, tmp_path, "set").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CHUNK}-"]


@pytest.mark.parametrize("n_bytes", [0, len(CONTENT)], ids=["unknown", "known"])
def test_a_download_that_was_complete_but_not_named_is_not_fetched_again(server, tmp_path, n_bytes):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.bin.part").write_bytes(CONTENT)
    assert fetch(Source("set/rows.bin", SHA256, server.url, n_bytes), tmp_path, "set").read_bytes() == CONTENT
    assert server.ranges == ([] if n_bytes else [f"bytes={len(CONTENT)}-"])


def test_offline_nothing_is_asked_for_and_the_message_says_what_to_put_where(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MTBENCH_OFFLINE", "1")
    with pytest.raises(DataError, match="nothing is fetched") as caught:
        fetch(source(server), tmp_path, "set")
    for word in (server.url, str(tmp_path / "set" / "rows.bin"), SHA256, "--offline", "MTBENCH_OFFLINE"):
        assert word in str(caught.value)
    assert server.ranges == []
    assert not (tmp_path / "set").exists()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.bin").write_bytes(CONTENT)
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_a_variable_that_says_no_does_not_switch_fetching_off(server, tmp_path, monkeypatch, value):
    monkeypatch.setenv("MTBENCH_OFFLINE", value)
    assert fetch(source(server), tmp_path, "set").read_bytes() == CONTENT


def test_whoever_watches_is_told_how_far_a_download_is(server, tmp_path):
    told = []
    server.break_after = CHUNK + 1000
    with watched(lambda *what: told.append(what)), pytest.raises(DataError):
        fetch(source(server), tmp_path, "set")
    assert told == [("rows.bin", CHUNK, len(CONTENT), "B")]
    server.break_after = None
    with watched(lambda *what: told.append(what)):
        fetch(source(server), tmp_path, "set")
    assert {(name, total, unit) for name, _, total, unit in told} == {("rows.bin", len(CONTENT), "B")}
    assert [done for _, done, _, _ in told[1:]] == sorted(done for _, done, _, _ in told[1:])
    assert told[-1][1] == len(CONTENT)


def test_a_file_without_a_published_hash_is_looked_at(server, tmp_path):
    def fault(path):
        return None if path.read_bytes().startswith(b"rows") else "must be rows, found something else"

    assert fetch_unhashed(server.url, tmp_path, "set/a.csv", "set", fault).read_bytes() == CONTENT
    fetch_unhashed(server.url, tmp_path, "set/a.csv", "set", fault)
    assert len(server.ranges) == 1
    (tmp_path / "set" / "a.csv").unlink()
    server.content = b"an error page"
    with pytest.raises(DataError, match="must be rows, found something else"):
        fetch_unhashed(server.url, tmp_path, "set/a.csv", "set", fault)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_repacked_archive_is_accepted_for_its_content(server, tmp_path):
    server.content = gzip.compress(CONTENT, mtime=1)
    wanted = source(server, "set/rows.gz")
    fetch(wanted, tmp_path, "set")
    repacked = gzip.compress(CONTENT, compresslevel=1, mtime=2)
    assert repacked != server.content
    (tmp_path / "set" / "rows.gz").write_bytes(repacked)
    assert verified(wanted, tmp_path, "set").read_bytes() == repacked
    fetch(wanted, tmp_path, "set")
    assert len(server.ranges) == 1


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_run(tmp_path):
    with pytest.raises(DataError) as caught:
        verified(Source("set/rows.bin", SHA256), tmp_path, "set")
    for word in (str(tmp_path / "set" / "rows.bin"), "`mtbench data prepare set`", "--data DIR", "MTBENCH_DATA"):
        assert word in str(caught.value)


def test_a_truncated_file_is_named_with_expected_and_found_hash(tmp_path):
    (tmp_path / "rows.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="corrupt or truncated") as caught:
        verified(Source("rows.bin", SHA256), tmp_path, "set")
    for word in (str(tmp_path / "rows.bin"), SHA256, hashlib.sha256(CONTENT[:-1]).hexdigest(), "84,999 bytes"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "damaged",
    [gzip.compress(CONTENT)[:-20], b"no gzip at all", b"", gzip.compress(CONTENT)[:12] + b"\xff" * 40],
    ids=["truncated", "not gzip", "empty", "garbled"],
)
def test_a_broken_archive_is_named(tmp_path, damaged):
    (tmp_path / "rows.gz").write_bytes(damaged)
    with pytest.raises(DataError, match="corrupt or truncated"):
        verified(Source("rows.gz", SHA256), tmp_path, "set")


def test_a_file_is_read_once_per_process_and_again_when_it_changed(tmp_path, monkeypatch):
    read = []
    original = mtbench.data.downloads._content_digest
    monkeypatch.setattr(
        mtbench.data.downloads, "_content_digest", lambda path, *how: read.append(path) or original(path, *how)
    )
    path = tmp_path / "rows.bin"
    path.write_bytes(CONTENT)
    for _ in range(3):
        verified(Source("rows.bin", SHA256), tmp_path, "set")
    assert read == [path]
    path.write_bytes(CONTENT.swapcase())
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError):
        verified(Source("rows.bin", SHA256), tmp_path, "set")
    assert read == [path, path]


def test_an_unreadable_file_is_a_data_error(tmp_path):
    (tmp_path / "rows.bin").symlink_to("rows.bin")
    with pytest.raises(DataError):
        verified(Source("rows.bin", SHA256), tmp_path, "set")


def test_an_md5_stands_in_where_no_sha256_was_published(server, tmp_path):
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    published = Source("set/rows.bin", "", server.url, len(CONTENT), md5)
    path = fetch(published, tmp_path, "set")
    assert verified(published, tmp_path, "set") == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"must have MD5 {md5}, found [0-9a-f]{{32}} "):
        verified(published, tmp_path, "set")
