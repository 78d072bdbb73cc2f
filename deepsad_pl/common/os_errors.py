"""Errors of the operating system, such as a full disk or too little memory, as sentences instead of tracebacks."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepsad_pl.common.errors import DeepSADError

_AGAIN = "the same command goes on from there"

# What is wrong, as a continuation of the file's path, and what to do.
_REASONS = {
    errno.ENOSPC: ("cannot be written, since its disk is full", f"make room; {_AGAIN}"),
    errno.EDQUOT: ("cannot be written, since the disk quota is used up", f"make room; {_AGAIN}"),
    errno.EFBIG: (
        "cannot be written, since it is larger than files may be here",
        f"raise the limit (ulimit -f), or choose a folder on another file system; {_AGAIN}",
    ),
    errno.EROFS: ("cannot be written, since its disk is read-only", "choose a folder that is writable"),
    errno.EMFILE: ("cannot be opened, since this process has too many open files", f"raise ulimit -n; {_AGAIN}"),
    errno.ENFILE: ("cannot be opened, since this machine has too many open files", f"close some; {_AGAIN}"),
    errno.EIO: ("cannot be read or written, since its disk reports an error", f"check the disk; {_AGAIN}"),
    errno.ESTALE: ("is gone from its network file system", f"check that it is mounted; {_AGAIN}"),
}

_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|bad_alloc|bad allocation")
_AMOUNT = re.compile(r"(?:tried|unable) to allocate ([\d.]+ \w+)", re.IGNORECASE)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or torch says that there is not enough memory, of the machine or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def as_sentence(error: BaseException) -> DeepSADError | None:
    """An error of the operating system as a sentence for the user; None if the error is of another kind.

    An error that was raised while such an error was handled counts as its consequence. The traceback stays in the run's
    log: it is of no use to a user who has to make room. The package's own errors have sentences already, but too little
    memory may look like damaged data or wrong arguments to whoever catches it.

    >>> print(as_sentence(OSError(28, "No space left on device", "runs/metrics.json")))
    runs/metrics.json cannot be written, since its disk is full; make room; the same command goes on from there
    """
    if lacks_memory(error):
        amount = f" ({found[1]} at once)" if (found := _AMOUNT.search(str(error))) else ""
        return DeepSADError(
            f"there is not enough memory{amount}; free some, run fewer experiments at once (hydra.launcher.n_jobs=1), "
            "or lower method.batch_size and pretrain.batch_size, or batch_size of score.py"
        )
    if isinstance(error, OSError):
        return None if (told := _sentence(error)) is None else DeepSADError(told)
    own = isinstance(error, DeepSADError)
    cause = error.__cause__ if own else _cause(error)
    seen = {id(error)}
    while cause is not None and id(cause) not in seen and (own or not isinstance(cause, DeepSADError)):
        seen.add(id(cause))
        # Other errors, such as a missing file, need not have caused the later one.
        if lacks_memory(cause) or (not own and isinstance(cause, OSError) and cause.errno in _REASONS):
            return as_sentence(cause)
        cause = _cause(cause)
    return None


@contextmanager
def in_sentences() -> Iterator[None]:
    """Inside the block, or the function that this decorates, raise errors of the operating system as sentences.

    Raises:
        DeepSADError: see :func:`as_sentence`; errors of another kind are passed on.
    """
    try:
        yield
    except Exception as error:
        if (told := as_sentence(error)) is None:
            raise
        raise told from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a file name to errors of the operating system: unlike an error of open, one of a write has none by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _cause(error: BaseException) -> BaseException | None:
    """The error that a traceback would show above this one."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _sentence(error: OSError) -> str | None:
    path = None if error.filename is None else Path(str(error.filename))
    if error.errno in _REASONS:
        wrong, way_out = _REASONS[error.errno]
        return f"{'a file' if path is None else path} {wrong}; {way_out}"
    if path is None or error.strerror is None:
        return None
    if error.errno == errno.ENOENT:
        gone = next((folder for folder in reversed(path.parents) if not folder.exists()), path)
        return f"{gone} does not exist, or no longer; put it in place, or start again without it"
    return f"{path} cannot be read or written ({error.strerror}); make it accessible, or choose another folder"
