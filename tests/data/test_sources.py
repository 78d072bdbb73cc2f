"""From files to arrays: the digits, the tables, torchvision's sets, and every kind of wrong file."""

import gzip
import logging
import re
import socketserver
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planned import plan_of
from scipy.io import savemat
from scipy.sparse import csc_matrix
from sklearn.datasets import load_digits
from tiny_data import (
    closed_url,
    expected_of_cifar10,
    images_of,
    labels_of,
    md5_of,
    table_of,
    write_cifar10,
    write_idx,
    write_odds,
    write_table,
)
from torchvision import datasets

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import odds
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.odds import ODDS_FILES, load_odds, read_table
from deepsad_pl.data.scenario import Scenario
from deepsad_pl.data.sources import (
    digits_source,
    image_source,
    odds_source,
    split_rows,
    table_set,
    table_source,
    torchvision_source,
)

IDX_SETS = {"mnist": ("MNIST", datasets.MNIST), "fmnist": ("FashionMNIST", datasets.FashionMNIST)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace every server by one that refuses connections; return its URL."""
    url = closed_url()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    for name, known in ODDS_FILES.items():
        monkeypatch.setitem(odds.ODDS_FILES, name, odds.OddsFile(**{**vars(known), "url": f"{url}{known.file}"}))
    return url


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(2, 40), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_a_split_is_60_to_40_in_every_class(sizes: list[int], seed: int) -> None:
    assume(2 * sum(sizes) >= 5 * len(sizes))
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    train, test = split_rows(labels, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    assert abs(len(train) - 0.6 * len(labels)) < 1
    # The share of rows drawn in total, which cannot always be exactly 60 %.
    expected = np.array(sizes) * len(train) / len(labels)
    assert np.abs(np.bincount(labels[train], minlength=len(sizes)) - expected).max() <= 1


def test_a_split_depends_only_on_the_seed() -> None:
    labels = labels_of(100, 3)
    first = split_rows(labels, 0)
    assert np.array_equal(first[0], split_rows(labels, 0)[0])
    assert not np.array_equal(first[0], split_rows(labels, 1)[0])


def test_a_class_of_one_row_cannot_be_split() -> None:
    with pytest.raises(DeepSADError, match="3 rows cannot be split 60:40 by class"):
        split_rows(np.array([0, 0, 1]), 0)


def test_digits_are_the_1797_of_scikit_learn() -> None:
    source, real = digits_source(0), load_digits()
    assert source.x_train.shape == (1078, 1, 8, 8)
    assert source.x_test.shape == (719, 1, 8, 8)
    assert source.shape == (1, 8, 8)
    rows = np.concatenate([source.x_train, source.x_test]).reshape(-1, 64)
    labels = np.concatenate([source.labels_train, source.labels_test])
    ours = sorted(zip(rows.tolist(), labels.tolist(), strict=True))
    assert ours == sorted(zip(real.data.astype(int).tolist(), real.target.tolist(), strict=True))


def test_digits_are_split_by_class() -> None:
    source = digits_source(3)
    train, both = np.bincount(source.labels_train), np.bincount(load_digits().target)
    assert np.abs(train - 0.6 * both).max() <= 1


def test_pixels_of_digits_lie_between_0_and_1() -> None:
    batches = AnomalyDataModule(digits_source(0), Scenario((0,), (), 0.0, 0.0, 0.0, 0), batch_size=32)
    x = torch.cat([x for x, *_ in batches.test_dataloader()])
    assert (x.min().item(), x.max().item()) == (0.0, 1.0)
    assert (x * 16 == (x * 16).round()).all()


@pytest.mark.parametrize("make", [digits_source, lambda seed: table_source(*table_of(60, 4, 20), seed, "zscore")])
def test_the_split_of_a_source_comes_from_its_seed(make: Callable[[int], Any]) -> None:
    first, again, other = make(0), make(0), make(1)
    assert np.array_equal(first.x_train, again.x_train)
    assert np.array_equal(first.labels_test, again.labels_test)
    assert not np.array_equal(first.x_train, other.x_train)


def test_tables_are_float32_and_not_scaled_again() -> None:
    source = table_source(*table_of(60, 4, 20), 0, "zscore")
    assert (source.x_train.dtype, source.x_test.dtype, source.scale) == (np.float32, np.float32, None)
    assert source.shape == (4,)


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
@pytest.mark.parametrize("x_dtype", [np.float64, np.float32, np.int64, np.uint8, np.int16])
@pytest.mark.parametrize("y_dtype", [np.float64, np.int64, np.uint8, bool])
@pytest.mark.parametrize("column", [False, True])
def test_tables_of_every_type_are_read(tmp_path: Path, suffix: str, x_dtype: Any, y_dtype: Any, column: bool) -> None:
    x, y = np.arange(12).reshape(6, 2).astype(x_dtype), np.array([0, 1, 0, 0, 1, 0]).astype(y_dtype)
    found_x, found_y = read_table(write_table(tmp_path / f"t{suffix}", x, y[:, None] if column else y))
    assert np.array_equal(found_x, np.arange(12.0).reshape(6, 2))
    assert found_y.tolist() == [0, 1, 0, 0, 1, 0]
    assert (found_x.dtype, found_y.dtype) == (np.float64, np.int64)


WAY_OUT = "replace it, or remove it to download it again"


def problem_with(path: Path) -> str:
    with pytest.raises(DeepSADError) as caught:
        read_table(path)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
@pytest.mark.parametrize("how", ["empty", "text", "half"])
def test_a_damaged_table_is_named(tmp_path: Path, suffix: str, how: str) -> None:
    path = write_table(tmp_path / f"t{suffix}", *table_of(30, 3, 5))
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"<html>not found</html>", "half": content[: len(content) // 2]}[how])
    problem = problem_with(path)
    assert str(path) in problem
    assert WAY_OUT in problem


@pytest.mark.parametrize("key", ["X", "y"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    x, y = table_of(30, 3, 5)
    content = {"X": x, "y": y}
    del content[key]
    savemat(tmp_path / "t.mat", content)
    np.savez(tmp_path / "t.npz", **content)
    for name in ("t.mat", "t.npz"):
        problem = problem_with(tmp_path / name)
        assert str(tmp_path / name) in problem
        assert WAY_OUT in problem
        assert f"no key '{key}'" in problem


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros(4), np.zeros(4)),
        (np.zeros((2, 2, 2)), np.zeros(2)),
        (np.zeros((4, 2)), np.zeros(3)),
        (np.zeros((4, 2)), np.array([0, 1, 2, 0])),
        (np.zeros((4, 2)), np.array([0, -1, 1, 0])),
        (np.zeros((4, 2)), np.array([0, 0.5, 1, 0])),
        (np.zeros((4, 2)), np.array([0, np.nan, 1, 0])),
        (np.full((4, 2), np.nan), np.array([0, 0, 1, 0])),
        (np.full((4, 2), np.inf), np.array([0, 0, 1, 0])),
        (np.zeros((4, 2)), np.array([[0, 0], [1, 0]])),
    ],
    ids=["1-D", "3-D", "lengths", "label 2", "label -1", "label 0.5", "label nan", "x nan", "x inf", "y 2-D"],
)
def test_files_that_are_not_tables_are_refused(tmp_path: Path, x: Any, y: Any) -> None:
    path = write_table(tmp_path / "t.npz", x, y)
    problem = problem_with(path)
    assert str(path) in problem
    assert WAY_OUT in problem
    assert "0 or 1" in problem


Y = np.array([0, 0, 1, 0])


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (np.zeros((4, 2)) + 1j, Y, "X of type complex128"),
        (np.zeros((4, 2)), Y + 0j, "y of type complex128"),
        (np.zeros((4, 0)), Y, r"X of shape \(4, 0\) and y of shape .*"),
        (np.zeros((0, 2)), np.zeros(0), r"X of shape \(0, 2\) and y of shape .*"),
        (np.array([["1", "2"], ["3", "4"]]), Y[:2], "X of type <U1|X of shape .*"),
        (np.array([[0, 1], [2, np.nan], [4, 5], [6, 7]]), Y, "NaN or infinite values in column 1 of X, counted from 0"),
        (np.zeros((4, 2)), Y * 2, "values other than 0 and 1 in y"),
    ],
    ids=["complex X", "complex y", "no column", "no row", "text", "nan", "labels"],
)
def test_the_error_says_what_is_wrong_with_a_table(tmp_path: Path, suffix: str, x: Any, y: Any, found: str) -> None:
    problem = problem_with(write_table(tmp_path / f"t{suffix}", x, y))
    assert re.search(f"t{suffix} holds ({found}), but X with N rows of D finite real numbers and y", problem)
    assert problem.endswith(f"are needed; {WAY_OUT}")


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (csc_matrix(np.eye(4)), "X as a csc_(matrix|array)"),
        (np.array([[1, "two"], [3, 4]], dtype=object), "X of type object"),
        ({"field": np.eye(4)}, r"X of type \[\('field', 'O'\)\]"),
    ],
    ids=["sparse", "cells", "struct"],
)
def test_other_kinds_of_matlab_matrices_are_refused(tmp_path: Path, x: Any, found: str) -> None:
    problem = problem_with(write_table(tmp_path / "t.mat", x, Y))
    assert re.search(f"t.mat holds {found}, but X with N rows", problem)


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
@pytest.mark.parametrize("name", ODDS_FILES)
def test_both_formats_are_found_by_the_name_of_the_set(tmp_path: Path, name: str, suffix: str) -> None:
    x, y = table_of(60, 3, 20)
    write_table(tmp_path / "odds" / f"{name}{suffix}", x, y)
    found_x, found_y = load_odds(name, tmp_path)
    assert np.array_equal(found_x, x)
    assert np.array_equal(found_y, y)


def test_a_table_that_differs_from_the_papers_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_odds(tmp_path, "cardio", rows=60, outliers=20)
    with caplog.at_level(logging.WARNING):
        load_odds("cardio", tmp_path)
    (message,) = caplog.messages
    assert message.startswith("cardio in this file has 60 rows, 21 columns and 20 outliers")
    assert message.endswith("1831, 21 and 176")


def test_a_table_equal_to_the_papers_is_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_odds(tmp_path, "cardio", rows=1831, outliers=176)
    with caplog.at_level(logging.WARNING):
        load_odds("cardio", tmp_path)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ODDS_FILES)
def test_a_table_that_cannot_be_downloaded_is_reported(tmp_path: Path, no_network: str, name: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        load_odds(name, tmp_path)
    file = ODDS_FILES[name].file
    assert f"{no_network}{file}" in str(caught.value)
    assert f"put it at {tmp_path / 'odds' / file}" in str(caught.value)
    assert not (tmp_path / "odds" / file).exists()


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_an_odds_set_is_a_table_source(tmp_path: Path, scaling: Literal["zscore", "minmax"]) -> None:
    write_odds(tmp_path, "thyroid")
    source = table_set("thyroid", data_dir=tmp_path, seed=2, scaling=scaling)
    expected = table_source(*load_odds("thyroid", tmp_path), 2, scaling)
    assert np.array_equal(source.x_train, expected.x_train)
    assert np.array_equal(source.labels_test, expected.labels_test)
    assert set(source.labels_train) == {0, 1}


@pytest.mark.parametrize("name", ODDS_FILES)
def test_the_real_tables_are_those_of_the_paper(real_data: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    if not list((real_data / "odds").glob(f"{name}.*")):
        pytest.skip(f"no {name} in DEEPSAD_DATA_DIR")
    known = ODDS_FILES[name]
    with caplog.at_level(logging.WARNING):
        x, y = load_odds(name, real_data)
    assert (*x.shape, y.sum()) == (known.rows, known.columns, known.outliers)
    assert caplog.messages == []
    source = odds_source(name, real_data, 0, "zscore")
    assert source.x_train.mean(0) == pytest.approx(np.zeros(known.columns), abs=1e-4)
    assert np.isfinite(source.x_test).all()


@pytest.mark.parametrize("name", IDX_SETS)
def test_idx_files_are_read(tmp_path: Path, name: str) -> None:
    write_idx(tmp_path, IDX_SETS[name][0], train=100, test=40)
    source = torchvision_source(name, tmp_path)
    assert np.array_equal(source.x_train[:, 0], images_of(labels_of(100), 28, 28, seed=0))
    assert np.array_equal(source.x_test[:, 0], images_of(labels_of(40), 28, 28, seed=1))
    assert np.array_equal(source.labels_train, labels_of(100))
    assert np.array_equal(source.labels_test, labels_of(40))
    assert (source.x_train.dtype, source.labels_train.dtype, source.scale) == (np.uint8, np.int64, 255.0)


def accept_cifar10(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for key, value in expected_of_cifar10(folder).items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)


def test_cifar10_batches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path, rows_a_batch=20, test=40))
    source = torchvision_source("cifar10", tmp_path)
    expected = np.concatenate([images_of(labels_of(20), 3072, seed=i) for i in range(5)])
    assert np.array_equal(source.x_train, expected.reshape(-1, 3, 32, 32))
    assert np.array_equal(source.labels_train, np.tile(labels_of(20), 5))
    assert np.array_equal(source.x_test, images_of(labels_of(40), 3072, seed=5).reshape(-1, 3, 32, 32))
    assert np.array_equal(source.labels_test, labels_of(40))


FOLDERS = {"mnist": "MNIST", "fmnist": "FashionMNIST", "cifar10": "cifar-10-batches-py"}


def check_download_failure(name: str, data_dir: Path, url: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        torchvision_source(name, data_dir)
    (problem,) = caught.value.problems
    assert f"{FOLDERS[name]} could not be downloaded" in problem
    assert url in problem
    assert f"into {data_dir / FOLDERS[name]} by hand" in problem
    assert not list(data_dir.glob(".*.part"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_set_that_cannot_be_downloaded_is_reported_and_leaves_nothing(
    tmp_path: Path, no_network: str, name: str
) -> None:
    check_download_failure(name, tmp_path / "new", no_network)
    assert not (tmp_path / "new" / FOLDERS[name]).exists()


@pytest.fixture
def babble() -> Iterator[str]:
    """The URL of a server that speaks no HTTP."""

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"this is no HTTP\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Babble) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_server_without_http_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, babble: str
) -> None:
    for kind in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [babble])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{babble}cifar-10-python.tar.gz")
    check_download_failure(name, tmp_path, babble)


@pytest.mark.parametrize("name", IDX_SETS)
def test_existing_files_survive_a_failed_download(tmp_path: Path, no_network: str, name: str) -> None:
    raw = write_idx(tmp_path, FOLDERS[name])
    (raw / "t10k-labels-idx1-ubyte").unlink()
    check_download_failure(name, tmp_path, no_network)
    assert len(list(raw.iterdir())) == 3


def test_a_failed_download_can_be_completed_by_hand(tmp_path: Path, no_network: str) -> None:
    check_download_failure("mnist", tmp_path, no_network)
    write_idx(tmp_path)
    assert len(torchvision_source("mnist", tmp_path).x_train) == 100


@pytest.mark.parametrize("name", IDX_SETS)
def test_archives_put_there_by_hand_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder, kind = IDX_SETS[name]
    raw = write_idx(tmp_path, folder, packed=True)
    monkeypatch.setattr(kind, "resources", [(path.name, md5_of(path)) for path in sorted(raw.iterdir())])
    source = torchvision_source(name, tmp_path)
    assert np.array_equal(source.x_test[:, 0], images_of(labels_of(40), 28, 28, seed=1))
    assert (raw / "train-images-idx3-ubyte").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path: Path, no_network: str) -> None:
    raw = write_idx(tmp_path, packed=True)
    check_download_failure("mnist", tmp_path, no_network)
    assert {path.suffix for path in raw.iterdir()} == {".gz"}


def test_an_archive_of_cifar10_put_there_by_hand_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path / "packed")
    accept_cifar10(monkeypatch, folder)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5_of(tmp_path / "cifar-10-python.tar.gz"))
    assert len(torchvision_source("cifar10", tmp_path).x_train) == 100
    assert (tmp_path / "cifar-10-python.tar.gz").exists()


def test_changed_cifar10_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path)
    accept_cifar10(monkeypatch, folder)
    with (folder / "data_batch_3").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DeepSADError, match=r"is damaged .* remove that folder") as caught:
        torchvision_source("cifar10", tmp_path)
    assert str(folder) in str(caught.value)
    assert folder.exists()


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("how", ["empty", "half", "text", "still packed", "other type"])
def test_damaged_idx_files_are_refused(tmp_path: Path, file: str, how: str) -> None:
    path = write_idx(tmp_path) / file
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "text": b"<html>moved</html>",
        "still packed": gzip.compress(content, mtime=0),
        "other type": content[:2] + b"\x09" + content[3:],
    }[how]
    path.write_bytes(damaged)
    with pytest.raises(DeepSADError, match=r"is damaged .*remove that folder to download it again") as caught:
        torchvision_source("mnist", tmp_path)
    assert str(tmp_path / "MNIST") in str(caught.value)
    assert path.read_bytes() == damaged


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    raw, other = write_idx(tmp_path, train=100), write_idx(tmp_path / "other", train=90)
    (other / "train-labels-idx1-ubyte").replace(raw / "train-labels-idx1-ubyte")
    with pytest.raises(DeepSADError, match=r"100 images and 90 labels|is damaged"):
        torchvision_source("mnist", tmp_path)


def test_a_home_folder_may_be_written_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plan_of("data_dir='~/data'").data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "folder", "counts"), [("mnist", "MNIST", [5923, 980]), ("fmnist", "FashionMNIST", [6000, 1000])]
)
def test_the_real_images_are_all_there(real_data: Path, name: str, folder: str, counts: list[int]) -> None:
    if not (real_data / folder).is_dir():
        pytest.skip(f"no {folder} in DEEPSAD_DATA_DIR")
    source = image_source(name, data_dir=real_data, seed=0)
    assert source.x_train.shape == (60_000, 1, 28, 28)
    assert source.x_test.shape == (10_000, 1, 28, 28)
    assert [int((labels == 0).sum()) for labels in (source.labels_train, source.labels_test)] == counts
    assert set(source.labels_train) == set(source.labels_test) == set(range(10))
    assert (source.x_train.min(), source.x_train.max()) == (0, 255)
