"""Image folders with labels (``scenario=given``): ``<root>/train/{unlabeled,normal,anomaly}/**``.

Images in any other folder of ``train/``, or straight below ``train/``, are unlabeled. In ``test/``, folders that are
named as normal have normal images and all other folders have anomalies; the truth of images straight below ``test/`` is
not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8, real_path
from deepsad_pl.common.named_files import files_named
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.folder_labels import DEFAULTS, FolderLabels, folder_labels, layout_problems, parts_of, unreadable
from deepsad_pl.data.image_folder import class_folders, content_digest, once
from deepsad_pl.data.image_listing import Listing, list_images
from deepsad_pl.data.label_files import LABEL, read_answers
from deepsad_pl.data.marks import as_text

IntArray = npt.NDArray[np.int64]


def list_labeled(root: Path) -> Listing:
    """List the images of each part: those straight below it, then those of each folder; ``test/`` may be missing.

    Raises:
        DeepSADError: if there is no ``train/``, or a folder cannot be read.
    """
    try:
        if problems := list(layout_problems(root)):
            raise DeepSADError(*problems)
        folders = {part: sorted(class_folders(root, part).values()) for part in parts_of(root)}
        return list_images(root, folders, loose=True)
    except OSError as error:
        raise unreadable(error) from error


def answered_images(
    labels: Any, root: Path, names: Sequence[str], semi_y: IntArray, normal: Any, anomaly: Any
) -> tuple[IntArray, int]:
    """Update the semi-labels of training images with labels that were filled in later.

    Each label is the name of a folder with that meaning.

    Args:
        labels: a file or a list of files, see :func:`~deepsad_pl.data.label_files.read_answers`. Their column
            ``path`` has the paths of the images, with or without the root.
        root: the image folder.
        names: names of the training images, relative to the root.
        semi_y: semi-labels from the folders: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        normal: names of folders of known normal images; None: ``normal``.
        anomaly: names of folders of known anomalies; None: ``anomaly``.

    Returns:
        The new semi-labels, shape (N,), and the number of images whose label was filled in.

    Raises:
        DeepSADError: with every problem found.
    """
    known = [composed(as_utf8(name)) for name in names]
    folders = {name.split("/")[1] for name in known if name.count("/") > 1}
    meanings = {
        as_text(name, folders): mark
        for key, values, mark in (("normal", normal, 1), ("anomaly", anomaly, -1))
        for name in ([DEFAULTS[key]] if values is None else values)
    }

    def inside(path: str) -> str:
        """The path relative to the root; a path outside the root stays as it is."""
        for folder in (root, root.absolute(), real_path(root)):
            if Path(path).is_relative_to(folder):
                return Path(path).relative_to(folder).as_posix()
        return path

    answers = read_answers(labels, known, by=("path",), label=LABEL, allowed=meanings, what="image", name_of=inside)
    found = semi_y.copy()
    found[answers.rows] = [meanings[mark] for mark in answers.marks]
    return found, len(answers.rows)


def image_folder_problems(dataset: Mapping[str, Any], *, given: bool = False) -> Iterator[str]:
    """Yield a sentence for each problem with the labels of an image folder.

    Args:
        dataset: settings of the data set.
        given: whether the labels are used as they are (``scenario=given``).
    """
    named = {key: dataset.get(key) for key in DEFAULTS}
    asked = dataset.get("labels")
    if asked is not None and not given:
        yield "dataset.labels holds labels, which only scenario=given uses; choose it, or leave dataset.labels out"
    if asked is not None and not files_named(asked):
        yield "dataset.labels is an empty list; name at least one file, or leave it out"
    if not given:
        for key, names in named.items():
            if names is not None:
                yield (
                    f"dataset.{key} is {names}, but it names folders with labels, which only scenario=given uses; "
                    f"choose scenario=given, or leave it out and set scenario.{key}_class"
                )
        return
    wrong = [key for key, names in named.items() if not isinstance(names, list | tuple | None)]
    for key in wrong:
        yield f"dataset.{key} is {named[key]!r}; it must be a list, such as dataset.{key}=[{named[key]}]"
    # An empty root is reported by the check of the folders.
    if not wrong and str(dataset["root"]).strip():
        try:
            meanings = labels_of(dataset)
            if files_named(asked):
                root = Path(dataset["root"]).expanduser()
                names = list_labeled(root).names_of("train")
                answered_images(asked, root, names, meanings.semi_labels(names), **named)
        except DeepSADError as error:
            yield from error.problems


def labels_of(dataset: Mapping[str, Any]) -> FolderLabels:
    """The labels of the folders for the settings of a data set; see :func:`folder_labels`."""
    root, normal, anomaly = Path(dataset["root"]).expanduser(), dataset.get("normal"), dataset.get("anomaly")
    return once(("labels", root, repr((normal, anomaly))), lambda: folder_labels(root, normal, anomaly))


def labeled_identity(dataset: Mapping[str, Any], cache_dir: Path) -> dict[str, Any]:
    """The part of a run's identity that describes images and labels: image contents, and meanings of folders.

    Args:
        dataset: settings of the data set.
        cache_dir: where hashes of the images are cached.

    Raises:
        DeepSADError: if an image cannot be read, or the labels are not clear.
    """
    root, labels = Path(dataset["root"]).expanduser(), labels_of(dataset)
    digest = once(("labeled digest", root, cache_dir), lambda: content_digest(root, cache_dir, list_labeled(root)))
    return {"files": digest, "labels": {"normal": list(labels.normal), "anomaly": list(labels.anomaly)}}
