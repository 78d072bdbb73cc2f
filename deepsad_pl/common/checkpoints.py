"""Checkpoint files, which carry the SHA-256 of their content: sealed, opened, and set aside when damaged."""

import hashlib
import io
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

Checkpoint = dict[str, Any]

# A zip archive ends with this record of 22 bytes, the last two of which are the length of a comment that follows.
_END, _END_BYTES = b"PK\x05\x06", 22
_TAG = b"SHA-256 "
_HEX_DIGITS = 64
# MS-DOS' mark of a folder, for which torch reads nothing and leaves a tensor as the memory happens to be.
_FOLDER = 0x10


class DamagedError(Exception):
    """A checkpoint cannot be used; says why."""


def to_bytes(checkpoint: Mapping[str, Any]) -> bytes:
    """What :func:`torch.save` writes of a checkpoint, sealed."""
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    return sealed(content.getvalue())


def sealed(archive: bytes) -> bytes:
    """A zip archive with the SHA-256 of everything before the sum as its comment.

    A comment is a part of the format and stands at the very end: torch, Lightning and every zip tool read the archive
    as before, and one atomic write replaces content and sum together.

    Args:
        archive: as torch saves it, without a comment.
    """
    if archive[-_END_BYTES:][:4] != _END or archive[-2:] != b"\0\0":
        raise ValueError("this is no zip archive without a comment")
    content = archive[:-2] + (len(_TAG) + _HEX_DIGITS).to_bytes(2, "little") + _TAG
    return content + hashlib.sha256(content).hexdigest().encode()


def seal(path: Path) -> None:
    """Seal a file that torch has saved. Not atomic: nobody else may know the file yet."""
    path.write_bytes(sealed(path.read_bytes()))


def require_whole(content: bytes) -> None:
    """Demand that every byte is as it was written.

    A file of a release that wrote no sum has only zip's own checksums, which do not cover its directory.

    Raises:
        DamagedError: if it is not.
    """
    if content[-_END_BYTES:][:4] != _END or content[-2:] != b"\0\0":
        if hashlib.sha256(content[:-_HEX_DIGITS]).hexdigest().encode() != content[-_HEX_DIGITS:]:
            raise DamagedError("its SHA-256 does not match its content")
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            wrong = archive.testzip() is not None or any(of.external_attr & _FOLDER for of in archive.infolist())
    # Damage shows as nearly anything, from BadZipFile to NotImplementedError of a compression that nobody has used.
    except Exception as error:
        raise DamagedError(f"it is no whole zip archive ({type(error).__name__})") from error
    if wrong:
        raise DamagedError("it is no whole zip archive")


def from_bytes(content: bytes) -> Checkpoint:
    """The checkpoint in a file's content, on the CPU. No code in it is executed.

    Raises:
        DamagedError: if it is not whole or no checkpoint.
    """
    require_whole(content)
    return unpickled(content)


def unpickled(content: bytes) -> Checkpoint:
    """As :func:`from_bytes`, of content that was found whole in another way."""
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's own, of the archive, of the pickle in it
        raise DamagedError(f"torch cannot read it ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict):
        raise DamagedError(f"it holds a {type(checkpoint).__name__} instead of a dictionary")
    return checkpoint


def set_aside(path: Path, what: str, error: DamagedError) -> None:
    """Move a damaged file out of the way, in place of one that was moved there before, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    log.warning("the %s %s is damaged: %s; it is set aside as %s and trained again", what, path, error, aside.name)
    path.replace(aside)
