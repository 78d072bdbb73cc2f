"""Load data sets as arrays with class labels: torchvision's images, scikit-learn's digits, tables, image folders."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8, clear_parts, part_of, put_in_place
from deepsad_pl.common.ranges import Paths, Share
from deepsad_pl.data.adbench import load_adbench
from deepsad_pl.data.odds import ODDS_FILES, load_odds
from deepsad_pl.data.published import PUBLISHED, Published
from deepsad_pl.data.scaling import Scaling
from deepsad_pl.data.toy import toy_table

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

TRAIN_SHARE = 0.6
# Share of a table that is test data; any other value becomes part of a run's identity.
TEST_SHARE = 0.4


class Preparation(Protocol):
    """How the rows that a network sees are made from raw ones; fitted on training rows."""

    def transform(self, x: Any, /) -> Any:
        """Prepare raw rows: an array (n, D), or the rows of a table, as the implementation says."""

    def as_dict(self) -> dict[str, Any]:
        """Everything that is needed to prepare rows again, as values for JSON."""


@dataclass(frozen=True)
class Source:
    """Training and test data of one data set, with the class of every row.

    Attributes:
        x_train: uint8 pixels (N, C, H, W) or float32 rows (N, D).
        labels_train: class indices, shape (N,).
        x_test: test data, in the form of ``x_train``.
        labels_test: class indices, shape (M,).
        scale: divisor that brings uint8 pixels into [0, 1]; None for rows, which are used unchanged.
        semi_y_train: labels that come with the training data, for ``scenario=given``, shape (N,): 0 unlabeled, +1 known
            normal, -1 known anomaly; None if there are none. With them, ``labels_test`` is 0 for normal samples, 1 for
            anomalies and -1 where the truth is not known.
        ids_test: name of each test sample, for ``scores.csv``, shape (M,); None if they have no names.
        columns: names of the raw columns from which rows were made, in their order; None if they have none.
        preparation: how rows are made from raw ones, for new data; None: raw rows are used unchanged.
        id_column: column of the names in a table, for new data; None: there is none.
        refit: function that returns the source as if what is learned from the training samples (a scaling, an encoding)
            were learned from some of them alone. It takes their indices, ascending, shape (n,), and returns as many
            samples in the same order. None: nothing is learned from them.
        ids_train: name of each training sample, for ``score.py input=train``, shape (N,); with ``semi_y_train``, the
            record lists the names of the known anomalies. None if they have no names.
        folder: if the samples are files, the folder that ``ids_train`` is relative to, for ``score.py input=train``.
        semi_y_before: ``semi_y_train`` without the labels of ``dataset.labels``, which were filled in later; None: the
            same.
        rows_train: position of each training sample in the table that it was read from, shape (N,); None: it was read
            from none, or whole.
        told: sentences about the data that a run logs at its start.
        warned: sentences about what may be wrong with the data, which a run logs as warnings.
    """

    x_train: Array
    labels_train: Array
    x_test: Array
    labels_test: Array
    scale: float | None
    semi_y_train: Array | None = None
    ids_test: Array | None = None
    columns: tuple[str, ...] | None = None
    preparation: Preparation | None = None
    id_column: str | None = None
    refit: "Callable[[Array], Source] | None" = None
    ids_train: Array | None = None
    folder: Path | None = None
    semi_y_before: Array | None = None
    rows_train: Array | None = None
    told: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (D,)."""
        return tuple(self.x_train.shape[1:])


def split_rows(labels: Array, seed: int, train_share: float = TRAIN_SHARE) -> tuple[Array, Array]:
    """Split the rows, stratified by class (section 4.3, 60:40).

    Args:
        labels: class of every row, shape (N,).
        seed: determines the split.
        train_share: share of the training part, in (0, 1).

    Returns:
        Row indices of the training part and of the test part, each ascending.

    Raises:
        DeepSADError: if a class has fewer than two rows.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    try:
        train, test = train_test_split(rows, train_size=train_share, stratify=labels, random_state=seed)
    except ValueError as error:
        shares = f"{100 * train_share:g}:{100 - 100 * train_share:g}"
        raise DeepSADError(f"{counted(len(labels), 'row')} cannot be split {shares} by class: {error}") from error
    return np.sort(train), np.sort(test)


def split_test(labels: Array, seed: int, test_share: float) -> tuple[Array, Array]:
    """Split the rows, stratified by class, into training data and ceil(test_share * N) rows of test data.

    It is the split of scikit-learn's ``train_test_split(test_size=test_share, stratify=labels, random_state=seed)``,
    which ADBench uses with .3.

    Args:
        labels: class of every row, shape (N,).
        seed: determines the split.
        test_share: share of the test part, in (0, 1).

    Returns:
        Row indices of the training part and of the test part, each ascending.

    Raises:
        DeepSADError: if a class has fewer than two rows, or a part would have fewer rows than there are classes.
    """
    from sklearn.model_selection import train_test_split

    try:
        parts = train_test_split(np.arange(len(labels)), test_size=test_share, stratify=labels, random_state=seed)
    except ValueError as error:
        raise DeepSADError(
            f"{counted(len(labels), 'row')} cannot be split by class with dataset.test_share={test_share:g}: {error}; "
            "choose another share"
        ) from error
    train, test = map(np.sort, parts)
    return train, test


def standardize(x_train: Array, x_test: Array, scaling: str) -> tuple[Array, Array]:
    """Scale each column by statistics of its training rows; a column that is constant there is only shifted to 0.

    Args:
        x_train: finite, shape (N, D).
        x_test: finite, shape (M, D).
        scaling: ``zscore`` (zero mean, unit variance) or ``minmax`` (training rows in [0, 1]; test rows may lie
            outside).

    Returns:
        The scaled training and test rows, in float32.

    Raises:
        DeepSADError: if a scaled value does not fit float32; the message names the columns.
    """
    return _scaled(x_train, x_test, scaling)[:2]


def _scaled(x_train: Array, x_test: Array, scaling: str) -> tuple[Array, Array, Scaling]:
    """As :func:`standardize`, with the fitted scaling."""
    fitted = Scaling.fit(x_train, "zscore" if scaling == "zscore" else "minmax")
    train, test = fitted.transform(x_train), fitted.transform(x_test)
    wrong = [(~np.isfinite(part)).sum(axis=0) for part in (train, test)]
    if (columns := np.flatnonzero(wrong[0] + wrong[1])).size:
        named = ", ".join(f"{i} ({wrong[0][i]} training and {wrong[1][i]} test rows)" for i in columns[:10])
        more = f" and {len(columns) - 10} more" if len(columns) > 10 else ""
        raise DeepSADError(
            "some values are so far from the training rows that they overflow float32 after "
            f"dataset.scaling={scaling}, in column {named}{more} of the table, counted from 0; correct them, or leave "
            "the column out"
        )
    return train, test, fitted


def _scaled_source(
    x_train: Array,
    labels_train: Array,
    x_test: Array,
    labels_test: Array,
    scaling: str,
    columns: tuple[str, ...] | None = None,
    kept: Array | None = None,
) -> Source:
    """Rows scaled by what the training rows say, or those of them that are kept."""
    if kept is None:
        train, test, fitted = _scaled(x_train, x_test, scaling)
    else:
        rest = np.delete(np.arange(len(x_train)), kept)
        by_kept, others, fitted = _scaled(x_train[kept], np.concatenate([x_train[rest], x_test]), scaling)
        train, test = np.empty((len(x_train), x_train.shape[1]), np.float32), others[len(rest) :]
        train[kept], train[rest] = by_kept, others[: len(rest)]
    refit = partial(_scaled_source, x_train, labels_train, x_test, labels_test, scaling, columns)
    return Source(train, labels_train, test, labels_test, None, columns=columns, preparation=fitted, refit=refit)


def table_source(x: Array, labels: Array, seed: int, scaling: str, test_share: float = TEST_SHARE) -> Source:
    """Split a table, by default 60:40, and scale its columns."""
    train, test = split_rows(labels, seed) if test_share == TEST_SHARE else split_test(labels, seed, test_share)
    return _scaled_source(x[train], labels[train], x[test], labels[test], scaling)


def digits_source(seed: int) -> Source:
    """Load scikit-learn's 1,797 8x8 digits with pixels 0-16, split 60:40; nothing is downloaded."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, labels = data.images.astype(np.uint8)[:, None], data.target.astype(np.int64)
    train, test = split_rows(labels, seed)
    return Source(x[train], labels[train], x[test], labels[test], scale=16.0)


def odds_source(name: str, data_dir: Path, seed: int, scaling: str, test_share: float = TEST_SHARE) -> Source:
    """Load one of the six benchmark sets of the paper's Table 1, with classes 0 (normal) and 1 (outlier)."""
    x, labels = load_odds(name, data_dir)
    return table_source(x, labels, seed, scaling, test_share)


@dataclass(frozen=True)
class _TorchvisionSet:
    """A torchvision data set: the class that reads it, its published files, and the files that replace a download."""

    kind: str
    published: Published
    by_hand: str

    @property
    def folder(self) -> str:
        return self.published.folder


_IDX_BY_HAND = "raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
_CIFAR_ARCHIVE = "cifar-10-python.tar.gz"
_TORCHVISION = {
    "mnist": _TorchvisionSet("MNIST", PUBLISHED["mnist"], _IDX_BY_HAND),
    "fmnist": _TorchvisionSet("FashionMNIST", PUBLISHED["fmnist"], _IDX_BY_HAND),
    "cifar10": _TorchvisionSet("CIFAR10", PUBLISHED["cifar10"], f"the unpacked {_CIFAR_ARCHIVE}"),
}


def torchvision_source(name: str, data_dir: Path) -> Source:
    """Load MNIST, Fashion-MNIST or CIFAR-10 with its original split into training and test data.

    Args:
        name: ``mnist``, ``fmnist`` or ``cifar10``.
        data_dir: torchvision's root folder; missing files are downloaded into it.

    Raises:
        DeepSADError: if the files are missing and cannot be downloaded, or are damaged.
    """
    wanted = _TORCHVISION[name]
    final = data_dir / wanted.folder
    if not _is_complete(final, wanted):
        _download(data_dir, wanted)
    try:
        train, test = _read(data_dir, wanted)
        parts = [np.asarray(part.data) for part in (train, test)]
        labels = [np.asarray(part.targets, dtype=np.int64) for part in (train, test)]
        if (found := [len(part) for part in parts]) != (named := [len(part) for part in labels]):
            raise ValueError(f"{found[0]} + {found[1]} images and {named[0]} + {named[1]} labels")
    except Exception as error:  # torchvision raises a different exception type for each kind of damage
        raise DeepSADError(
            f"{final} is damaged ({type(error).__name__}: {_one_line(error)}); remove that folder to download it "
            f"again, or put {wanted.by_hand} into {final} by hand"
        ) from error
    # torchvision keeps images as (N, H, W) or (N, H, W, C).
    x_train, x_test = (p[:, None] if p.ndim == 3 else np.ascontiguousarray(p.transpose(0, 3, 1, 2)) for p in parts)
    return Source(x_train, labels[0], x_test, labels[1], scale=255.0)


def _is_complete(folder: Path, wanted: _TorchvisionSet) -> bool:
    return all((folder / file).exists() for file in wanted.published.sha256)


def _read(root: Path, wanted: _TorchvisionSet, download: bool = False) -> list[Any]:
    from torchvision import datasets

    kind = getattr(datasets, wanted.kind)
    return [kind(str(root), train=train, download=download) for train in (True, False)]


def _download(data_dir: Path, wanted: _TorchvisionSet) -> None:
    from torchvision import datasets

    final, archive = data_dir / wanted.folder, data_dir / _CIFAR_ARCHIVE
    kind = getattr(datasets, wanted.kind)
    url = getattr(kind, "url", None) or ", ".join(kind.mirrors)
    part: Path | None = None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{wanted.folder}.lock"):
            if _is_complete(final, wanted):
                return
            console.print(f"downloading {wanted.folder} into {data_dir}", soft_wrap=True)
            # A temporary folder first: torchvision writes to the final names, so a kill would leave half a file there.
            clear_parts(data_dir)
            part = Path(tempfile.mkdtemp(**part_of(final)))
            # Files that were put there by hand are not downloaded again.
            if final.exists():
                shutil.copytree(final, part / wanted.folder)
            if wanted.kind == "CIFAR10" and archive.exists():
                shutil.copy2(archive, part)
            _read(part, wanted, download=True)
            if final.exists():
                final.replace(part / "before")
            put_in_place(part / wanted.folder, final)
    except Exception as error:  # torchvision's exceptions as above, and a proxy may answer anything
        raise DeepSADError(
            f"{wanted.folder} could not be downloaded from {url} into {data_dir} ({_one_line(error)}); try again, "
            f"choose another data_dir, or put {wanted.by_hand} into {final} by hand"
        ) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def image_source(kind: Literal["digits", "mnist", "fmnist", "cifar10"], *, data_dir: Path, seed: int) -> Source:
    """Load one of the published image data sets.

    Args:
        kind: name of the data set.
        data_dir: folder of the data files and downloads.
        seed: determines the split of ``digits``; the other sets have an original split.

    Raises:
        DeepSADError: if the data cannot be downloaded or read.
    """
    return digits_source(seed) if kind not in _TORCHVISION else torchvision_source(kind, data_dir)


def table_set(
    kind: Literal["arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid", "toy"],
    *,
    data_dir: Path,
    seed: int,
    scaling: Literal["zscore", "minmax"] = "zscore",
    test_share: Share = TEST_SHARE,
) -> Source:
    """Load one of the tables of the paper's Table 1, or the toy data of its Figure 1.

    Args:
        kind: name of the data set.
        data_dir: folder of the data files and downloads.
        seed: determines the split and, for ``toy``, the data themselves.
        scaling: see :func:`standardize`.
        test_share: share of the rows that are test data, stratified by class.

    Raises:
        DeepSADError: if the data cannot be downloaded or read.
    """
    if kind in ODDS_FILES:
        return odds_source(kind, data_dir, seed, scaling, test_share)
    return table_source(*toy_table(seed), seed, scaling, test_share)


def adbench_source(
    table: str,
    *,
    kind: Literal["adbench"] = "adbench",
    data_dir: Path,
    seed: int,
    scaling: Literal["zscore", "minmax"] = "zscore",
    test_share: Share = TEST_SHARE,
) -> Source:
    """Rows of one of ADBench's tables; classes 0 (normal) and 1 (anomaly).

    Args:
        table: which of them, with or without its number, such as ``annthyroid``.
        kind: its only value.
        data_dir: where data lie and downloads go.
        seed: of the split.
        scaling: see :func:`standardize`.
        test_share: share of the rows that are test data, stratified by class; ADBench's own split has .3.

    Raises:
        DeepSADError: if there is no such table, or its file cannot be had or read.
    """
    x, labels = load_adbench(table, data_dir)
    return table_source(x, labels, seed, scaling, test_share)


def image_folder_source(
    root: str,
    *,
    image_size: Any,
    channels: Literal[1, 3],
    kind: Literal["image_folder"] = "image_folder",
    data_dir: Path,
    digest: str | None = None,
    given: bool = False,
    normal: Any = None,
    anomaly: Any = None,
    labels: Paths | None = None,
) -> Source:
    """Load the images in ``<root>/train/<class>/*`` and ``<root>/test/<class>/*``.

    With given labels, the folders of ``train/`` are labels, see :mod:`~deepsad_pl.data.labeled_images`. Without
    ``test/``, the training images are then also the test images, and no truth is known.

    Args:
        root: path of the folder.
        image_size: H = W, or [H, W].
        channels: 1 (grey) or 3 (RGB).
        kind: always ``image_folder``.
        data_dir: decoded images are cached in its sub-folder ``cache``.
        digest: expected digest of the files, from the plan of the run; None accepts any.
        given: whether the folders are labels (``scenario=given``); otherwise they are classes.
        normal: folders of known normal images, see :func:`~deepsad_pl.data.folder_labels.folder_labels`.
        anomaly: folders of known anomalies.
        labels: file or list of files with labels that were filled in later, each of which overrides that of the folder
            (:func:`~deepsad_pl.data.labeled_images.answered_images`).

    Raises:
        DeepSADError: if the images cannot be read or have changed, or given labels are not clear.
    """
    from deepsad_pl.data.folder_labels import folder_labels
    from deepsad_pl.data.image_folder import image_folder_arrays
    from deepsad_pl.data.labeled_images import answered_images, list_labeled

    size = image_size if isinstance(image_size, list) else [image_size, image_size]
    folder, cache_dir = Path(root).expanduser(), data_dir / "cache"
    if not given:
        arrays = image_folder_arrays(folder, cache_dir, image_size=size, channels=channels, digest=digest)
        x_train, labels_train, x_test, labels_test = arrays
        return Source(x_train, labels_train, x_test, labels_test, scale=255.0)
    meanings, listing = folder_labels(folder, normal, anomaly), list_labeled(folder)
    arrays = image_folder_arrays(folder, cache_dir, image_size=size, channels=channels, digest=digest, listing=listing)
    train, test = (listing.names_of(part) for part in ("train", "test"))
    before = semi_y = meanings.semi_labels(train)
    if labels is not None:
        semi_y, count = answered_images(labels, folder, train, before, normal, anomaly)
        log.info("dataset.labels: %d labels of training images, matched by path", count)
    x_train, x_test, y = arrays[0], arrays[2] if test else arrays[0], meanings.truths(test)
    if not test:
        test, y = train, np.full(len(train), -1)
    anomalous = (semi_y == -1).astype(np.int64)
    names = np.array([as_utf8(name) for name in test])
    return Source(x_train, anomalous, x_test, y, 255.0, semi_y, ids_test=names, semi_y_before=before)


def as_source(made: Any, *, seed: int, scaling: str | None) -> Source:
    """Convert the return value of a user's own function to a source.

    Args:
        made: a :class:`Source`; or arrays ``(x, labels)``, which are split 60:40; or arrays ``(x_train, labels_train,
            x_test, labels_test)``. x holds finite numbers of shape (N, D), or uint8 pixels of shape (N, H, W) or
            (N, C, H, W); labels are class indices, shape (N,). Columns of data frames are matched by their names.
        seed: determines the split.
        scaling: for rows, see :func:`standardize`; None leaves them unscaled.

    Raises:
        DeepSADError: if the value has none of these forms; the message describes it.
    """
    if isinstance(made, Source):
        return made
    if not isinstance(made, Sequence) or len(made) not in (2, 4):
        raise DeepSADError(
            f"it returned {_told(made)}; return a Source, (x, labels) or (x_train, labels_train, x_test, labels_test)"
        )
    columns = tuple(map(str, made[0].columns)) if hasattr(made[0], "columns") else None
    if len(made) == 4 and columns is not None and hasattr(made[2], "columns"):
        others = list(map(str, made[2].columns))
        if others != list(columns) and (sorted(others) != sorted(columns) or len({*others}) < len(others)):
            raise DeepSADError(
                f"it returned training x with the columns {', '.join(columns)}, but test x with {', '.join(others)}; "
                "return the same columns in both"
            )
        if others != list(columns):
            made = (*made[:2], made[2].iloc[:, [others.index(name) for name in columns]], made[3])
    arrays = [np.asarray(part) for part in made]
    for x, labels in zip(arrays[::2], arrays[1::2], strict=True):
        if labels.ndim != 1 or len(labels) != len(x) or not np.issubdtype(labels.dtype, np.integer):
            raise DeepSADError(
                f"it returned x {_told(x)} with labels {_told(labels)}; return one integer per sample, the index "
                "of its class"
            )
    if len(arrays) == 2:
        x, labels = arrays
        train, test = split_rows(labels, seed)
        arrays = [x[train], labels[train], x[test], labels[test]]
    x_train, labels_train, x_test, labels_test = arrays
    labels_train, labels_test = labels_train.astype(np.int64), labels_test.astype(np.int64)
    if x_train.ndim == 2 and x_train.shape[1:] == x_test.shape[1:] and np.issubdtype(x_train.dtype, np.number):
        if not (np.isfinite(x_train).all() and np.isfinite(x_test).all()):
            raise DeepSADError("it returned rows with values that are not finite; fill them in or leave the rows out")
        if scaling is not None:
            return _scaled_source(x_train, labels_train, x_test, labels_test, scaling, columns)
        x_train, x_test = x_train.astype(np.float32), x_test.astype(np.float32)
        return Source(x_train, labels_train, x_test, labels_test, scale=None, columns=columns)
    if x_train.ndim == 3:
        x_train, x_test = x_train[:, None], x_test[:, None]
    if x_train.ndim != 4 or x_train.shape[1:] != x_test.shape[1:] or x_train.dtype != np.uint8:
        raise DeepSADError(
            f"it returned training x {_told(x_train)} and test x {_told(x_test)}; return rows (N, D) of numbers, or "
            "images "
            "(N, H, W) or (N, C, H, W) of uint8"
        )
    return Source(x_train, labels_train, x_test, labels_test, scale=255.0)


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"of shape {tuple(shape)} and type {value.dtype}" if shape is not None else f"a {type(value).__name__}"
