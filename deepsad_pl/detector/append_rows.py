"""Append to a file in one step, so that what a killed process has appended is not taken for complete."""

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

# Number of bytes at the end of a file by which it is recognized.
_TAIL = 4096


def note_of(path: Path) -> Path:
    """The path of the note about a file before an append; the note is removed after the append."""
    return path.with_name(f".{path.name}.appending")


def append(path: Path, content: IO[bytes], *, before: bytes = b"") -> None:
    """Append all content of a file to another one, which is unchanged after an error.

    Args:
        path: the file that grows.
        content: an open file, positioned at the start of what is appended.
        before: written first, if ``path`` does not end with it.

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
    """Remove what a killed process has partly appended.

    Returns:
        The number of removed bytes; None if no append was interrupted.
    """
    if not note_of(path).exists():
        return None
    with _locked(path) as file:
        return _undo(path, file)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The open file, while no other process appends to it."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _undo(path: Path, file: IO[bytes]) -> int | None:
    try:
        note = read_json(note_of(path))
    except FileNotFoundError:
        return None
    surplus = file.seek(0, os.SEEK_END) - note["size"]
    # Otherwise the path has another file by now.
    known = 0 <= surplus <= note["most"] - note["size"] and _tail(file, note["size"]) == note["tail"]
    if known:
        file.truncate(note["size"])
    note_of(path).unlink()
    return surplus if known else None


def _tail(file: IO[bytes], size: int) -> str:
    file.seek(max(0, size - _TAIL))
    return hashlib.sha256(file.read(min(size, _TAIL))).hexdigest()
