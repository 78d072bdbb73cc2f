"""Write tiny files in the real formats, and the attributes by which torchvision accepts them."""

import gzip
import hashlib
import pickle
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

from deepsad_pl.data.adbench_tables import adbench_tables
from deepsad_pl.data.odds import ODDS_FILES

Array = npt.NDArray[Any]

CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def labels_of(rows: int, classes: int = 10) -> Array:
    """0, 1, ..., 0, 1, ..."""
    return np.arange(rows, dtype=np.uint8) % classes


def images_of(labels: Array, *shape: int, seed: int = 0) -> Array:
    """Noise that is brighter for higher classes, uint8 (N, *shape)."""
    noise = np.random.default_rng(seed).integers(0, 120, (len(labels), *shape))
    bright = labels.astype(np.int64) * 12
    return (noise + bright.reshape(-1, *[1] * len(shape))).astype(np.uint8)


def idx_bytes(array: Array) -> bytes:
    """The idx format of MNIST: a magic number, the sizes (big-endian), the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(data_dir: Path, folder: str = "MNIST", *, train: int = 100, test: int = 40, packed: bool = False) -> Path:
    """Write MNIST's or Fashion-MNIST's four files (``packed``: as .gz archives), and return the raw folder."""
    raw = data_dir / folder / "raw"
    raw.mkdir(parents=True)
    parts = [labels_of(train), labels_of(test)]
    arrays = [array for i, labels in enumerate(parts) for array in (images_of(labels, 28, 28, seed=i), labels)]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        if packed:
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
        else:
            (raw / name).write_bytes(idx_bytes(array))
    return raw


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10(data_dir: Path, *, rows_a_batch: int = 20, test: int = 40) -> Path:
    """The python version of CIFAR-10: five pickled batches, the test batch, the names."""
    folder = data_dir / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels = labels_of(test if name == "test_batch" else rows_a_batch)
        batch = {"batch_label": name, "labels": labels.tolist(), "data": images_of(labels, 3072, seed=i)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR10_CLASSES}, protocol=2))
    return folder


def expected_of_cifar10(folder: Path) -> dict[str, Any]:
    """Attributes with which torchvision's ``CIFAR10`` accepts these files."""
    return {
        "train_list": [[f"data_batch_{i}", md5_of(folder / f"data_batch_{i}")] for i in range(1, 6)],
        "test_list": [["test_batch", md5_of(folder / "test_batch")]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5_of(folder / "batches.meta")},
    }


def table_of(rows: int, columns: int, outliers: int, seed: int = 0) -> tuple[Array, Array]:
    """A normal cloud with a few shifted rows, shuffled; X (N, D) float64, y (N,) int64."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) < outliers).astype(np.int64)
    return rng.normal(size=(rows, columns)) + 3.0 * y[:, None], y


def write_table(path: Path, x: Array, y: Array) -> Path:
    """A .mat or an .npz with the keys X and y."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"X": x, "y": y})
    else:
        np.savez(path, X=x, y=y)
    return path


def write_odds(data_dir: Path, name: str, *, rows: int = 60, outliers: int = 20) -> Path:
    """A small stand-in for an ODDS set, in the file format and with the columns of the real one."""
    known = ODDS_FILES[name]
    x, y = table_of(rows, known.columns, outliers)
    return write_table(data_dir / "odds" / known.file, x, y[:, None].astype(np.float64))


def write_adbench(data_dir: Path, name: str, *, rows: int = 60, outliers: int = 20, seed: int = 0) -> Path:
    """A small stand-in for a table of ADBench, at its path and with the columns of the real one."""
    known = adbench_tables()[name]
    return write_table(data_dir / "adbench" / known.file, *table_of(rows, known.columns, outliers, seed=seed))


IMAGES_PER_CLASS = {"train": {"b-side": 12, "Öl 2": 9, "zebra": 6}, "test": {"b-side": 4, "Öl 2": 2, "zebra": 5}}


def write_image_folder(root: Path, counts: Mapping[str, Mapping[str, int]] = IMAGES_PER_CLASS) -> Path:
    """Images of several formats, modes and sizes, ``<root>/<part>/<class>/*``."""
    formats = [("png", "RGBA"), ("jpg", "RGB"), ("bmp", "L"), ("webp", "RGB"), ("png", "P"), ("JPEG", "L")]
    rng = np.random.default_rng(0)
    for part, classes in counts.items():
        for name, images in classes.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(images):
                suffix, mode = formats[i % len(formats)]
                size = (16, 16) if i % 3 == 0 else (11 + i, 20)
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / f"{i:03}.{suffix}")
    return root


def closed_url() -> str:
    """A URL on this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"
