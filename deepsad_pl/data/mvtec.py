"""``dataset=mvtec``: a category of MVTec AD in its published layout, with labels for images of known defects."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import real_path
from deepsad_pl.common.ranges import AtLeast1
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.defect_draw import draw_defects, draw_problems
from deepsad_pl.data.image_folder import PARTS, content_digest, image_folder_arrays, scan
from deepsad_pl.data.image_folder import class_names as folder_classes
from deepsad_pl.data.image_listing import is_class
from deepsad_pl.data.sources import Source

Settings = Mapping[str, Any]

URL = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
CATEGORIES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile"),
    *("toothbrush", "transistor", "wood", "zipper"),
)
GOOD = "good"

_LAYOUT = "<root>/<category>/train/good/*.png, test/good/*.png and test/<defect>/*.png"


@dataclass(frozen=True)
class Category:
    """The images of a category; names are relative to its folder.

    Attributes:
        folder: the category's folder.
        train: names of the images in ``train/good``.
        test: names of the test images of ``good`` and of each defect, in the order in which they are decoded.
    """

    folder: Path
    train: list[str]
    test: dict[str, list[str]]

    @property
    def defects(self) -> dict[str, int]:
        """The number of test images of each defect that has any."""
        return {name: len(images) for name, images in self.test.items() if name != GOOD and images}


def mvtec_source(
    root: str | None,
    category: str | None,
    *,
    labeled_defects: Sequence[str] = (),
    labeled_images: AtLeast1 = 10,
    image_size: Any = 64,
    channels: Literal[1, 3] = 3,
    kind: Literal["mvtec"] = "mvtec",
    data_dir: Path,
    seed: int,
    digest: str | None = None,
) -> Source:
    """Load a category: images in ``train/good`` are unlabeled, and drawn images of some defects are known anomalies.

    The test samples are all images in ``test/``, good or with a defect, except the drawn ones.

    Args:
        root: the folder of all categories.
        category: name of a folder in it.
        labeled_defects: the defects whose images may be labeled.
        labeled_images: total number of labeled images, see :func:`~deepsad_pl.data.defect_draw.draw_defects`;
            unused if there are no ``labeled_defects``.
        image_size: H = W, or [H, W].
        channels: 1 (grey) or 3 (RGB).
        kind: always ``mvtec``.
        data_dir: decoded images are cached in its sub-folder ``cache``.
        seed: determines which images are drawn.
        digest: expected digest of the images, from the plan of the run; None accepts any.

    Raises:
        DeepSADError: if the layout is wrong, ``labeled_images`` images cannot be drawn, or the images cannot be read or
            have changed.
    """
    found = read_category(root, category)
    if problems := list(_defect_problems(found, labeled_defects, labeled_images)):
        raise DeepSADError(*problems)
    x_train, _, x_test, _ = image_folder_arrays(
        found.folder, data_dir / "cache", image_size=_size(image_size), channels=channels, digest=digest
    )
    names = np.array([name for images in found.test.values() for name in images])
    y = np.repeat([int(name != GOOD) for name in found.test], [len(images) for images in found.test.values()])
    drawn = np.isin(names, _drawn_names(found, labeled_defects, labeled_images, seed))
    semi_y = np.repeat([0, -1], [len(x_train), drawn.sum()])
    return Source(
        np.concatenate([x_train, x_test[drawn]]),
        (semi_y == -1).astype(np.int64),
        x_test[~drawn],
        y[~drawn].astype(np.int64),
        scale=255.0,
        semi_y_train=semi_y,
        ids_test=names[~drawn],
        ids_train=np.array([*found.train, *names[drawn]]),
        folder=found.folder,
    )


def mvtec_problems(dataset: Settings) -> Iterator[str]:
    """Yield a sentence for each problem with the settings: missing folders, unknown defects, too many labeled images.

    Values of a wrong type are left to the check against the declared types.
    """
    root, category = dataset.get("root"), dataset.get("category")
    if not isinstance(root, str | None) or not isinstance(category, str | None):
        return
    try:
        found = read_category(root, category)
    except DeepSADError as error:
        yield from error.problems
        return
    defects, total = dataset.get("labeled_defects"), dataset.get("labeled_images")
    if isinstance(defects, list) and all(isinstance(name, str) for name in defects) and isinstance(total, int):
        yield from _defect_problems(found, defects, total)


def mvtec_content(dataset: Settings, cache_dir: Path) -> dict[str, Any]:
    """The part of a run's identity that the data determine: the images' contents, and which of them may be labeled.

    Args:
        dataset: the settings.
        cache_dir: where the hashes of the images are cached.

    Raises:
        DeepSADError: if the layout is wrong, or the images cannot be read.
    """
    found = read_category(dataset["root"], dataset["category"])
    defects = sorted(map(composed, dataset["labeled_defects"]))
    labeled = {"labeled_defects": defects, "labeled_images": dataset["labeled_images"]} if defects else {}
    return {
        "category": composed(dataset["category"]),
        "image_size": _size(dataset["image_size"]),
        "files": content_digest(found.folder, cache_dir),
        **labeled,
    }


def class_names(dataset: Settings) -> NoReturn:
    """Refuse any scenario that draws from classes, since the training part has no anomalies.

    Raises:
        DeepSADError: always.
    """
    folder = Path(dataset.get("root") or "<root>") / str(dataset.get("category") or "<category>")
    raise DeepSADError(
        "dataset=mvtec has only good images in its training part, so a scenario cannot draw anomalies from it; "
        f"use scenario=given, or dataset=image_folder dataset.root={folder} scenario.normal_class=good "
        "scenario.gamma_l=0"
    )


def read_category(root: str | None, category: str | None) -> Category:
    """List the images of a category.

    Args:
        root: the folder of all categories; None if it is not set.
        category: name of a folder in it; None if it is not set.

    Raises:
        DeepSADError: if a folder is missing, or the layout is wrong.
    """
    folder = _category_folder(root, category)
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise DeepSADError(f"{folder} has no folder {' and no folder '.join(missing)}; {_expected()}")
    classes, images = folder_classes(folder), scan(folder).images
    train, test = ({name: images[part][place] for place, name in enumerate(classes)} for part in PARTS)
    problems = []
    if not train.get(GOOD):
        problems.append(f"{folder}/train/good holds no image; {_expected()}")
    if others := [name for name, of_class in train.items() if of_class and name != GOOD]:
        problems.append(
            f"{folder}/train has images of {', '.join(map(repr, others))} besides good; move them to test/, since all "
            "images in train/ count as good"
        )
    if not any(test.values()):
        problems.append(f"{folder}/test holds no image; {_expected()}")
    if problems:
        raise DeepSADError(*problems)
    return Category(folder, train[GOOD], test)


def _category_folder(root: str | None, category: str | None) -> Path:
    if not (root or "").strip():
        raise DeepSADError(f"dataset.root is not set; {_expected()}")
    top = Path(str(root)).expanduser()
    if not top.is_dir():
        raise DeepSADError(f"dataset.root is {root}, which is not a folder; {_expected()}")
    try:
        folders = {composed(entry.name): Path(entry.path) for entry in os.scandir(top) if is_class(entry)}
    except OSError as error:
        raise DeepSADError(f"dataset.root is {root}, which cannot be read ({error.strerror}); {_expected()}") from error
    if category is not None and composed(category) in folders:
        return folders[composed(category)]
    there = sorted(name for name, folder in folders.items() if (folder / "train").is_dir())
    if "train" in folders and "test" in folders:
        raise DeepSADError(
            f"dataset.root is {root}, which is the folder of one category; use dataset.root={real_path(top).parent} "
            f"dataset.category={real_path(top).name}"
        )
    if not there:
        raise DeepSADError(f"dataset.root is {root}, which has no folder of a category; {_expected()}")
    if not (category or "").strip():
        raise DeepSADError(f"dataset.category is not set; choose one of {', '.join(there)}")
    way_out = suggested(str(category), there) or f"choose one of {', '.join(there)}"
    if category in CATEGORIES:
        way_out = f"choose one of {', '.join(there)}, or get the others from {URL}"
    raise DeepSADError(f"dataset.category is {category!r}, but {root} has no such folder; {way_out}")


def _expected() -> str:
    """The last part of errors about missing images: which layout is expected."""
    return f"give the folder that has {_LAYOUT}, such as MVTec AD from {URL}, unpacked"


def _defect_problems(found: Category, requested: Sequence[str], total: int) -> Iterator[str]:
    """Yield a sentence for each problem with the defects whose images are to be labeled."""
    names, there = [composed(name) for name in requested], found.defects
    unknown = [name for name in dict.fromkeys(names) if name not in there]
    for name in unknown:
        if name == GOOD:
            yield "dataset.labeled_defects names good, which is not a defect; leave it out"
            continue
        way_out = suggested(name, there) or (
            f"choose from {', '.join(sorted(there))}" if there else "use dataset.labeled_defects=[]"
        )
        yield f"dataset.labeled_defects names {name!r}, of which {found.folder}/test has no image; {way_out}"
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        yield f"dataset.labeled_defects names {', '.join(twice)} more than once; name each defect once"
    if names and not unknown and not twice and total >= 1:
        counts = {name: there[name] for name in names}
        yield from draw_problems(counts, total, sum(there.values()) - sum(counts.values()))


def _drawn_names(found: Category, requested: Sequence[str], total: int, seed: int) -> list[str]:
    counts = {name: found.defects[name] for name in map(composed, requested)}
    if not counts:
        return []
    drawn = draw_defects(counts, total, seed)
    return [found.test[name][place] for name, places in drawn.items() for place in places]


def _size(image_size: Any) -> list[int]:
    return image_size if isinstance(image_size, list) else [image_size, image_size]
