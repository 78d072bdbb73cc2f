"""Image folders, ``<root>/{train,test}/<class>/**``: list classes and images, hash and decode the images."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.digests import file_digests
from deepsad_pl.data.image_listing import Listing, holds_images, is_class, list_images

log = logging.getLogger(__name__)

PARTS = ("train", "test")

# Increment this whenever decoding changes the pixels of a file, so that images decoded earlier are not reused.
PIXEL_FORMAT = 2

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class _Content:
    """The images in an image folder and their hashes.

    Attributes:
        listing: names of the images.
        files: name and SHA-256 of each image, in the order of the listing.
        digest: hash of the whole folder.
    """

    listing: Listing
    files: list[tuple[str, str]]
    digest: str


def class_names(root: Path) -> list[str]:
    """The class names of the training and the test part together, sorted by folder; a part may lack some classes.

    Names are in composed Unicode (NFC), however the folder names are encoded on disk.

    Raises:
        DeepSADError: if ``root``, ``root/train`` or ``root/test`` is missing, there is no class folder, or the names of
            two folders of a part differ only in Unicode composition.
    """
    for folder in (root, *(root / part for part in PARTS)):
        if not folder.is_dir():
            raise DeepSADError(
                f"dataset.root: there is no folder {folder}; choose a folder with train/<class>/* and test/<class>/*"
            )
    folders = {**class_folders(root, "test"), **class_folders(root, "train")}
    if not folders:
        raise DeepSADError(
            f"dataset.root: {root}/train has no class folder; create one folder of images for each class"
        )
    return sorted(folders, key=lambda name: folders[name])


def training_classes(root: Path) -> list[str]:
    """The class names that have at least one image in ``root/train``; the other classes are novel."""
    return once(("classes", root), lambda: _training_classes(root))


def _training_classes(root: Path) -> list[str]:
    folders = class_folders(root, "train")
    return [c for c in class_names(root) if c in folders and holds_images(root, f"train/{folders[c]}")]


def scan(root: Path) -> Listing:
    """List the images of each class, also in sub-folders and behind links; hidden files and folders are left out.

    Raises:
        DeepSADError: if ``root`` does not have the expected layout, or a folder cannot be read.
    """
    try:
        classes = class_names(root)
        folders = {part: class_folders(root, part) for part in PARTS}
        return list_images(root, {part: [folders[part].get(c) for c in classes] for part in PARTS})
    except OSError as error:
        raise DeepSADError(
            f"dataset.root: {error.filename} cannot be read ({error.strerror}); make it readable or remove it"
        ) from error


_found: dict[Hashable, Any] | None = None


@contextmanager
def looked_at_once() -> Iterator[None]:
    """Inside the block, assume that folders do not change: scan and hash each folder only once."""
    global _found
    _found = {}
    try:
        yield
    finally:
        _found = None


def once(key: Hashable, look: Callable[[], _T]) -> _T:
    """Call a function; inside :func:`looked_at_once`, return what the first call with the same key returned."""
    if _found is None:
        return look()
    if key not in _found:
        _found[key] = look()
    value: _T = _found[key]
    return value


def content_digest(root: Path, cache_dir: Path, listing: Listing | None = None) -> str:
    """A hash of the images' relative names and bytes; it does not depend on where the folder is.

    Unchanged images are read only once; their hashes are cached, see :func:`~deepsad_pl.data.digests.file_digests`.

    Args:
        root: the folder.
        cache_dir: where the hashes are cached.
        listing: the images; None: those that :func:`scan` lists.

    Raises:
        DeepSADError: if the folder does not have the expected layout or cannot be read, or the cache cannot be written.
    """
    if listing is not None:
        return _content(root, cache_dir, listing).digest
    return once(("digest", root, cache_dir), lambda: _content(root, cache_dir).digest)


def image_folder_arrays(
    root: Path,
    cache_dir: Path,
    *,
    image_size: Sequence[int],
    channels: int,
    digest: str | None = None,
    listing: Listing | None = None,
) -> tuple[npt.NDArray[Any], ...]:
    """Decode the images of a folder, or load them from the cache, with their class indices.

    The decoded images are cached by content and requested shape. Images of another size are resized (antialiased
    bilinear, without keeping the aspect ratio). A warning counts the files of the folder that are skipped.

    Args:
        root: the folder.
        cache_dir: where the arrays are cached.
        image_size: (H, W).
        channels: 1 (grey) or 3 (RGB).
        digest: the expected :func:`content_digest`; None accepts any.
        listing: the images; None: those that :func:`scan` lists.

    Returns:
        x_train (N, C, H, W) uint8 memory-mapped, labels_train (N,), x_test, labels_test; only what belongs to the parts
        of the listing, and labels are indices into its groups.

    Raises:
        DeepSADError: if the folder does not have the expected layout, its digest is not the expected one, it changes
            while it is read, a part holds no image, a file cannot be decoded, or the cache cannot be written.
    """
    from deepsad_pl.data.decoded_cache import load_or_write

    content = _content(root, cache_dir, listing)
    if digest not in (None, content.digest):
        raise DeepSADError(f"{root} has changed since this run was planned; start it again")
    if content.listing.skipped:
        log.warning("%s: %s", root, content.listing.told())
    for part, groups in content.listing.images.items():
        if not any(groups):
            raise DeepSADError(f"dataset.root: {root / part} holds no image; put images into {part}/<class>/")
    shape = (channels, *image_size)
    key = _digest([PIXEL_FORMAT, content.digest, list(shape)])
    parts = tuple(content.listing.images)
    images = load_or_write(cache_dir, key, parts, lambda folder: _decode_into(folder, root, content, shape))
    arrays: list[npt.NDArray[Any]] = []
    for part, array in zip(parts, images, strict=True):
        groups = content.listing.images[part]
        arrays += [array, np.repeat(np.arange(len(groups)), [len(group) for group in groups])]
    return tuple(arrays)


def _content(root: Path, cache_dir: Path, listing: Listing | None = None) -> _Content:
    listing = scan(root) if listing is None else listing
    try:
        hashes = file_digests(root, listing.names, cache_dir, progress="reading images")
    except OSError as error:
        raise _unreadable(error) from error
    files = list(zip(listing.names, hashes, strict=True))
    return _Content(listing, files, _folder_digest(root, files, cache_dir))


def _folder_digest(root: Path, files: Sequence[tuple[str, str]], cache_dir: Path) -> str:
    """The digest of a folder, from the names and hashes of its images.

    If every image is still decoded as in pixel format 1, it is the digest of that format, so that earlier results stay
    valid. To check this every image is opened, so the result is cached.
    """
    before = _digest(files)
    now = _digest([PIXEL_FORMAT, before])
    kept = cache_dir / f"pixels-{before[:16]}"
    try:
        digest = kept.read_text(encoding="utf-8", errors="replace")
    except OSError:
        digest = ""
    if digest in (before, now):
        return digest
    from deepsad_pl.data import pixels

    def differs(file: tuple[str, str]) -> bool:
        return pixels.differs_from_format_1(_read(root, *file))

    digest = now if any(_each(differs, files, "checking images")) else before
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, digest)
    except OSError as error:
        raise DeepSADError(f"{cache_dir} cannot be written to ({error}); choose another data_dir") from error
    return digest


def class_folders(root: Path, part: str) -> dict[str, str]:
    """The class folders of a part by class name, which is the folder name in composed Unicode.

    Raises:
        DeepSADError: if the names of two folders differ only in Unicode composition.
        OSError: if the part cannot be read.
    """
    folders: dict[str, str] = {}
    for entry in filter(is_class, os.scandir(root / part)):
        if (other := folders.setdefault(composed(entry.name), entry.name)) != entry.name:
            raise DeepSADError(
                f"dataset.root: {root / part} has two folders for the class {composed(entry.name)}, {other!a} "
                f"and {entry.name!a}, whose names look the same; move the files of one into the other"
            )
    return folders


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _decode_into(target: Path, root: Path, content: _Content, shape: tuple[int, ...]) -> None:
    from deepsad_pl.data import pixels

    hashes = dict(content.files)

    def decoded(name: str) -> bytes:
        return pixels.decode(root / name, _read(root, name, hashes[name]), shape).tobytes()

    for part, groups in content.listing.images.items():
        names = [name for group in groups for name in group]
        # Written sequentially: with a memory map, a full disk would kill the process.
        with (target / f"{part}.npy").open("wb") as array:
            np.lib.format.write_array_header_1_0(
                array, {"descr": "|u1", "fortran_order": False, "shape": (len(names), *shape)}
            )
            for image in _each(decoded, names, f"decoding {part} images"):
                array.write(image)


def _each(function: Callable[[_T], _R], items: Sequence[_T], text: str) -> Iterator[_R]:
    """Apply a function to all items in threads, with a progress bar; yields the results in order."""
    from rich.progress import track

    from deepsad_pl.common.console import console

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(function, items), text, len(items), console=console)


def _read(root: Path, name: str, sha256: str) -> bytes:
    """Read a file and check that its hash is still the given one."""
    try:
        content = (root / name).read_bytes()
    except OSError as error:
        raise _unreadable(error) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DeepSADError(
            f"{root / name} has changed while the images were being read; run again once nothing writes to {root}"
        )
    return content


def _unreadable(error: OSError) -> DeepSADError:
    return DeepSADError(f"{error.filename} cannot be read ({error.strerror}); repair or remove it")
