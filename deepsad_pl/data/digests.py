"""SHA-256 of data files, remembered between processes so that unchanged files are read once."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepsad_pl.common.files import write_atomic

log = logging.getLogger(__name__)

_FORMAT = 1

# A file that changes twice within one tick of its file system's clock has one ctime for two contents. Two seconds are
# the longest tick there is (FAT); only a digest of a file that was at rest for longer is remembered.
_TICK_NS = 2_000_000_000

# What this process has learned of a folder and could not write.
_unwritten: dict[Path, dict[str, tuple[str, str]]] = {}


def file_digests(root: Path, names: Sequence[str], cache_dir: Path, *, progress: str = "") -> list[str]:
    """The SHA-256 of files below a folder.

    A file is read unless it was read before and has kept its size, mtime, ctime and inode. All files of one resolved
    ``root`` are remembered in one file of ``cache_dir``, which carries a checksum: a damaged one is made anew. Where
    ``cache_dir`` cannot be written, only this process remembers.

    Args:
        root: the folder.
        names: of the files, relative to ``root``; links are followed.
        cache_dir: where digests are remembered; made if there is something to remember.
        progress: the text of a progress bar; empty shows none.

    Returns:
        The digests in hex, in the order of ``names``.

    Raises:
        OSError: if a file cannot be read.
    """
    root = root.resolve()
    memory = cache_dir / f"digests-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    remembered = _load(memory, str(root)) | _unwritten.get(memory, {})
    digests: dict[str, str] = {}
    unread: list[str] = []
    prefix = f"{root}{os.sep}"  # of 100,000 files, Path alone would take half a second
    for name in dict.fromkeys(names):
        stamp, digest = remembered.get(name, ("", ""))
        if stamp == _stamp(os.stat(prefix + name)):  # noqa: PTH116
            digests[name] = digest
        else:
            unread.append(name)
    if unread:
        found = _read_all(root, unread, progress)
        digests |= {name: digest for name, (_, digest) in found.items()}
        if learned := {name: (stamp, digest) for name, (stamp, digest) in found.items() if stamp}:
            _store(memory, str(root), learned)
    return [digests[name] for name in names]


def _stamp(stat: os.stat_result) -> str:
    """What changes whenever the content of a file may have changed.

    No device number: that of a network file system differs between the machines that share a memory.
    """
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _read_all(root: Path, names: Sequence[str], progress: str) -> dict[str, tuple[str, str]]:
    """Stamp and digest of each file."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _read(root / name), names)
        if progress:
            from rich.progress import track

            from deepsad_pl.common.console import console

            found = iter(track(found, progress, len(names), console=console))
        return dict(zip(names, found, strict=True))


def _read(path: Path) -> tuple[str, str]:
    """Stamp and digest of a file; the stamp is empty if it does not vouch for the content."""
    now = time.time_ns()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    at_rest = before.st_ctime_ns + _TICK_NS < now and _stamp(before) == _stamp(after)
    return (_stamp(before) if at_rest else "", digest)


def _load(memory: Path, root: str) -> dict[str, tuple[str, str]]:
    """Stamp and digest by name; nothing if the file is missing, damaged or another folder's."""
    try:
        checksum, _, content = memory.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        return {}
    kept = json.loads(content)
    if not isinstance(kept, dict) or (kept.get("format"), kept.get("root")) != (_FORMAT, root):
        return {}
    return {name: (stamp, digest) for name, (stamp, digest) in kept["files"].items()}


def _store(memory: Path, root: str, learned: dict[str, tuple[str, str]]) -> None:
    # Read again: another process may have added some. Whoever writes at the same moment costs a reading, no more.
    content = json.dumps({"format": _FORMAT, "root": root, "files": _load(memory, root) | learned}).encode()
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memory, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except OSError as error:
        _unwritten[memory] = _unwritten.get(memory, {}) | learned
        log.debug("file digests are not stored for later runs: cannot write to %s (%s)", memory.parent, error)
