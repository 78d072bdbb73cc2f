"""Atomic writes and lock files."""

import errno
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.os_errors import naming

log = logging.getLogger(__name__)


def as_utf8(name: str) -> str:
    r"""A file name as text that UTF-8 can encode; bytes that are not valid UTF-8 become escapes.

    >>> as_utf8("caf\udce9.png")
    'caf\\udce9.png'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def real_path(path: Path) -> Path:
    """The path without symbolic links; unlike ``Path.resolve``, a loop of them raises only when the path is opened."""
    return Path(os.path.realpath(path))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically, so that neither a kill nor a power cut leaves half of it; text is encoded as UTF-8.

    Temporary files that killed processes of this machine left for the same target are removed.

    Raises:
        OSError: if it cannot be written; the error names the file.
    """
    with naming(path):
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            if _is_dead(part):
                _remove(part)
        descriptor, name = tempfile.mkstemp(**part_of(path))
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            # mkstemp creates files with mode 0600, which would hide results from the rest of a group.
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            put_in_place(Path(name), path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def part_of(path: Path) -> dict[str, Any]:
    """Arguments of ``tempfile`` for a temporary file or folder beside its target; :func:`clear_parts` knows them."""
    return {"prefix": f".{path.name}.{_host()}-{os.getpid()}.", "suffix": ".part", "dir": path.parent}


def put_in_place(part: Path, path: Path) -> None:
    """Rename a file or a folder, replacing an earlier file; the content is on the disk first, then the name."""
    if part.is_dir():
        for inside in part.rglob("*"):
            _sync(inside)
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    # On Windows, only a file that is open for writing can be synchronized.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and user-space file systems cannot synchronize a folder.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


# Names of temporary files, now and in earlier releases.
_PARTS = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.[a-z0-9_]{8}\.part")
_OLD_PARTS = re.compile(
    r"\.([\w-]+\.(json|yaml|csv|npz|ckpt|html)|wandb_id)\.(?=[a-z]*[0-9_])[a-z0-9_]{8}|(pretrain|last)\.part"
)


@cache
def _host() -> str:
    """Where process ids have their meaning: this machine since its start, or a container on it."""
    told = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):  # not on Linux
            told.append(str(path.readlink()) if path.is_symlink() else path.read_text())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def clear_parts(*folders: Path, locked: bool = False) -> None:
    """Remove the temporary files and folders that killed processes left in these folders, not below them.

    Args:
        folders: folders, which need not exist.
        locked: whether a lock keeps every other process from writing there. Otherwise, only the files of processes of
            this machine that have ended are removed.
    """
    for folder in folders:
        for path in folder.glob("*"):
            is_part = _PARTS.fullmatch(path.name) or _OLD_PARTS.fullmatch(path.name)
            if is_part if locked else _is_dead(path):
                _remove(path)


def _is_dead(path: Path) -> bool:
    """Whether a path is a temporary file of a process of this machine that has ended."""
    found = _PARTS.fullmatch(path.name)
    return found is not None and found["host"] == _host() and not psutil.pid_exists(int(found["pid"]))


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
    log.debug("%s was left by a process that was killed, and is removed", part)


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
