"""Labels from the names of folders in an image folder (``scenario=given``), and errors if they are not clear."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.class_names import composed, readings
from deepsad_pl.data.image_folder import PARTS, class_folders
from deepsad_pl.data.image_listing import holds_images, holds_loose_images
from deepsad_pl.data.marks import as_text

IntArray = npt.NDArray[np.int64]
Named = Sequence[object] | None

# The folder that is used if dataset.normal or dataset.anomaly is null.
DEFAULTS = {"normal": "normal", "anomaly": "anomaly"}
# The largest number of folders that a message shows.
_SHOWN = 8


@dataclass(frozen=True)
class FolderLabels:
    """The folders whose images are labeled; names are in composed Unicode, sorted.

    Attributes:
        normal: folders of ``train/`` or ``test/`` with known normal images.
        anomaly: folders of ``train/`` with known anomalies.
    """

    normal: tuple[str, ...]
    anomaly: tuple[str, ...]

    def semi_labels(self, names: Sequence[str]) -> IntArray:
        """Semi-labels of training images, shape (N,): 0 unlabeled, +1 known normal, -1 known anomaly.

        >>> FolderLabels(("ok",), ("bad",)).semi_labels(["train/ok/1.png", "train/2.png", "train/bad/x/3.png"])
        array([ 1,  0, -1])

        Args:
            names: names of the images, relative to the root, as in a listing.
        """
        folders = [_folder_of(name) for name in names]
        return np.array([(one in self.normal) - (one in self.anomaly) for one in folders], np.int64)

    def truths(self, names: Sequence[str]) -> IntArray:
        """The truth of test images, shape (M,): 0 normal, 1 anomaly, -1 not known.

        >>> FolderLabels(("ok",), ("bad",)).truths(["test/ok/1.png", "test/2.png", "test/new/3.png"])
        array([ 0, -1,  1])

        Args:
            names: names of the images, relative to the root, as in a listing.
        """
        folders = [_folder_of(name) for name in names]
        return np.array([-1 if one is None else int(one not in self.normal) for one in folders], np.int64)


def folder_labels(root: Path, normal: Named, anomaly: Named) -> FolderLabels:
    """Find out which folders hold known normal images and known anomalies.

    Args:
        root: the image folder.
        normal: names of the folders of known normal images; None: ``normal``, if there is such a folder.
        anomaly: names of the folders of known anomalies; None: ``anomaly``, if there is such a folder.

    Raises:
        DeepSADError: with every problem found: a named folder is missing, has no images, or has two meanings; the
            meaning of a folder is not clear; all training images are anomalies.
    """
    try:
        if problems := list(layout_problems(root)):
            raise DeepSADError(*problems)
        folders = {part: class_folders(root, part) for part in parts_of(root)}
        filled = {
            part: {name for name, folder in of_part.items() if holds_images(root, f"{part}/{folder}")}
            for part, of_part in folders.items()
        }
        loose = {part: holds_loose_images(root, part) for part in folders}
    except OSError as error:
        raise unreadable(error) from error
    found = _Found(root, {part: {*of_part} for part, of_part in folders.items()}, filled, loose)
    named = {"normal": normal, "anomaly": anomaly}
    names = {key: _names(found, key, values, problems) for key, values in named.items()}
    problems += [*_meaning_problems(found, named, names), *_training_problems(found, names["anomaly"])]
    problems += _test_problems(found, names)
    if problems:
        raise DeepSADError(*dict.fromkeys(problems))
    return FolderLabels(
        tuple(sorted({*names["normal"]} & found.anywhere)), tuple(sorted({*names["anomaly"]} & filled["train"]))
    )


@dataclass(frozen=True)
class _Found:
    """The folders of each part, which of them hold images, and whether images lie straight below the part."""

    root: Path
    folders: Mapping[str, set[str]]
    filled: Mapping[str, set[str]]
    loose: Mapping[str, bool]

    @property
    def anywhere(self) -> set[str]:
        """The folders of either part that hold images."""
        return set().union(*self.filled.values())


def _folder_of(name: str) -> str | None:
    """The folder of a part in which an image lies; None if it lies straight below the part."""
    _, folder, *rest = name.split("/")
    return composed(folder) if rest else None


def parts_of(root: Path) -> list[str]:
    """The parts that an image folder has: ``test`` may be missing."""
    return [part for part in PARTS if (root / part).is_dir()]


def layout_problems(root: Path) -> Iterator[str]:
    """Yield a sentence for each part that is missing or not a folder.

    Raises:
        OSError: if the root cannot be read.
    """
    layout = "train/{unlabeled,normal,anomaly}/*"
    if not root.is_dir():
        yield f"dataset.root: there is no folder {root}; choose a folder with {layout}"
        return
    entries = [entry.name for entry in os.scandir(root)]
    for part in PARTS:
        alike = [name for name in entries if name.casefold() == part and name != part]
        if (root / part).is_dir():
            continue
        if part in entries:
            yield f"dataset.root: {root / part} is not a folder; put images into a folder of that name, or remove it"
        elif alike:
            yield f"dataset.root: {root} has a folder {alike[0]}, but it must be called {part}; rename it"
        elif part == "train":
            yield f"dataset.root: there is no folder {root / part}; choose a folder with {layout}"


def _names(found: _Found, key: str, values: Named, problems: list[str]) -> list[str]:
    """The folders that a setting names; sentences about those that do not exist are appended to ``problems``."""
    if values is None:
        return [DEFAULTS[key]]
    parts = PARTS if key == "normal" else ("train",)
    there = set().union(*(found.folders.get(part, set()) for part in parts))
    filled = set().union(*(found.filled.get(part, set()) for part in parts))
    names: list[str] = []
    for value in values:
        alike = [] if isinstance(value, str) else sorted(name for name in there if repr(value) in readings(name))
        if len(alike) > 1:
            problems.append(
                f"dataset.{key} names {value}, which could mean any of the folders {_listed(alike)}; quote the one you "
                f"""mean: '"{alike[0]}"' on the command line, "{alike[0]}" in YAML"""
            )
            continue
        name = as_text(value, there)
        names.append(name)
        if name in filled:
            continue
        where = " and ".join(f"{part}/" for part in parts if part in found.folders)
        if name in there:
            problems.append(
                f"dataset.{key} names the folder {name!r}, which holds no image; put images into it, or leave it out"
            )
        else:
            way_out = suggested(name, there) or "name one of these, or leave it out"
            problems.append(
                f"dataset.{key} names the folder {name!r}, but the folders of {where} are {_listed(there)}; {way_out}"
            )
    return names


def _meaning_problems(found: _Found, named: Mapping[str, Named], names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for each folder that has two meanings or differs from a named one only in case."""
    defaults = [f"dataset.{key} is [{DEFAULTS[key]}] by default" for key, values in named.items() if values is None]
    default = f" ({' and '.join(defaults)})" if defaults else ""
    for name in dict.fromkeys(names["normal"]):
        if name in names["anomaly"]:
            yield f"dataset.normal and dataset.anomaly both name {name!r}{default}; remove it from one of them"
    meant = {*names["normal"], *names["anomaly"]}
    for key, of_key in names.items():
        folded = {name.casefold(): name for name in of_key}
        by_default = " by default" if named[key] is None else ""
        # In the test part, a folder that is not normal is an anomaly whatever its name.
        for folder in sorted((found.anywhere if key == "normal" else found.filled["train"]) - meant):
            if (near := folded.get(folder.casefold())) is not None:
                yield (
                    f"dataset.{key} names the folder {near!r}{by_default}, but there is {folder!r}, which "
                    f"differs only in case; name it in dataset.{key}, or rename it"
                )


def _training_problems(found: _Found, anomaly: Sequence[str]) -> Iterator[str]:
    train = found.root / "train"
    if not found.filled["train"] and not found.loose["train"]:
        yield f"dataset.root: {train} holds no image; put images into train/{{unlabeled,normal,anomaly}}/"
    elif not found.loose["train"] and found.filled["train"] <= {*anomaly}:
        yield (
            f"all images in {train} are labeled anomalies ({_listed(found.filled['train'])}); put unlabeled images "
            "into train/unlabeled/ or normal ones into train/normal/"
        )


def _test_problems(found: _Found, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if "test" not in found.folders:
        return
    test, folders = found.root / "test", found.filled["test"]
    if not folders and not found.loose["test"]:
        yield f"dataset.root: {test} holds no image; put images into it, or remove it to score the training images"
    for name in sorted(folders):
        if name.casefold() == "unlabeled" and name not in names["normal"]:
            yield (
                f"the images in {test / name} would count as anomalies, like those of any test folder that "
                "dataset.normal does not name; put images of unknown truth straight below test/, or rename the folder"
            )
    if folders - {*names["anomaly"]} and not {*names["normal"]} & found.anywhere:
        yield (
            f"{test} has the folders {_listed(folders)}, and dataset.normal names none of them, so that every image "
            f"with a known truth would be an anomaly; name the normal ones, such as dataset.normal=[{min(folders)}]"
        )


def _listed(names: Sequence[str] | set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{', '.join(shown[:_SHOWN]) or 'none'}{more}"


def unreadable(error: OSError) -> DeepSADError:
    """The error about a folder that cannot be read."""
    return DeepSADError(
        f"dataset.root: {error.filename} cannot be read ({error.strerror}); make it readable or remove it"
    )
