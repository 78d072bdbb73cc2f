"""Append to a file as a whole or not at all: the next append removes what a killed process left."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deepsad_pl.common.files import read_json, write_atomic

# A file is recognized by its last bytes; this is their number.
_TAIL = 4096


def note_of(path: Path) -> Path:
    """The path of the note that is written before an append to a file and removed after it."""
    return path.with_name(f".{path.name}.appending")


def append(path: Path, content: IO[bytes], *, before: bytes = b"") -> None:
    """Append the whole content of an open file to another file, which is left unchanged if an error occurs.

    Args:
        path: the file that grows.
        content: the open file, which is read from its start.
        before: bytes to write first if ``path`` does not end with them.

    Raises:
        OSError: if it cannot be written, such as on a full disk.
    """
    with _locked(path) as file:
        _undo(path, file)
        size = file.seek(0, os.SEEK_END)
        length = content.seek(0, os.SEEK_END) + len(before)
        content.seek(0)
        write_atomic(note_of(path), json.dumps({"size": size, "tail": _tail(file, size), "most": size + length}))
        try:
            file.seek(max(0, size - len(before)))
            ends = file.read() == before
            file.seek(size)
            file.write(b"" if ends else before)
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            note_of(path).unlink()
            raise
        note_of(path).unlink()


def undo_interrupted(path: Path) -> int | None:
    """Remove what a killed process has partly appended to a file.

    Returns:
        The number of removed bytes; None if no append was interrupted.
    """
    if not note_of(path).exists():
        return None
    with _locked(path) as file:
        return _undo(path, file)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file and keep other processes from appending to it."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _undo(path: Path, file: IO[bytes]) -> int | None:
    try:
        note = read_json(note_of(path))
    except FileNotFoundError:
        return None
    surplus = file.seek(0, os.SEEK_END) - note["size"]
    # If not, the file has been replaced or changed since the note was written.
    known = 0 <= surplus <= note["most"] - note["size"] and _tail(file, note["size"]) == note["tail"]
    if known:
        file.truncate(note["size"])
    note_of(path).unlink()
    return surplus if known else None


def _tail(file: IO[bytes], size: int) -> str:
    file.seek(max(0, size - _TAIL))
    return hashlib.sha256(file.read(min(size, _TAIL))).hexdigest()
