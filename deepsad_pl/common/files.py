"""Atomic writes and lock files."""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.os_errors import naming

log = logging.getLogger(__name__)


def as_utf8(name: str) -> str:
    r"""A file name as text that UTF-8 can encode; bytes of it that are no UTF-8 become escapes.

    >>> as_utf8("caf\udce9.png")
    'caf\\udce9.png'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def real_path(path: Path) -> Path:
    """The path without symbolic links; unlike ``Path.resolve`` it leaves a loop of them to whoever opens the path."""
    return Path(os.path.realpath(path))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically, so that a killed process never leaves half of it; text is encoded as UTF-8.

    Raises:
        OSError: if it cannot be written; the error names the file.
    """
    with naming(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp creates files with mode 0600, which would hide results from the rest of a group.
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: if it cannot be read; FileNotFoundError if it does not exist.
        ValueError: if it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class BusyError(Exception):
    """The lock is held by another process, or elsewhere in this one."""


@contextmanager
def locked(path: Path, *, busy: str, way_out: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock file inside the block; the lock is released even if this process dies.

    Args:
        path: the lock file; its folder is created if missing.
        busy: the message if another process holds the lock.
        way_out: the end of the error message: how to fix it.
        wait: whether to wait for a lock that is held.

    Raises:
        DeepSADError: if the folder cannot be written.
        BusyError: if the lock is held and ``wait`` is False.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise BusyError(busy) from None
            log.info("%s: waiting until it is done", busy)
            lock.acquire()
    except OSError as error:
        raise DeepSADError(f"cannot write to {path.parent} ({error}); {way_out}") from error
    try:
        yield
    finally:
        lock.release()
