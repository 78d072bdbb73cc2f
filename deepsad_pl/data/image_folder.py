"""A folder of images, ``<root>/{train,test}/<class>/*``, decoded once into a memory-mapped array cache."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from rich.progress import Progress

from deepsad_pl.console import console
from deepsad_pl.errors import DeepSADError

PARTS = ("train", "test")


@dataclass(frozen=True)
class ImageFile:
    """One file of the folder, as a directory scan tells it."""

    name: str  # relative to the root, with forward slashes
    size: int
    mtime_ns: int


def class_names(root: Path) -> list[str]:
    """The class folders of both parts together, sorted; a class may be missing from one of them.

    Raises:
        DeepSADError: if ``root``, ``root/train`` or ``root/test`` is missing, or there is no class folder.
    """
    for folder in (root, *(root / part for part in PARTS)):
        if not folder.is_dir():
            raise DeepSADError(
                f"dataset.root: there is no folder {folder}; give a folder with train/<class>/* and test/<class>/*"
            )
    names = {entry.name for part in PARTS for entry in os.scandir(root / part) if _is_class(entry)}
    if not names:
        raise DeepSADError(f"dataset.root: {root}/train has no class folder; give one folder of images for each class")
    return sorted(names)


def scan(root: Path) -> dict[str, list[list[ImageFile]]]:
    """For each part the files of each class, sorted by name; hidden files are left out."""
    classes = class_names(root)
    return {part: [sorted(_scan_class(root, f"{part}/{c}"), key=lambda f: f.name) for c in classes] for part in PARTS}


def fingerprint(root: Path) -> str:
    """What identifies the content of an image folder wherever it lies: a hash of relative names and sizes."""
    return _digest([(f.name, f.size) for part in scan(root).values() for files in part for f in files])


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
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepSADError(f"{cache_dir} cannot be made ({error}); choose another data_dir") from error
    with FileLock(cache_dir / f".{folder.name}.lock"):
        if not folder.exists():
            part_dir = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=cache_dir))
            try:
                _decode_into(part_dir, root, files, (channels, *image_size))
                part_dir.replace(folder)
            finally:
                shutil.rmtree(part_dir, ignore_errors=True)
    arrays: list[npt.NDArray[Any]] = []
    for part in PARTS:
        arrays.append(np.load(folder / f"{part}.npy", mmap_mode="r"))
        arrays.append(np.repeat(np.arange(len(files[part])), [len(group) for group in files[part]]))
    return tuple(arrays)


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
            image = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DeepSADError(f"{path} cannot be read as an image ({error}); repair or remove it") from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def _decode_into(target: Path, root: Path, files: dict[str, list[list[ImageFile]]], shape: tuple[int, ...]) -> None:
    total = sum(len(group) for groups in files.values() for group in groups)
    with Progress(console=console) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = progress.add_task(f"decoding {total} images", total=total)
        for part, groups in files.items():
            paths = [root / file.name for group in groups for file in group]
            if not paths:
                raise DeepSADError(f"dataset.root: {root / part} holds no image; put them into {part}/<class>/")
            array = np.lib.format.open_memmap(
                target / f"{part}.npy", mode="w+", dtype=np.uint8, shape=(len(paths), *shape)
            )
            for i, image in enumerate(pool.map(lambda path: _decode(path, shape), paths)):
                array[i] = image
                if i % 256 == 0:
                    progress.update(task, advance=256)
            array.flush()
        progress.update(task, completed=total)
