"""Arrays of .npz files in blocks: the same numbers as NumPy reads, in memory bounded by the block."""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsad_pl.detector.npz_blocks import npz_blocks, npz_header

X = np.random.default_rng(0).normal(size=(50, 3, 2, 4))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<f2", "u1", "<i8", "?"])
@pytest.mark.parametrize("rows", [1, 7, 50, 1000])
def test_blocks_have_the_numbers_that_numpy_reads(save: Any, kind: str, rows: int, tmp_path: Path) -> None:
    x = (X * 50 + 100).astype(kind)
    save(tmp_path / "a.npz", y=np.arange(50), X=x, z=np.zeros(3))
    assert npz_header(tmp_path / "a.npz", "X") == (x.shape, x.dtype)
    blocks = list(npz_blocks(tmp_path / "a.npz", "X", rows))
    assert [len(block) for block in blocks] == [rows] * (50 // rows) + [50 % rows] * (50 % rows > 0)
    assert np.array_equal(np.concatenate(blocks), x)


def test_other_orders_and_shapes_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, X=np.asfortranarray(X), flat=X.ravel(), none=X[:0], thin=X[:, :0], one=np.array(3.0))
    blocks = list(npz_blocks(path, "X", 20))
    assert [len(block) for block in blocks] == [20, 20, 10]
    assert np.array_equal(np.concatenate(blocks), X)
    assert np.array_equal(np.concatenate(list(npz_blocks(path, "flat", 100))), X.ravel())
    assert [block.shape for block in npz_blocks(path, "none", 20)] == [(0, 3, 2, 4)]
    assert [block.shape for block in npz_blocks(path, "thin", 30)] == [(30, 0, 2, 4), (20, 0, 2, 4)]
    assert [block.shape for block in npz_blocks(path, "one", 20)] == [()]


def member(content: bytes, name: str = "X.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def as_npy(x: Any, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, x, version=version)
    return buffer.getvalue()


def test_a_longer_header_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(member(as_npy(X, (2, 0))))
    assert np.array_equal(np.concatenate(list(npz_blocks(tmp_path / "a.npz", "X", 20))), X)


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (member(as_npy(X)[:-8]), ValueError, "X ends before its last row"),
        (member(as_npy(X) + b"12345678"), ValueError, "X does not end with its last row"),
        (member(as_npy(X).replace(X[49].tobytes(), X[48].tobytes()), "Y.npy"), KeyError, r"X\.npy"),
        (member(as_npy(X)).replace(X[49].tobytes(), X[48].tobytes()), zipfile.BadZipFile, "Bad CRC-32"),
        (member(as_npy(X))[:-30], zipfile.BadZipFile, "not a zip file"),
        (member(as_npy(np.array([{}, None]))), ValueError, "X holds Python objects"),
        (member(as_npy(X, (3, 0))), ValueError, r"version 3\.0"),
    ],
    # A zip file holds the time, so its bytes as a parameter would name the test differently in each worker of xdist.
    ids=["short", "long", "missing", "changed", "cut off", "objects", "version"],
)
def test_a_wrong_or_damaged_file_is_an_error(content: bytes, kind: type[Exception], told: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(kind, match=told):
        list(npz_blocks(tmp_path / "a.npz", "X", 20))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_is_bounded_by_a_block(save: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 9, size=(200_000, 10)).astype(float)
    save(tmp_path / "a.npz", X=x)
    total, whole = x.sum(), x.nbytes
    del x
    tracemalloc.start()
    try:
        assert sum(float(block.sum()) for block in npz_blocks(tmp_path / "a.npz", "X", 5000)) == total
        assert tracemalloc.get_traced_memory()[1] < whole / 4
    finally:
        tracemalloc.stop()
