"""A folder of images, ``<root>/{train,test}/<class>/*``, decoded once into a memory-mapped array cache."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from rich.progress import track

from deepsad_pl.console import console
from deepsad_pl.data.class_names import composed
from deepsad_pl.errors import DeepSADError
from deepsad_pl.files import write_atomic

PARTS = ("train", "test")


@dataclass(frozen=True)
class ImageFile:
    """One file of the folder, as a directory scan tells it."""

    name: str  # relative to the root, with forward slashes
    size: int
    mtime_ns: int


def class_names(root: Path) -> list[str]:
    """The classes of both parts together, in the order of their folders; one of the parts may lack some.

    Names are in composed Unicode (NFC), whatever the folders on disk are written in.

    Raises:
        DeepSADError: if ``root``, ``root/train`` or ``root/test`` is missing, there is no class folder, or two folders
            of a part differ in nothing but Unicode composition.
    """
    for folder in (root, *(root / part for part in PARTS)):
        if not folder.is_dir():
            raise DeepSADError(
                f"dataset.root: there is no folder {folder}; give a folder with train/<class>/* and test/<class>/*"
            )
    folders = {**_class_folders(root, "test"), **_class_folders(root, "train")}
    if not folders:
        raise DeepSADError(f"dataset.root: {root}/train has no class folder; give one folder of images for each class")
    return sorted(folders, key=lambda name: folders[name])


def training_classes(root: Path) -> list[str]:
    """Those of :func:`class_names` that have an image in ``root/train``; the others are novel."""
    if _trained is None:
        return _training_classes(root)
    if root not in _trained:
        _trained[root] = _training_classes(root)
    return _trained[root]


def _training_classes(root: Path) -> list[str]:
    folders = _class_folders(root, "train")
    return [c for c in class_names(root) if c in folders and any(_scan_class(root, f"train/{folders[c]}"))]


def scan(root: Path) -> dict[str, list[list[ImageFile]]]:
    """For each part the files of each class, sorted by name; hidden files are left out."""
    classes = class_names(root)
    found: dict[str, list[list[ImageFile]]] = {}
    for part in PARTS:
        folders = _class_folders(root, part)
        groups = (_scan_class(root, f"{part}/{folders[c]}") if c in folders else () for c in classes)
        found[part] = [sorted(group, key=lambda file: file.name) for group in groups]
    return found


_digests: dict[tuple[Path, Path], str] | None = None
_trained: dict[Path, list[str]] | None = None


@contextmanager
def looked_at_once() -> Iterator[None]:
    """Within the block a folder counts as unchanged: only the first look walks through it."""
    global _digests, _trained
    _digests, _trained = {}, {}
    try:
        yield
    finally:
        _digests = _trained = None


def content_digest(root: Path, cache_dir: Path) -> str:
    """What identifies the content of an image folder wherever it lies: a hash of relative names and bytes.

    Files are read once; then the result is kept in the cache, keyed by the file list, sizes and modification times.

    Args:
        root: the folder.
        cache_dir: where the result is kept.

    Raises:
        DeepSADError: if the folder has not the layout, or the cache cannot be written.
    """
    if _digests is None:
        return _content_digest(root, cache_dir)
    if (root, cache_dir) not in _digests:
        _digests[root, cache_dir] = _content_digest(root, cache_dir)
    return _digests[root, cache_dir]


def _content_digest(root: Path, cache_dir: Path) -> str:
    files = [file for groups in scan(root).values() for group in groups for file in group]
    kept = cache_dir / f"digest-{_digest([(f.name, f.size, f.mtime_ns) for f in files])[:16]}"
    if kept.exists():
        return kept.read_text(encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda file: hashlib.sha256((root / file.name).read_bytes()).hexdigest(), files)
        shown = track(digests, "reading images", len(files), console=console)
        digest = _digest([(file.name, found) for file, found in zip(files, shown, strict=True)])
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, digest)
    except OSError as error:
        raise DeepSADError(f"{cache_dir} cannot be written ({error}); choose another data_dir") from error
    return digest


def image_folder_arrays(
    root: Path, cache_dir: Path, *, image_size: Sequence[int], channels: int
) -> tuple[npt.NDArray[Any], ...]:
    """The decoded images and their class indices.

    The cache is keyed by the file list, sizes and modification times, and by the shape asked for. Images of another
    size are resized (antialiased bilinear, without keeping the aspect ratio).

    Args:
        root: the folder.
        cache_dir: where the arrays are kept.
        image_size: (H, W).
        channels: 1 (grey) or 3 (RGB).

    Returns:
        x_train (N, C, H, W) uint8 memory-mapped, labels_train (N,), x_test, labels_test.

    Raises:
        DeepSADError: if the folder has not the layout, or a file is no image.
    """
    files = scan(root)
    listing = [(f.name, f.size, f.mtime_ns) for part in PARTS for group in files[part] for f in group]
    key = _digest([*listing, list(image_size), channels])
    folder = cache_dir / f"image_folder-{key[:16]}"
    if not folder.exists():
        try:
            _fill(folder, root, files, (channels, *image_size))
        except OSError as error:
            raise DeepSADError(f"{cache_dir} cannot be written ({error}); choose another data_dir") from error
    arrays: list[npt.NDArray[Any]] = []
    for part in PARTS:
        arrays.append(np.load(folder / f"{part}.npy", mmap_mode="r"))
        arrays.append(np.repeat(np.arange(len(files[part])), [len(group) for group in files[part]]))
    return tuple(arrays)


def _fill(folder: Path, root: Path, files: dict[str, list[list[ImageFile]]], shape: tuple[int, ...]) -> None:
    """Make the cache, under a temporary name until it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.exists():
            return
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        part.mkdir()
        try:
            _decode_into(part, root, files, shape)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _class_folders(root: Path, part: str) -> dict[str, str]:
    """The class folders of a part, by class name, which is the folder's in composed Unicode."""
    folders: dict[str, str] = {}
    for entry in filter(_is_class, os.scandir(root / part)):
        if (other := folders.setdefault(composed(entry.name), entry.name)) != entry.name:
            raise DeepSADError(
                f"dataset.root: {root / part} has two folders named {composed(entry.name)}, {other!a} and "
                f"{entry.name!a}, which are one class; move the files of one into the other"
            )
    return folders


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _scan_class(root: Path, folder: str) -> Iterator[ImageFile]:
    if not (root / folder).is_dir():
        return
    for entry in os.scandir(root / folder):
        if entry.is_file() and not entry.name.startswith("."):
            stat = entry.stat()
            yield ImageFile(f"{folder}/{entry.name}", stat.st_size, stat.st_mtime_ns)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _decode(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    from PIL import Image

    channels, height, width = shape
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if opened.mode.startswith("I;16"):
                # Pillow would clip 16-bit grey at 255.
                image = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # each decoder raises kinds of its own on damaged files
        reason = f"{type(error).__name__}: {error}"
        raise DeepSADError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def _decode_into(target: Path, root: Path, files: dict[str, list[list[ImageFile]]], shape: tuple[int, ...]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, groups in files.items():
            paths = [root / file.name for group in groups for file in group]
            if not paths:
                raise DeepSADError(f"dataset.root: {root / part} holds no image; put them into {part}/<class>/")
            array = np.lib.format.open_memmap(
                target / f"{part}.npy", mode="w+", dtype=np.uint8, shape=(len(paths), *shape)
            )
            images = pool.map(lambda path: _decode(path, shape), paths)
            for i, image in enumerate(track(images, f"decoding {part} images", len(paths), console=console)):
                array[i] = image
            array.flush()
