"""From files to arrays and class labels: torchvision's image sets, tables, the embedded digits."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from deepsad_pl.console import console
from deepsad_pl.data.odds import ODDS_FILES, load_odds
from deepsad_pl.errors import DeepSADError

Array = npt.NDArray[Any]

TRAIN_SHARE = 0.6


@dataclass(frozen=True)
class Source:
    """Training and test data of one data set, with the class of every row.

    Attributes:
        x_train: uint8 pixels (N, C, H, W) or float32 rows (N, D).
        labels_train: class indices, shape (N,).
        x_test: as x_train.
        labels_test: class indices.
        scale: what uint8 pixels are divided by to lie in [0, 1]; None for rows, which are taken as they are.
    """

    x_train: Array
    labels_train: Array
    x_test: Array
    labels_test: Array
    scale: float | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W) or (D,)."""
        return tuple(self.x_train.shape[1:])


def split_rows(labels: Array, seed: int) -> tuple[Array, Array]:
    """One stratified 60:40 split of the rows, from the seed alone (section 4.3).

    Args:
        labels: class of every row, shape (N,).
        seed: of the split.

    Returns:
        Row indices of the training and the test part, ascending.

    Raises:
        DeepSADError: if a class has fewer than two rows.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    try:
        train, test = train_test_split(rows, train_size=TRAIN_SHARE, stratify=labels, random_state=seed)
    except ValueError as error:
        raise DeepSADError(f"{len(labels)} rows cannot be split 60:40 by class: {error}") from error
    return np.sort(train), np.sort(test)


def standardize(x_train: Array, x_test: Array, scaling: str) -> tuple[Array, Array]:
    """Scale the columns by what the training rows say; a constant column is divided by 1.

    Args:
        x_train: shape (N, D).
        x_test: shape (M, D).
        scaling: ``zscore`` (zero mean, unit variance) or ``minmax`` (the training rows in [0, 1]).

    Returns:
        Both, in float32.
    """
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    scaler = StandardScaler() if scaling == "zscore" else MinMaxScaler()
    train = scaler.fit_transform(np.asarray(x_train, dtype=np.float64))
    test = scaler.transform(np.asarray(x_test, dtype=np.float64))
    return train.astype(np.float32), test.astype(np.float32)


def table_source(x: Array, labels: Array, seed: int, scaling: str) -> Source:
    """A table split 60:40 and scaled."""
    train, test = split_rows(labels, seed)
    x_train, x_test = standardize(x[train], x[test], scaling)
    return Source(x_train, labels[train], x_test, labels[test], scale=None)


def digits_source(seed: int) -> Source:
    """scikit-learn's 1,797 8x8 digits with pixels 0-16, split 60:40. Embedded: nothing is downloaded."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, labels = data.images.astype(np.uint8)[:, None], data.target.astype(np.int64)
    train, test = split_rows(labels, seed)
    return Source(x[train], labels[train], x[test], labels[test], scale=16.0)


def odds_source(name: str, data_dir: Path, seed: int, scaling: str) -> Source:
    """One of the six classic sets of the paper's Table 1; classes 0 (normal) and 1 (outlier)."""
    x, labels = load_odds(name, data_dir)
    return table_source(x, labels, seed, scaling)


def torchvision_source(name: str, data_dir: Path) -> Source:
    """MNIST, Fashion-MNIST or CIFAR-10 with its original training and test part.

    Args:
        name: ``mnist``, ``fmnist`` or ``cifar10``.
        data_dir: torchvision's root; what is missing there is downloaded.

    Raises:
        DeepSADError: if the files are missing and cannot be downloaded, or are damaged.
    """
    from torchvision import datasets

    # The class, the folder that it keeps below its root, and what to put there by hand.
    files = "raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
    kind: Callable[..., Any]
    kind, folder, files = {
        "mnist": (datasets.MNIST, "MNIST", files),
        "fmnist": (datasets.FashionMNIST, "FashionMNIST", files),
        "cifar10": (datasets.CIFAR10, "cifar-10-batches-py", "the unpacked cifar-10-python.tar.gz"),
    }[name]
    train, test = _torchvision_parts(kind, data_dir, folder, files)
    parts = [np.asarray(part.data) for part in (train, test)]
    # torchvision keeps images as (N, H, W) or (N, H, W, C).
    x_train, x_test = (p[:, None] if p.ndim == 3 else np.ascontiguousarray(p.transpose(0, 3, 1, 2)) for p in parts)
    labels = [np.asarray(part.targets, dtype=np.int64) for part in (train, test)]
    return Source(x_train, labels[0], x_test, labels[1], scale=255.0)


def _torchvision_parts(kind: Callable[..., Any], data_dir: Path, folder: str, files: str) -> Sequence[Any]:
    def load(root: Path, download: bool) -> Sequence[Any]:
        return [kind(str(root), train=train, download=download) for train in (True, False)]

    final = data_dir / folder
    try:
        return load(data_dir, download=False)
    except RuntimeError as error:
        if final.exists() and folder.startswith("cifar"):
            raise DeepSADError(
                f"{final} fails torchvision's integrity check ({error}); remove that folder to download it again, or "
                f"put {files} there by hand"
            ) from error
    except (OSError, ValueError, EOFError) as error:
        raise DeepSADError(f"{final} is damaged ({error}); remove that folder to download it again") from error
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepSADError(f"{data_dir} cannot be made ({error}); choose another data_dir") from error
    with FileLock(data_dir / f".{folder}.lock"):
        try:
            return load(data_dir, download=False)
        except RuntimeError:
            console.print(f"downloading {folder} into {data_dir}")
        # Into a temporary folder first: torchvision unpacks to the final names, where a kill would leave half a file.
        part = Path(tempfile.mkdtemp(prefix=f".{folder}.", suffix=".part", dir=data_dir))
        try:
            # What was put there by hand (MNIST's .gz files, CIFAR-10's archive) is used, not downloaded again.
            if final.exists():
                shutil.copytree(final, part / folder)
            archive = data_dir / "cifar-10-python.tar.gz"
            if folder.startswith("cifar") and archive.exists():
                shutil.copy2(archive, part)
            load(part, download=True)
            shutil.rmtree(final, ignore_errors=True)
            (part / folder).replace(final)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            url = getattr(kind, "url", None) or ", ".join(getattr(kind, "mirrors", ()))
            raise DeepSADError(
                f"{folder} could not be downloaded from {url} ({' '.join(str(error).split())}); try again, or put "
                f"{files} into {final} by hand"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return load(data_dir, download=False)


def load_source(
    kind: str,
    *,
    data_dir: Path,
    seed: int,
    scaling: str | None = None,
    root: Path | None = None,
    image_size: Sequence[int] = (32, 32),
    channels: int = 3,
) -> Source:
    """The source of a data set.

    Args:
        kind: ``digits``, ``mnist``, ``fmnist``, ``cifar10``, the name of an ODDS set, or ``image_folder``.
        data_dir: where data lie and downloads go.
        seed: of the split of sets that have none of their own.
        scaling: of tables, see :func:`standardize`.
        root: of an image folder.
        image_size: (H, W) of an image folder.
        channels: of an image folder, 1 or 3.

    Raises:
        DeepSADError: if the data cannot be had or read.
    """
    if kind == "digits":
        return digits_source(seed)
    if kind in ("mnist", "fmnist", "cifar10"):
        return torchvision_source(kind, data_dir)
    if kind in ODDS_FILES:
        return odds_source(kind, data_dir, seed, scaling or "zscore")
    if kind == "image_folder" and root is not None:
        from deepsad_pl.data.image_folder import image_folder_arrays

        arrays = image_folder_arrays(root, data_dir / "cache", image_size=image_size, channels=channels)
        x_train, labels_train, x_test, labels_test = arrays
        return Source(x_train, labels_train, x_test, labels_test, scale=255.0)
    raise ValueError(f"unknown kind of data set {kind!r}")
