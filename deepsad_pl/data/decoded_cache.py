"""Decoded images on disk: arrays that are checked whenever they are loaded, and written anew if they are damaged."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import BusyError, locked

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_MANIFEST = "manifest.json"
_WAY_OUT = "choose another data_dir"


def load_or_write(cache_dir: Path, key: str, names: Sequence[str], write: Callable[[Path], None]) -> list[Array]:
    """Arrays of the cache, memory-mapped; they are written first if they are missing or not what was written.

    Args:
        cache_dir: of the cache; made if there is none.
        key: a hash of all that determines the arrays.
        names: of the arrays.
        write: writes ``<name>.npy`` into a folder, for each name.

    Raises:
        DeepSADError: if the cache cannot be written.
    """
    folder = cache_dir / f"image_folder-{key[:16]}"
    if not _is_whole(folder, key, names):
        try:
            with locked(_lock(folder), busy="another process is decoding the same images", way_out=_WAY_OUT):
                # It may be that process which has just written them.
                if not _is_whole(folder, key, names):
                    _write(folder, key, names, write)
        except OSError as error:
            raise DeepSADError(f"{cache_dir} cannot be written to ({error}); {_WAY_OUT}") from error
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]


def _is_whole(folder: Path, key: str, names: Sequence[str]) -> bool:
    try:
        kept = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(kept == _manifest(folder, key, names))
    except (OSError, ValueError):
        return False


def _manifest(folder: Path, key: str, names: Sequence[str]) -> dict[str, Any]:
    digests = {}
    for name in names:
        with (folder / f"{name}.npy").open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"key": key, "sha256": digests}


def _write(folder: Path, key: str, names: Sequence[str], write: Callable[[Path], None]) -> None:
    """Write the arrays, under a temporary name until all are there."""
    if folder.exists():
        log.warning("the decoded images in %s are damaged: they are removed and decoded again", folder)
        shutil.rmtree(folder)
    _remove_parts(folder.parent)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        write(part)
        (part / _MANIFEST).write_text(json.dumps(_manifest(part, key, names)), encoding="utf-8")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_parts(cache_dir: Path) -> None:
    """Remove what killed processes have left; who is still at work holds a lock, and another user's stays."""
    for part in cache_dir.glob(".image_folder-*.part"):
        with (
            suppress(BusyError, DeepSADError),
            locked(part.with_suffix(".lock"), busy="at work", way_out=_WAY_OUT, wait=False),
        ):
            shutil.rmtree(part, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
