"""SHA-256 digests of data files, cached between processes so that unchanged files are read only once."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepsad_pl.common.files import real_path, write_atomic

log = logging.getLogger(__name__)

_FORMAT = 1

# A file that changes twice within one tick of its file system's clock has the same ctime for both contents. The longest
# tick is two seconds (FAT), so a digest is cached only if the file had not changed for longer than that.
_TICK_NS = 2_000_000_000

# Digests that this process computed but could not write, by cache file.
_unwritten: dict[Path, dict[str, tuple[str, str]]] = {}


def file_digests(root: Path, names: Sequence[str], cache_dir: Path, *, progress: str = "") -> list[str]:
    """Compute the SHA-256 of files below a folder, or take it from a cache if the file is unchanged.

    A file is unchanged if it has kept its size, mtime, ctime and inode. The digests of one resolved ``root`` are kept
    in one file of ``cache_dir``, which carries a checksum; a damaged cache file is written again. If ``cache_dir``
    cannot be written, the digests are kept in memory, for this process only.

    Args:
        root: the folder.
        names: file names relative to ``root``; links are followed.
        cache_dir: where the digests are cached; created when the first digest is written.
        progress: the text of a progress bar; empty for no bar.

    Returns:
        The digests in hex, in the order of ``names``.

    Raises:
        OSError: if a file cannot be read.
    """
    root = real_path(root)
    memory = cache_dir / f"digests-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    remembered = _load(memory, str(root)) | _unwritten.get(memory, {})
    digests: dict[str, str] = {}
    unread: list[str] = []
    prefix = f"{root}{os.sep}"  # with 100,000 files, Path objects would take half a second
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
    """A string that changes whenever the content of a file may have changed.

    It leaves out the device number, which differs between machines that share a network file system.
    """
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _read_all(root: Path, names: Sequence[str], progress: str) -> dict[str, tuple[str, str]]:
    """Read all files in threads; returns stamp and digest by name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _read(root / name), names)
        if progress:
            from rich.progress import track

            from deepsad_pl.common.console import console

            found = iter(track(found, progress, len(names), console=console))
        return dict(zip(names, found, strict=True))


def _read(path: Path) -> tuple[str, str]:
    """Stamp and digest of a file; the stamp is empty if the file changed during the read or shortly before it."""
    now = time.time_ns()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    at_rest = before.st_ctime_ns + _TICK_NS < now and _stamp(before) == _stamp(after)
    return (_stamp(before) if at_rest else "", digest)


def _load(memory: Path, root: str) -> dict[str, tuple[str, str]]:
    """Stamp and digest by name; empty if the cache file is missing, damaged or belongs to another folder."""
    try:
        checksum, _, content = memory.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        return {}
    try:
        kept = json.loads(content)
        if (kept["format"], kept["root"]) != (_FORMAT, root):
            return {}
        return {name: (str(stamp), str(digest)) for name, (stamp, digest) in kept["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # whole, but not of this package
        return {}


def _store(memory: Path, root: str, learned: dict[str, tuple[str, str]]) -> None:
    # Load again: another process may have added digests. If two processes write at the same moment, the digests of one
    # are lost and computed again when they are next needed.
    content = json.dumps({"format": _FORMAT, "root": root, "files": _load(memory, root) | learned}).encode()
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memory, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except OSError as error:
        _unwritten[memory] = _unwritten.get(memory, {}) | learned
        log.debug("file digests are not stored for later runs: cannot write to %s (%s)", memory.parent, error)
