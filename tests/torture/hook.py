"""Imported first by a command under test: counts its file events, ends it at one of them, or fills its disk.

Environment variables say what it does:

    TORTURE_COUNT=<file>        each event appends a line to the file
    TORTURE_AT=<n>              the event at which something happens, from 1
    TORTURE_HOW=before|after    the process is killed before or after the event
                full            from this event on, everything that writes fails: the disk is full
    TORTURE_GROUP=1             its whole process group is killed, as if the power had failed
    TORTURE_FSIZE=<bytes>       the largest file that it may write
    TORTURE_MEMORY=<bytes>      the most memory that it may allocate
"""

import builtins
import errno
import io
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = str(Path.cwd())
_AT, _HOW = int(os.environ.get("TORTURE_AT", 0)), os.environ.get("TORTURE_HOW", "")
_WRITES = os.O_WRONLY | os.O_RDWR
_write, _kill, _killpg, _fstat, _readlink = os.write, os.kill, os.killpg, os.fstat, os.readlink


def _counts(path: Any) -> bool:
    """Whether something is a file in the working directory; anything else that a process writes is not a result."""
    try:
        name = _readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else str(Path(HERE, os.fsdecode(path)))
    except (TypeError, OSError):
        return False
    return name.startswith(HERE + os.sep)


def _event(name: str, path: Any) -> int:
    _write(_COUNT, f"{name} {str(path).replace(HERE, '')}\n".encode(errors="replace"))
    # All processes of the command append to one file, whose lines are counted.
    return os.pread(_COUNT, 1 << 24, 0).count(b"\n")


def _die() -> None:
    if os.environ.get("TORTURE_GROUP"):
        _killpg(0, signal.SIGKILL)
    _kill(os.getpid(), signal.SIGKILL)


def _counted(function: Callable[..., Any], name: str, writes: bool, asks: Callable[..., bool]) -> Callable[..., Any]:
    def wrapped(path: Any, *rest: Any, **named: Any) -> Any:
        if not (asks(*rest, **named) and _counts(path)):
            return function(path, *rest, **named)
        number = _event(name, path)
        if _HOW == "full" and writes and 0 < _AT <= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if isinstance(path, int) else str(path))
        if (number, _HOW) == (_AT, "before"):
            _die()
        done = function(path, *rest, **named)
        if (number, _HOW) == (_AT, "after"):
            _die()
        return done

    return wrapped


def _always(*_: Any, **__: Any) -> bool:
    return True


def _opens(mode: Any = "r", *_: Any, **named: Any) -> bool:
    return isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(named.get("mode", mode))


def _opens_low(flags: int, *_: Any, **__: Any) -> bool:
    return bool(flags & _WRITES)


if size := os.environ.get("TORTURE_FSIZE"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
if size := os.environ.get("TORTURE_MEMORY"):
    resource.setrlimit(resource.RLIMIT_AS, (int(size), resource.RLIM_INFINITY))
if "TORTURE_COUNT" in os.environ:
    _COUNT = os.open(os.environ["TORTURE_COUNT"], os.O_RDWR | os.O_APPEND | os.O_CREAT)
    for _name, _fills in (
        *(("replace", False), ("rename", False), ("fsync", True), ("unlink", False), ("remove", False)),
        *(("mkdir", True), ("rmdir", False)),
    ):
        setattr(os, _name, _counted(getattr(os, _name), _name, _fills, _always))
    os.open = _counted(os.open, "open", True, _opens_low)
    _open = _counted(builtins.open, "open", True, _opens)
    builtins.open = io.open = _open
