"""Cache of decoded images on disk: the arrays are checked on every load and written again if they are damaged."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
from numpy.lib.format import open_memmap

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import BusyError, locked, put_in_place, read_json

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_MANIFEST = "manifest.json"
_WAY_OUT = "choose another data_dir"


def load_or_write(cache_dir: Path, key: str, names: Sequence[str], write: Callable[[Path], None]) -> list[Array]:
    """Load cached arrays, memory-mapped; write them first if they are missing or damaged.

    Args:
        cache_dir: the cache folder; created if missing.
        key: a hash of everything that determines the arrays.
        names: names of the arrays.
        write: writes ``<name>.npy`` for each name into the given folder.

    Raises:
        DeepSADError: if the cache cannot be written.
    """
    folder = cache_dir / f"image_folder-{key[:16]}"
    if not _is_whole(folder, key, names):
        try:
            with locked(_lock(folder), busy="another process is decoding the same images", way_out=_WAY_OUT):
                # Another process may have written them while this one waited for the lock.
                if not _is_whole(folder, key, names):
                    _write(folder, key, names, write)
        except OSError as error:
            raise DeepSADError(f"{cache_dir} cannot be written to ({error}); {_WAY_OUT}") from error
    return [open_memmap(folder / f"{name}.npy", mode="r") for name in names]


def _is_whole(folder: Path, key: str, names: Sequence[str]) -> bool:
    try:
        if read_json(folder / _MANIFEST) != _manifest(folder, key, names):
            return False
        for name in names:
            open_memmap(folder / f"{name}.npy", mode="r")
    except (OSError, ValueError, EOFError):  # also of an array that is none, though its SHA-256 is right
        return False
    return True


def _manifest(folder: Path, key: str, names: Sequence[str]) -> dict[str, Any]:
    digests = {}
    for name in names:
        with (folder / f"{name}.npy").open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"key": key, "sha256": digests}


def _write(folder: Path, key: str, names: Sequence[str], write: Callable[[Path], None]) -> None:
    """Write the arrays into a temporary folder, which is renamed once it is complete."""
    if folder.exists():
        log.warning("the decoded images in %s are damaged: they are removed and decoded again", folder)
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink()
    _remove_parts(folder.parent)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        write(part)
        (part / _MANIFEST).write_text(json.dumps(_manifest(part, key, names)), encoding="utf-8")
        put_in_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_parts(cache_dir: Path) -> None:
    """Remove the temporary folders of killed processes; those of running processes and of other users stay."""
    for part in cache_dir.glob(".image_folder-*.part"):
        with (
            suppress(BusyError, DeepSADError),
            locked(part.with_suffix(".lock"), busy="at work", way_out=_WAY_OUT, wait=False),
        ):
            shutil.rmtree(part, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
