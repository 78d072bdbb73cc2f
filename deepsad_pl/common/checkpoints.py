"""Checkpoint files that carry the SHA-256 of their content: sealing, reading, and setting damaged ones aside."""

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

# A zip archive ends with this 22-byte record; its last two bytes hold the length of the comment that follows.
_END, _END_BYTES = b"PK\x05\x06", 22
_TAG = b"SHA-256 "
_HEX_DIGITS = 64
# The MS-DOS attribute of a folder. For such an entry torch reads nothing and leaves the tensor uninitialized.
_FOLDER = 0x10


class DamagedError(Exception):
    """A checkpoint cannot be used; the message says why."""


def to_bytes(checkpoint: Mapping[str, Any]) -> bytes:
    """Serialize a checkpoint with :func:`torch.save` and seal it."""
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    return sealed(content.getvalue())


def sealed(archive: bytes) -> bytes:
    """Append the SHA-256 of a zip archive to it, as the archive's comment.

    The comment is part of the zip format and stands at the very end, so torch, Lightning and every zip tool still read
    the archive, and one atomic write replaces content and checksum together.

    Args:
        archive: bytes as written by torch, without a comment.

    Returns:
        The archive with the checksum of all bytes before it.
    """
    if archive[-_END_BYTES:][:4] != _END or archive[-2:] != b"\0\0":
        raise ValueError("this is not a zip archive without a comment")
    content = archive[:-2] + (len(_TAG) + _HEX_DIGITS).to_bytes(2, "little") + _TAG
    return content + hashlib.sha256(content).hexdigest().encode()


def require_whole(content: bytes) -> None:
    """Check that every byte is as it was written.

    Files of releases that wrote no SHA-256 have only zip's own checksums, which do not cover the archive's directory.

    Raises:
        DamagedError: if the content is damaged.
    """
    if content[-_END_BYTES:][:4] != _END or content[-2:] != b"\0\0":
        if hashlib.sha256(content[:-_HEX_DIGITS]).hexdigest().encode() != content[-_HEX_DIGITS:]:
            raise DamagedError("its SHA-256 does not match its content")
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            wrong = archive.testzip() is not None or any(of.external_attr & _FOLDER for of in archive.infolist())
    # Damage can raise nearly anything, from BadZipFile to NotImplementedError for an unknown compression method.
    except Exception as error:
        raise DamagedError(f"it is not a complete zip archive ({type(error).__name__})") from error
    if wrong:
        raise DamagedError("it is not a complete zip archive")


def from_bytes(content: bytes) -> Checkpoint:
    """Load a checkpoint from a file's content to the CPU, without executing any code in it.

    Raises:
        DamagedError: if the content is damaged or is no checkpoint.
    """
    require_whole(content)
    return unpickled(content)


def unpickled(content: bytes) -> Checkpoint:
    """Like :func:`from_bytes`, for content that has already been checked in another way."""
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # from torch, from the archive or from the pickle in it
        raise DamagedError(f"torch cannot read it ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict):
        raise DamagedError(f"it holds a {type(checkpoint).__name__} instead of a dictionary")
    return checkpoint


def set_aside(path: Path, what: str, error: DamagedError) -> None:
    """Rename a damaged file to ``<name>.damaged``, replacing an earlier one, and log a warning."""
    aside = path.with_name(f"{path.name}.damaged")
    log.warning("the %s %s is damaged: %s; it is renamed to %s and trained again", what, path, error, aside.name)
    path.replace(aside)
