"""Trained autoencoders kept for later experiments, each under a hash of all that determines it."""

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deepsad_pl.files import locked, write_atomic

log = logging.getLogger(__name__)

Checkpoint = dict[str, Any]

_DIGEST = hashlib.sha256
_DIGEST_BYTES = _DIGEST().digest_size


class Entry:
    """The place of one trained autoencoder; use it only while :func:`locked_entry` holds its lock.

    Args:
        path: its file: the SHA-256 of the rest, then a checkpoint as torch saves it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Checkpoint | None:
        """The checkpoint, or None; a damaged file is removed with a warning."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if _DIGEST(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            log.warning("the cached autoencoder %s is damaged: it is removed and trained again", self.path)
            self.path.unlink()
            return None
        checkpoint: Checkpoint = torch.load(io.BytesIO(content[_DIGEST_BYTES:]), map_location="cpu", weights_only=True)
        return checkpoint

    def store(self, checkpoint: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all."""
        # What a process killed in the middle of the next line has left.
        for stale in self.path.parent.glob(f".{self.path.name}.*"):
            stale.unlink()
        content = io.BytesIO()
        torch.save(dict(checkpoint), content)
        write_atomic(self.path, _DIGEST(content.getvalue()).digest() + content.getvalue())


def entry_key(what: Mapping[str, Any]) -> str:
    """The name of an autoencoder: a hash of all that determines it, as JSON has it."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked_entry(folder: Path, what: Mapping[str, Any]) -> Iterator[Entry]:
    """The entry of an autoencoder, with every other process kept from it until the block ends.

    Args:
        folder: of the cache; made if there is none.
        what: all that determines the autoencoder, as JSON has it.

    Raises:
        DeepSADError: if the folder cannot be written.
    """
    key = entry_key(what)
    with locked(
        folder / f"{key}.lock",
        busy="another process trains the same autoencoder",
        way_out="choose another output_dir or use pretrain.cache=false",
    ):
        yield Entry(folder / f"{key}.bin")
