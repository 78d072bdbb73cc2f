"""List an image folder: the images of each class, and the files that are skipped."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# A file with one of these suffixes counts as an image. Any other file is opened to see whether it is one.
_IMAGE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".jxl", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)

_BROKEN, _LOOP, _NO_IMAGE, _OUTSIDE = (
    "broken links",
    "links to a parent folder",
    "no images",
    "outside the class folders",
)

Skipped = dict[str, list[str]]


@dataclass(frozen=True)
class Listing:
    """The files of an image folder; names are relative to its root, with forward slashes.

    Attributes:
        images: for each part, the names of each class's images, in the order of torchvision's ``ImageFolder``.
        skipped: names of the skipped files and links by reason; hidden ones are not listed.
    """

    images: dict[str, list[list[str]]]
    skipped: Skipped

    @property
    def names(self) -> list[str]:
        """The names of the images of all parts and classes."""
        return [name for groups in self.images.values() for group in groups for name in group]

    def names_of(self, part: str) -> list[str]:
        """The names of the images of all classes of a part; none if the listing lacks the part."""
        return [name for group in self.images.get(part, ()) for name in group]

    def told(self) -> str:
        """One line about the skipped files: the number and an example for each reason."""
        total = sum(map(len, self.skipped.values()))
        reasons = sorted((reason, len(names), min(names)) for reason, names in self.skipped.items())
        listed = "; ".join(f"{reason}: {count}, such as {example}" for reason, count, example in reasons)
        return f"skipped {total} file{'s' if total > 1 else ''} ({listed})"


def list_images(root: Path, folders: Mapping[str, Sequence[str | None]], *, loose: bool = False) -> Listing:
    """List the images of each class, also in sub-folders and behind links; hidden files and folders are left out.

    Args:
        root: the folder.
        folders: for each part, the name of each class's folder; None for a class that the part lacks.
        loose: whether images straight below a part, which have no class, are listed too, as the first group of the
            part. Otherwise they are skipped.

    Raises:
        OSError: if a folder cannot be read.
    """
    skipped: Skipped = {}
    images = {part: _images_of_part(root, part, of_classes, skipped, loose) for part, of_classes in folders.items()}
    return Listing(images, skipped)


def holds_images(root: Path, folder: str) -> bool:
    """Whether a folder below ``root`` or one of its sub-folders holds an image."""
    return any(True for _ in _walk(root, folder, frozenset(), {}))


def holds_loose_images(root: Path, part: str) -> bool:
    """Whether an image lies straight below a part."""
    return any(_is_loose_image(entry) for entry in os.scandir(root / part))


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and its sub-folders, by folder, then by name; hidden ones and other files are left out.

    Raises:
        OSError: if a folder cannot be read.
    """
    names = sorted(_walk(folder, ".", frozenset(), {}), key=lambda name: name.rpartition("/"))
    return [folder / name for name in names]


def is_class(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a class folder: a folder or a link to one, and not hidden."""
    return _kind(entry) == "folder" and not entry.name.startswith(".")


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file"] | None:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError:  # a link to itself
        return None


def _images_of_part(
    root: Path, part: str, folders: Sequence[str | None], skipped: Skipped, loose: bool
) -> list[list[str]]:
    outside: list[str] = []
    for entry in os.scandir(root / part):
        name = f"{part}/{entry.name}"
        if loose and _is_loose_image(entry):
            outside.append(name)
        elif _kind(entry) != "folder" and not entry.name.startswith("."):
            broken = _kind(entry) is None and entry.is_symlink()
            _skip(skipped, name, _BROKEN if broken else _NO_IMAGE if loose else _OUTSIDE)
    around = frozenset(map(_file_id, (root, root / part)))
    walks = [_walk(root, f"{part}/{folder}", around, skipped) if folder is not None else () for folder in folders]
    # Sorted by folder, then by file name.
    groups = [sorted(walk, key=lambda name: name.rpartition("/")) for walk in walks]
    return [sorted(outside), *groups] if loose else groups


def _walk(root: Path, folder: str, around: frozenset[tuple[int, int]], skipped: Skipped) -> Iterator[str]:
    """Yield the images in a folder and its sub-folders; ``around`` holds the ids of its parent folders."""
    here = _file_id(root / folder)
    if here in around:
        _skip(skipped, folder, _LOOP)
        return
    for entry in os.scandir(root / folder):
        name = f"{folder}/{entry.name}"
        if entry.name.startswith("."):
            continue
        kind = _kind(entry)
        if kind == "folder":
            yield from _walk(root, name, around | {here}, skipped)
        elif kind == "file" and _is_image(entry):
            yield name
        else:
            _skip(skipped, name, _BROKEN if kind is None and entry.is_symlink() else _NO_IMAGE)


def _file_id(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _is_loose_image(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and _kind(entry) == "file" and _is_image(entry)


def _is_image(entry: os.DirEntry[str]) -> bool:
    if entry.name.lower().endswith(_IMAGE_SUFFIXES):
        return True
    from deepsad_pl.data import pixels

    return pixels.is_image(Path(entry))


def _skip(skipped: Skipped, name: str, reason: str) -> None:
    skipped.setdefault(reason, []).append(name)
