"""Files that are written whole or not at all, by one process at a time."""

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

log = logging.getLogger(__name__)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies; text as UTF-8."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's 0600 would hide results from the rest of a group.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: if it cannot be read; FileNotFoundError if there is none.
        ValueError: if it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class BusyError(Exception):
    """Another process, or another place of this one, holds a lock."""


@contextmanager
def locked(path: Path, *, busy: str, way_out: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which other processes wait for and the death of this one releases.

    Args:
        path: of the lock file; its folder is made if there is none.
        busy: what to say if another process holds it.
        way_out: the end of the error message.
        wait: whether to wait for it then.

    Raises:
        DeepSADError: if the folder cannot be written.
        BusyError: if it is held and not waited for.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise BusyError(busy) from None
            log.info("%s: waiting for it", busy)
            lock.acquire()
    except OSError as error:
        raise DeepSADError(f"{path.parent} cannot be written ({error}); {way_out}") from error
    try:
        yield
    finally:
        lock.release()
