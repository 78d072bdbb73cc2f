"""Download files, and keep them only if they are complete and have the expected SHA-256."""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import put_in_place, write_atomic

_TIMEOUT_S = 30
_CHUNK = 1 << 16


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, path: Path, sha256: str | None, problem_of: Callable[[Path], str | None] = lambda _: None) -> Path:
    """Download a file unless it exists; it gets its final name only after its SHA-256 and content were checked.

    An existing file is used unchecked, without network access.

    Args:
        url: address of the file.
        path: where to store it; its folder is created if missing.
        sha256: expected SHA-256, in hex; None if it is not known: that of the download is then stored beside the file,
            see :func:`noted_sum`.
        problem_of: function that says what is wrong with the content of the downloaded file, or returns None.

    Returns:
        ``path``.

    Raises:
        DeepSADError: if the file cannot be downloaded or stored, or has another SHA-256; the message says how to go on.
            Nothing is left under the final name.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock"):
            if not path.exists():
                _fetch(url, path, sha256, problem_of)
    except OSError as error:
        raise DeepSADError(
            f"{path.parent} cannot be created or written to ({error}); choose another data_dir"
        ) from error
    return path


def noted_sum(path: Path) -> str | None:
    """The SHA-256, in hex, that was noted when a file of unknown checksum was downloaded; None without a note."""
    try:
        return _note(path).read_text(encoding="utf-8").split(maxsplit=1)[0]
    except (OSError, ValueError, IndexError):
        return None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _fetch(url: str, path: Path, sha256: str | None, problem_of: Callable[[Path], str | None]) -> None:
    by_hand = f"download it by hand from {url} and put it at {path}"
    # Left by processes that were killed: the lock keeps others away.
    for stale in path.parent.glob(f".{path.name}.*.part"):
        stale.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _download(url, part, path.name)
        found = sha256_of(part)
        wrong = f"SHA-256 {found}, expected {sha256}" if found != (sha256 or found) else problem_of(part)
        if wrong is not None:
            raise DeepSADError(
                f"{path.name} from {url} is not the expected file ({wrong}): the server sent something else; {by_hand}"
            )
        if sha256 is None:
            # Before the file: one without a note counts as somebody's own.
            write_atomic(_note(path), f"{found}  {path.name}\n".encode())
        put_in_place(part, path)
    except urllib.error.HTTPError as error:
        raise DeepSADError(
            f"{path.name} could not be downloaded: {url} answered {error.code} {error.reason}; {by_hand}"
        ) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DeepSADError(
            f"{path.name} could not be downloaded from {url} ({reason}); try again, or {by_hand}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _download(url: str, part: Path, name: str) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
        expected = response.length  # None if the server sends no valid length
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"downloading {name}", total=expected)
            received = 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                received += len(chunk)
                progress.update(task, completed=received)
    if expected is not None and received < expected:
        raise OSError(f"the connection broke after {received} of {expected} bytes")
