"""Cache of trained autoencoders for later experiments, each under a hash of everything that determines it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepsad_pl.common.checkpoints import Checkpoint, DamagedError, set_aside, to_bytes, unpickled
from deepsad_pl.common.files import locked, write_atomic

_DIGEST = hashlib.sha256
_DIGEST_BYTES = _DIGEST().digest_size


class Entry:
    """The cache entry of one trained autoencoder; use it only while :func:`locked_entry` holds its lock.

    Args:
        path: its file, which holds the SHA-256 of the checkpoint, then the checkpoint as torch saves it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, fits: Callable[[Checkpoint], None] = lambda _: None) -> Checkpoint | None:
        """Load the checkpoint, or return None if there is none; a damaged file is renamed, with a warning.

        Args:
            fits: raises :class:`~deepsad_pl.common.checkpoints.DamagedError` if the checkpoint is not the expected
                one.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            if _DIGEST(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
                raise DamagedError("its SHA-256 does not match its content")
            checkpoint = unpickled(content[_DIGEST_BYTES:])
            fits(checkpoint)
        except DamagedError as error:
            set_aside(self.path, "cached autoencoder", error)
            return None
        return checkpoint

    def store(self, checkpoint: Mapping[str, Any]) -> None:
        """Write the checkpoint atomically."""
        # Temporary files left by a process that was killed while writing.
        for stale in self.path.parent.glob(f".{self.path.name}.*"):
            stale.unlink()
        content = to_bytes(checkpoint)
        write_atomic(self.path, _DIGEST(content).digest() + content)


def entry_key(what: Mapping[str, Any]) -> str:
    """The name of an autoencoder's entry: a hash of everything that determines it."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked_entry(folder: Path, what: Mapping[str, Any]) -> Iterator[Entry]:
    """Lock the entry of an autoencoder against other processes until the block ends.

    Args:
        folder: folder of the cache; created if missing.
        what: everything that determines the autoencoder, serializable as JSON.

    Raises:
        DeepSADError: if the folder cannot be written.
    """
    key = entry_key(what)
    with locked(
        folder / f"{key}.lock",
        busy="another process is training the same autoencoder",
        way_out="choose another output_dir or use pretrain.cache=false",
    ):
        yield Entry(folder / f"{key}.bin")
