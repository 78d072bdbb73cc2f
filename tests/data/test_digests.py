"""Remembered digests: correct whatever happens to a file, and cheap if nothing does."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deepsad_pl.data import digests
from deepsad_pl.data.digests import file_digests

LONG_AGO = 60 * 10**9


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "a").write_bytes(b"A")
    (tmp_path / "root" / "sub" / "b").write_bytes(b"B")
    return tmp_path / "root"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files, in the order in which they are read; all files count as a minute old."""
    names: list[str] = []
    real, now = digests._read, time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + LONG_AGO)

    def noting(path: Path) -> tuple[str, str]:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(digests, "_read", noting)
    return names


def test_digests_are_those_of_the_contents_in_the_requested_order(root: Path, cache: Path, read: list[str]) -> None:
    names = ["sub/b", "a", "sub/b"]
    expected = [sha256(b"B"), sha256(b"A"), sha256(b"B")]
    assert file_digests(root, names, cache) == expected
    assert sorted(read) == ["a", "b"]
    assert file_digests(root, names, cache) == expected
    assert sorted(read) == ["a", "b"]


def test_only_a_new_file_is_read(root: Path, cache: Path, read: list[str]) -> None:
    file_digests(root, ["a", "sub/b"], cache)
    (root / "c").write_bytes(b"C")
    read.clear()
    assert file_digests(root, ["a", "c", "sub/b"], cache)[1] == sha256(b"C")
    assert read == ["c"]


def test_a_call_for_some_files_keeps_the_digests_of_the_others(root: Path, cache: Path, read: list[str]) -> None:
    file_digests(root, ["a"], cache)
    file_digests(root, ["sub/b"], cache)
    read.clear()
    file_digests(root, ["a", "sub/b"], cache)
    assert read == []


def in_place(path: Path) -> None:
    path.write_bytes(b"Z")


def in_place_with_the_same_mtime(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(b"Z")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def another_file_with_the_same_mtime(path: Path) -> None:
    stat = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"Z")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def another_size(path: Path) -> None:
    path.write_bytes(b"ZZ")


def a_link_to_another_file(path: Path) -> None:
    stat = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"Z")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.unlink()
    path.symlink_to(other)


CHANGES = [
    in_place,
    in_place_with_the_same_mtime,
    another_file_with_the_same_mtime,
    another_size,
    a_link_to_another_file,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_detected(root: Path, cache: Path, read: list[str], change: Callable[[Path], None]) -> None:
    before = file_digests(root, ["a"], cache)
    time.sleep(0.02)  # longer than a tick of the file system
    change(root / "a")
    assert file_digests(root, ["a"], cache) != before
    assert file_digests(root, ["a"], cache) == [sha256((root / "a").read_bytes())]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_right_after_reading_is_detected(root: Path, cache: Path, change: Callable[[Path], None]) -> None:
    for _ in range(20):  # many of them within one tick
        (root / "a").unlink()
        (root / "a").write_bytes(b"A")
        assert file_digests(root, ["a"], cache) == [sha256(b"A")]
        change(root / "a")
        assert file_digests(root, ["a"], cache) == [sha256((root / "a").read_bytes())]
    assert not cache.exists()


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    root: Path, cache: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.file_digest

    def slow(file: object, name: str) -> object:
        found = real(file, name)  # type: ignore[arg-type]
        time.sleep(0.02)
        (root / "a").write_bytes(b"Z")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", slow)
        file_digests(root, ["a"], cache)
    assert file_digests(root, ["a"], cache) == [sha256(b"Z")]


def test_another_folder_with_equal_names_is_read(root: Path, cache: Path, read: list[str], tmp_path: Path) -> None:
    file_digests(root, ["a"], cache)
    shutil.copytree(root, tmp_path / "copy")
    read.clear()
    file_digests(tmp_path / "copy", ["a"], cache)
    assert read == ["a"]


def test_a_folder_is_identified_by_its_resolved_path(root: Path, cache: Path, read: list[str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    file_digests(tmp_path / "link", ["a"], cache)
    file_digests(root, ["a"], cache)
    assert read == ["a"]


def flipped(content: bytes) -> bytes:
    middle = content.rindex(b'"')
    return content[: middle - 1] + bytes([content[middle - 1] ^ 1]) + content[middle:]


def signed(content: object) -> bytes:
    body = json.dumps(content).encode()
    return sha256(body).encode() + b"\n" + body


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        flipped,
        lambda content: content + b" ",
        lambda _: b"<html>",
        lambda _: b"\xff" * 100,
        lambda _: signed({}),
        lambda _: signed([]),
        lambda _: signed({"format": 0, "root": "", "files": {}}),
        lambda content: signed(json.loads(content.partition(b"\n")[2]) | {"root": "/elsewhere"}),
    ],
    ids=["empty", "half", "bit", "longer", "html", "binary", "{}", "[]", "other format", "other root"],
)
def test_a_damaged_cache_of_digests_is_rebuilt(
    root: Path, cache: Path, read: list[str], damage: Callable[[bytes], bytes]
) -> None:
    file_digests(root, ["a"], cache)
    (memory,) = cache.iterdir()
    whole = memory.read_bytes()
    memory.write_bytes(damage(whole))
    read.clear()
    assert file_digests(root, ["a"], cache) == [sha256(b"A")]
    assert read == ["a"]
    assert memory.read_bytes() == whole


def test_without_a_writable_cache_only_this_process_remembers(
    root: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for _ in range(2):
        assert file_digests(root, ["a", "sub/b"], tmp_path / "file" / "cache") == [sha256(b"A"), sha256(b"B")]
    assert sorted(read) == ["a", "b"]
    time.sleep(0.02)
    (root / "a").write_bytes(b"Z")
    assert file_digests(root, ["a", "sub/b"], tmp_path / "file" / "cache") == [sha256(b"Z"), sha256(b"B")]
    assert sorted(read) == ["a", "a", "b"]
    monkeypatch.setattr(digests, "_unwritten", {})  # another process
    file_digests(root, ["a"], tmp_path / "file" / "cache")
    assert sorted(read) == ["a", "a", "a", "b"]


def test_a_file_that_is_not_there_is_an_error(root: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digests(root, ["a", "nothing"], cache)


def test_names_of_all_kinds_are_remembered(root: Path, cache: Path, read: list[str]) -> None:
    names = ["Öl 2", "new\nline", 'quo"te', os.fsdecode(b"latin-\xf6")]
    for name in names:
        (root / name).write_bytes(os.fsencode(name))
    for _ in range(2):
        assert file_digests(root, names, cache) == [sha256(os.fsencode(name)) for name in names]
    assert len(read) == len(names)


def test_many_processes_at_once_are_right_and_leave_an_intact_cache(root: Path, cache: Path, read: list[str]) -> None:
    names = [f"{i}" for i in range(20)]
    for name in names:
        (root / name).write_bytes(name.encode())
    expected = [sha256(name.encode()) for name in names]
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(file_digests(root, names, cache))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
    read.clear()
    assert file_digests(root, names, cache) == expected
    assert read == []
    assert len(list(cache.iterdir())) == 1
