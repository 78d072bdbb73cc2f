"""Arrays in the cache equal those that were written; damaged ones are rewritten."""

import errno
import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import locked
from deepsad_pl.data.decoded_cache import load_or_write

TRAIN, TEST = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
KEY = hashlib.sha256(b"images").hexdigest()
OTHER_KEY = hashlib.sha256(b"other images").hexdigest()


class Writer:
    """Writes the two arrays and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        np.save(folder / "train.npy", TRAIN)
        np.save(folder / "test.npy", TEST)


def load(cache: Path, write: Callable[[Path], None], key: str = KEY) -> list[Any]:
    return load_or_write(cache, key, ("train", "test"), write)


def folder_of(cache: Path, key: str = KEY) -> Path:
    return cache / f"image_folder-{key[:16]}"


def assert_right(arrays: list[Any]) -> None:
    train, test = arrays
    assert np.array_equal(train, TRAIN)
    assert np.array_equal(test, TEST)


def test_arrays_are_written_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write = Writer()
    for _ in range(3):
        arrays = load(tmp_path, write)
        assert_right(arrays)
        assert all(isinstance(array, np.memmap) for array in arrays)
    assert write.times == 1
    assert caplog.messages == []


def damage(folder: Path, how: str) -> None:
    path = folder / "test.npy"
    content = path.read_bytes()
    if how == "zeroed":
        path.write_bytes(content[:128] + bytes(len(content) - 128))
    elif how == "one bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "header":
        path.write_bytes(content.replace(b"(1, 3, 2, 2)", b"(1, 1, 4, 3)"))
    elif how == "truncated":
        path.write_bytes(content[:-5])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"no array")
    elif how == "foreign":
        np.save(path, TEST[::-1].astype(np.float64))
    elif how == "swapped":
        shutil.copy(folder / "train.npy", path)
    elif how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    elif how == "empty manifest":
        (folder / "manifest.json").write_bytes(b"")
    elif how == "manifest of bytes":
        (folder / "manifest.json").write_bytes(b"\xff\xfe")
    else:
        (folder / "manifest.json").write_text("[]")


DAMAGES = ["zeroed", "one bit", "header", "truncated", "empty", "text", "foreign", "swapped", "missing", "a folder"]
DAMAGES += ["no manifest", "empty manifest", "manifest of bytes", "manifest of something else"]


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_arrays_are_written_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    write = Writer()
    load(tmp_path, write)
    damage(folder_of(tmp_path), how)
    assert_right(load(tmp_path, write))
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert f"{folder_of(tmp_path)} are damaged" in warning.getMessage()
    assert_right(load(tmp_path, write))
    assert write.times == 2


def test_intact_arrays_of_other_images_are_not_used(tmp_path: Path) -> None:
    write = Writer()
    load(tmp_path, lambda folder: [np.save(folder / f"{name}.npy", TRAIN) for name in ("train", "test")], OTHER_KEY)
    folder_of(tmp_path, OTHER_KEY).rename(folder_of(tmp_path))
    assert_right(load(tmp_path, write))
    assert write.times == 1


def parts(cache: Path) -> list[Path]:
    return list(cache.glob(".*.part"))


def test_remains_of_a_killed_process_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    for key in (KEY, OTHER_KEY):
        (tmp_path / f".image_folder-{key[:16]}.part").mkdir()
        (tmp_path / f".image_folder-{key[:16]}.part" / "train.npy").write_bytes(b"half of it")
    assert_right(load(tmp_path, Writer()))
    assert parts(tmp_path) == []


def test_files_that_another_process_is_writing_stay(tmp_path: Path) -> None:
    part = tmp_path / f".image_folder-{OTHER_KEY[:16]}.part"
    with locked(part.with_suffix(".lock"), busy="", way_out=""):
        part.mkdir()
        assert_right(load(tmp_path, Writer()))
        assert parts(tmp_path) == [part]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DeepSADError("a file is damaged")])
def test_a_failed_write_leaves_nothing(tmp_path: Path, error: Any) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "train.npy").write_bytes(b"half of it")
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        load(tmp_path, interrupted)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert_right(load(tmp_path, Writer()))


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DeepSADError, match=r"cannot be written .*No space left.*; choose another data_dir"):
        load(tmp_path, full)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_two_processes_at_once_write_once(tmp_path: Path) -> None:
    write, begun, found = Writer(), threading.Event(), []

    def slowly(folder: Path) -> None:
        begun.set()
        second.start()
        second.join(0.2)
        assert second.is_alive(), "the second one has not waited"
        write(folder)

    second = threading.Thread(target=lambda: found.append(load(tmp_path, write)))
    assert_right(load(tmp_path, slowly))
    second.join(30)
    assert begun.is_set()
    assert_right(found[0])
    assert write.times == 1
