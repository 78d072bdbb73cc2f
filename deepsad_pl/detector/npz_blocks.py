"""Read an array of a ``.npz`` file in blocks of rows, so that memory does not grow with the number of rows."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type of an array of a ``.npz`` file.

    Raises:
        KeyError: if there is no array of this name.
        ValueError: if it is not an array of numbers, or the file is damaged.
    """
    with _opened(path, name) as (_, shape, _, dtype):
        return shape, dtype


def npz_blocks(path: Path, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
    """Yield an array of a ``.npz`` file, shape (n, ...), in blocks of ``rows`` rows; the last one may have fewer.

    The rows of an array in Fortran order are scattered over the file, so such an array is read whole.

    Args:
        path: the file, compressed or not.
        name: name of the array.
        rows: number of rows in a block, at least 1.

    Yields:
        Blocks, at least one; read-only.

    Raises:
        KeyError: if there is no array of this name.
        ValueError: if it is not an array of numbers, or the file is damaged.
    """
    with _opened(path, name) as (member, shape, in_fortran_order, dtype):
        if in_fortran_order or not shape:
            with np.load(path, allow_pickle=False) as archive:
                whole = archive[name]
            if not shape:
                yield whole
                return
            for first in range(0, max(1, len(whole)), rows):
                yield whole[first : first + rows]
            return
        size = math.prod(shape[1:]) * dtype.itemsize
        for first in range(0, max(1, shape[0]), rows):
            count = min(rows, shape[0] - first)
            content = member.read(count * size)
            if len(content) < count * size:
                raise ValueError(f"{name} ends before its last row")
            yield np.frombuffer(content, dtype, count * math.prod(shape[1:])).reshape(count, *shape[1:])
        # Reading to the end also makes zipfile verify the checksum.
        if member.read(1):
            raise ValueError(f"{name} does not end with its last row")


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """Open an array: a file with its numbers, its shape, whether it is in Fortran order, and its type."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{name} is written in version {version[0]}.{version[1]} of NumPy's format")
        shape, in_fortran_order, dtype = _HEADERS[version](member)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        yield member, shape, in_fortran_order, dtype
