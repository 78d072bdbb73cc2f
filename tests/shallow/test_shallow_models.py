"""Fitted shallow models: scores against brute force, blocks, and files that read back exactly or are refused."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from deepsad_pl.common.arrays import write_arrays
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import models, tree_nodes
from deepsad_pl.shallow.models import (
    DensityModel,
    ForestModel,
    KernelModel,
    Model,
    average_path_length,
    load_model,
    save_model,
)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(90, 6)).astype(np.float32)
X = RNG.normal(size=(70, 6))

# One split of column 1 at 0.5, and a tree that is only a leaf.
STUMPS: dict[str, Any] = {
    "children_left": np.array([1, -1, -1, -1]),
    "children_right": np.array([2, -1, -1, -1]),
    "feature": np.array([1, -2, -2, -2]),
    "threshold": np.array([0.5, -2, -2, -2]),
    "n_node_samples": np.array([4, 1, 3, 4]),
    "tree_start": np.array([0, 3, 4]),
    "psi": 4,
    "width": 6,
}


def kernel_model() -> KernelModel:
    return KernelModel(ROWS, np.random.default_rng(1).normal(size=90), 0.3, 1.25)


MODELS = [kernel_model(), DensityModel(ROWS, 0.7), ForestModel(**STUMPS)]


def test_a_kernel_model_scores_by_its_kernel_sum() -> None:
    model = kernel_model()
    distance2 = ((X[:, None] - ROWS[None].astype(np.float64)) ** 2).sum(axis=2)
    np.testing.assert_allclose(model.score(X), 1.25 - np.exp(-0.3 * distance2) @ model.coef, rtol=0, atol=1e-12)


def test_a_density_model_scores_by_a_log_sum_exp() -> None:
    distance2 = ((X[:, None] - ROWS[None].astype(np.float64)) ** 2).sum(axis=2)
    log_density = logsumexp(-distance2 / (2 * 0.7**2), axis=1) - np.log(90) - 3 * np.log(2 * np.pi * 0.7**2)
    np.testing.assert_allclose(MODELS[1].score(X), -log_density, rtol=0, atol=1e-11)


def test_a_forest_model_scores_by_its_mean_depth() -> None:
    x = np.zeros((3, 6))
    x[:, 1] = [0.4, 0.5, 0.6]

    def c(n: int) -> float:
        return 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n

    # The left leaf has one row at depth 1, the right one three; the second tree has four rows at depth 0.
    left, right = 2.0 ** (-(1 + c(4)) / 2 / c(4)), 2.0 ** (-(1 + c(3) + c(4)) / 2 / c(4))
    np.testing.assert_allclose(MODELS[2].score(x), [left, left, right], rtol=1e-15)


def test_average_path_lengths_are_correct() -> None:
    # Harmonic numbers are approximated by ln + Euler's constant, except where the paper sets 0 and 1.
    np.testing.assert_allclose(
        average_path_length(np.array([1, 2, 3, 256])), [0, 1, 1.20739236, 10.24477092], rtol=1e-8
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_blocks_do_not_change_scores(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.score(X)
    monkeypatch.setattr(models, "_TILE", (16, 32))
    monkeypatch.setattr(tree_nodes, "_NODES_AT_ONCE", 25)
    np.testing.assert_allclose(model.score(X), whole, rtol=0, atol=1e-12)
    assert len(model.score(X[:0])) == 0


def test_temporaries_stay_below_100_mb() -> None:
    blocks = list(models.tiles(5000, 6000, 3072))
    both = max((q.stop - q.start + r.stop - r.start) * 3072 * 8 for q, r in blocks)
    tiles = 3 * max((q.stop - q.start) * (r.stop - r.start) * 8 for q, r in blocks)
    assert both + tiles < 100e6
    covered = np.zeros((5000, 6000), dtype=np.int64)
    for queries, rows in blocks:
        covered[queries, rows] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_another_number_of_features_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="rows of 6 features"):
        model.score(np.zeros((4, 7)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_loaded_model_scores_the_same_bit_for_bit(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(path, model)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert loaded.score(X).tobytes() == model.score(X).tobytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]
    with np.load(path, allow_pickle=False) as file:
        assert all(not file[name].dtype.hasobject for name in file.files)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.npz"
    save_model(path, MODELS[0])
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(path, MODELS[1])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_damaged_file_is_refused_or_harmless(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(path, model)
    good, score = path.read_bytes(), model.score(X)
    refused = 0
    for position in np.random.default_rng(2).permutation(len(good))[:150]:
        bad = bytearray(good)
        bad[position] ^= 0x5A
        path.write_bytes(bad)
        try:
            loaded = load_model(path)
        except DeepSADError:
            refused += 1
        else:
            # Dates, and zip's second copy of each name.
            assert loaded.score(X).tobytes() == score.tobytes()
    assert refused > 75


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", None])
def test_a_foreign_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(path, MODELS[0])
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(DeepSADError, match=r"model\.npz is not a readable model .*; use the model file"):
        load_model(path)


def test_a_missing_file_a_bare_array_and_a_pickle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="there is no model file"):
        load_model(tmp_path / "none.npz")
    np.save(tmp_path / "bare.npy", ROWS)
    with pytest.raises(DeepSADError, match=r"not an \.npz archive"):
        load_model(tmp_path / "bare.npy")
    np.savez(tmp_path / "pickle.npz", format=1, kind=np.array([{}], dtype=object))
    with pytest.raises(DeepSADError, match="allow_pickle"):
        load_model(tmp_path / "pickle.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": np.asarray(99)}, "its format is 99"),
        ({"kind": np.asarray("svm")}, "svm"),
        ({"coef": np.ones(3)}, "one float64 coef per row"),
        ({"coef": np.full(90, np.nan)}, "finite coef"),
        ({"rows": ROWS.astype(np.float64)}, "float32 rows"),
        ({"gamma": np.asarray(-1.0)}, "gamma > 0"),
        ({"more": np.asarray(1.0)}, "more"),
    ],
)
def test_contents_of_a_model_file_are_checked(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(path, MODELS[0])
    with np.load(path) as file:
        write_arrays(path, {**file, **change})
    with pytest.raises(DeepSADError, match=said):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"children_left": np.array([0, -1, -1, -1])},
        {"children_right": np.array([3, -1, -1, -1])},
        {"feature": np.array([6, -2, -2, -2])},
        {"tree_start": np.array([0, 4])[:1]},
        {"tree_start": np.array([0, 3, 5])},
        {"tree_start": np.array([0, 0, 4])},
        {"threshold": np.zeros(3)},
        {"n_node_samples": np.ones(4)},
        {"psi": 0},
    ],
)
def test_a_forest_without_trees_in_it_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a model needs"):
        ForestModel(**{**STUMPS, **change})


def test_files_are_compressed_and_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(tmp_path / f"{name}.npz", MODELS[0])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}
