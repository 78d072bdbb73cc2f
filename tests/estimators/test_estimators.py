"""Estimators: labels, parameters, data frames, images, errors about these, and no side effects."""

import copy
import doctest
import logging
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import own_tables
import pandas as pd
import pytest
import scipy.sparse
import torch
from processes import ROOT
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepsad_pl import OCSVM, SSAD, SSDGM, Autoencoder, Classifier, DeepSAD, DeepSVDD, IsolationForest
from deepsad_pl.common import lightning_api
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.estimators import label_conventions

QUICK = {"max_epochs": 2}

# Loaded before its levels are compared.
LOGGERS = ("pytorch_lightning", "lightning_fabric")
assert lightning_api


def rows(n: int = 120, columns: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Rows with labels: the first five are known anomalies, five others known to be normal."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, columns)), np.zeros(n, int)
    x[:10] += 4
    y[:5], y[50:55] = -1, 1
    return x, y


@pytest.fixture(scope="module")
def fitted() -> DeepSAD:
    return DeepSAD(**QUICK).fit(*rows())


def test_higher_is_more_normal_and_negative_is_an_anomaly() -> None:
    x, y = rows()
    estimator = IsolationForest(alpha=0.1).fit(x, y)
    score = estimator.detector_.score(x)
    np.testing.assert_array_equal(estimator.score_samples(x), -score)
    np.testing.assert_array_equal(estimator.decision_function(x), estimator.threshold_ - score)
    np.testing.assert_array_equal(estimator.decision_function(x), estimator.score_samples(x) - estimator.offset_)
    np.testing.assert_array_equal(estimator.predict(x), np.where(score > estimator.threshold_, -1, 1))
    np.testing.assert_array_equal(estimator.predict(x), estimator.detector_.predict(x))
    assert (estimator.predict(x[:10]) == -1).all()
    # The quantile of the samples that are not known anomalies.
    assert (estimator.predict(x[y != -1]) == -1).sum() == 11


def test_quantile_holds_nothing_out_and_conformal_a_fifth() -> None:
    x, y = rows()
    held_out = {
        threshold: len(DeepSVDD(threshold=threshold, **QUICK).fit(x, y).detector_._calibration[0])
        for threshold in ("quantile", "conformal")
    }
    assert held_out == {"quantile": 115, "conformal": 23}
    with pytest.raises(
        ValueError, match=r"threshold.alpha is 0.01, but with 23 calibration samples the smallest possible"
    ):
        DeepSVDD(threshold="conformal", alpha=0.01, **QUICK).fit(x, y)


def test_labels_matter_and_known_anomalies_are_anomalies() -> None:
    x, y = rows()
    with_labels, without = (Classifier(epochs=30, lr=1e-2).fit(x, y) for y in (y, np.where(y == 1, -1, 1)))
    assert with_labels.score_samples(x[:5]).mean() < with_labels.score_samples(x[50:55]).mean()
    assert without.score_samples(x[:5]).mean() > without.score_samples(x[50:55]).mean()


@pytest.mark.parametrize(
    ("y", "convention", "semi_y"),
    [
        ([0, 1, -1, 0], None, [0, 1, -1, 0]),
        ([0.0, 1.0, -1.0], None, [0, 1, -1]),
        ([0, 0], None, [0, 0]),
        ([1, 1], None, [1, 1]),
        ([-1, 0], None, [-1, 0]),
        ([0, 1], "signs", [0, 1]),
        ([0, 1, 0], "pyod", [1, -1, 1]),
        ([False, True], "pyod", [1, -1]),
    ],
)
def test_labels_mean_what_the_convention_says(y: list[Any], convention: str | None, semi_y: list[int]) -> None:
    assert label_conventions.semi_labels_in(y, convention).tolist() == semi_y


@pytest.mark.parametrize(
    ("y", "convention", "told"),
    [
        ([0, 1, 2], None, "y has the values 0, 1, 2, but 1 is a known normal sample, -1 a known anomaly and 0 an"),
        ([0, 0.5], None, "y has the values 0, 0.5, but 1 is"),
        ([0, np.nan], None, "y has the values 0, nan, but 1 is"),
        (["ok", "scrap"], None, "y has the values 'ok', 'scrap', but 1 is"),
        (
            [0, 1],
            None,
            r"whose meaning is not clear; call fit\(X, y, convention='pyod'\) if 0 is normal and 1 an anomaly",
        ),
        ([False, True], None, "whose meaning is not clear"),
        (
            [0, -1],
            "pyod",
            "y has the values -1, 0, but with convention='pyod' 0 is a known normal sample and 1",
        ),
        ([0, 1], "sklearn", "convention is 'sklearn'; choose None, 'signs' or 'pyod'"),
    ],
)
def test_other_labels_are_refused(y: list[Any], convention: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DeepSAD().fit(np.zeros((len(y), 2)), y, convention=convention)


def test_pyod_labels_are_the_same_as_signs() -> None:
    x, y = rows()
    signs = np.where(y == -1, -1, 1)
    by_signs = SSAD(selection="none").fit(x, signs)
    by_pyod = SSAD(selection="none").fit(x, (signs == -1).astype(int), convention="pyod")
    np.testing.assert_array_equal(by_signs.score_samples(x), by_pyod.score_samples(x))


def test_fit_predict_uses_the_labels() -> None:
    x, y = rows()
    expected = Classifier(**QUICK).fit(x, y).predict(x)
    np.testing.assert_array_equal(Classifier(**QUICK).fit_predict(x, y), expected)


@pytest.mark.parametrize("kind", [Classifier, SSDGM])
def test_methods_that_need_known_anomalies_say_so(kind: type[Any]) -> None:
    x, y = rows()
    with pytest.raises(ValueError, match=f"{kind.__name__} requires y to be passed"):
        kind().fit(x)
    with pytest.raises(ValueError, match="of 120 samples none is a known anomaly; mark some by -1 in y"):
        kind().fit(x, np.abs(y), convention="signs")


def test_pipelines_clones_and_parameters(fitted: DeepSAD) -> None:
    x, y = rows()
    pipeline = make_pipeline(StandardScaler(), clone(fitted)).fit(x, y)
    assert pipeline.predict(x).shape == (120,)
    assert pipeline.set_params(deepsad__eta=2.0)["deepsad"].eta == 2
    assert clone(pipeline)["deepsad"].get_params() == pipeline["deepsad"].get_params()


def test_random_state() -> None:
    x, y = rows()
    scores = [
        DeepSAD(random_state=state, **QUICK).fit(x, y).score_samples(x)
        for state in (0, 0, 1, np.random.RandomState(5), np.random.RandomState(5), None, None)
    ]
    same = [(a, b) for a in range(7) for b in range(a) if np.array_equal(scores[a], scores[b])]
    assert same == [(1, 0), (4, 3)]
    with pytest.raises(ValueError, match="seed is -1"):
        DeepSAD(random_state=-1).fit(x, y)


def test_a_pickle_and_a_copy_score_the_same(fitted: DeepSAD) -> None:
    x, _ = rows()
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.score_samples(x), fitted.score_samples(x))
        assert other.detector_.facts == fitted.detector_.facts


def test_a_score_does_not_depend_on_the_samples_beside_it(fitted: DeepSAD) -> None:
    x, _ = rows()
    alone = np.concatenate([fitted.score_samples(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(alone, fitted.score_samples(x))


def test_data_frames_are_encoded_as_own_tables() -> None:
    table = own_tables.parts().drop(columns=["part", "truth"])
    y = table.pop("quality").map({"ok": 1, "scrap": -1, "": 0})
    estimator = DeepSAD(**QUICK).fit(table, y)
    assert [*estimator.feature_names_in_] == [*table] and estimator.n_features_in_ == 6
    # Four sensors, checked, three machines, and whether sensor_3 is missing.
    assert estimator.detector_.facts.inputs.preparation.width == 9
    new = table.head(3).assign(machine=["A", "D", None], sensor_0=[1.0, np.nan, 2.0])
    assert np.isfinite(estimator.score_samples(new)).all()
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(table.rename(columns={"machine": "engine"}))
    with pytest.raises(ValueError, match="column 'sensor_1' holds 'broken', which is not a number"):
        estimator.predict(table.astype({"sensor_1": object}).assign(sensor_1="broken").head(2))


def test_columns_that_cannot_be_learned_from_are_named_and_left_out_by_an_override() -> None:
    table = own_tables.parts().drop(columns=["quality", "truth"])
    with pytest.raises(ValueError, match=r"column 'part' has 400 different texts .*: dataset.drop=\[part\]"):
        DeepSAD(**QUICK).fit(table)
    left_out = DeepSAD(overrides=["dataset.drop=[part]"], **QUICK).fit(table)
    features = table.drop(columns="part")
    found = DeepSAD(**QUICK).fit(features).score_samples(features)
    np.testing.assert_array_equal(left_out.score_samples(table), found)
    with pytest.raises(ValueError, match=r"(?s)column.*'checked'"):
        DeepSAD().fit(pd.concat([table, table[["checked"]]], axis=1))


def test_missing_numbers_are_filled_in_and_infinite_ones_refused() -> None:
    x, y = rows()
    x[3, 1] = np.nan
    estimator = IsolationForest().fit(x, y)
    assert np.isfinite(estimator.score_samples(x)).all()
    assert estimator.detector_.facts.inputs.preparation.width == 5
    x[3, 1] = np.inf
    for call in (lambda: IsolationForest().fit(x, y), lambda: estimator.predict(x)):
        with pytest.raises(ValueError, match="infinity"):
            call()
    x[:, 2], x[3, 1] = np.nan, 0
    with pytest.raises(ValueError, match="column 'x2' has no value in the 120 training rows"):
        IsolationForest().fit(x, y)


def test_an_array_of_running_numbers_or_dates_is_an_array_of_numbers() -> None:
    x = np.stack([np.arange(60), 20200101 + np.arange(60) % 28], axis=1)
    assert IsolationForest().fit(x).predict(x).shape == (60,)


def test_sparse_matrices_are_refused() -> None:
    x, y = rows()
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        DeepSAD().fit(scipy.sparse.csr_matrix(x), y)


@pytest.mark.parametrize("kind", [DeepSAD, Autoencoder, OCSVM])
def test_images_may_be_whole_numbers_or_floats(kind: type[Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (60, 1, 16, 16), dtype=np.uint8)
    x[:5, :, 4:9, 4:9] = 255
    y = np.zeros(60, int)
    y[:3] = -1
    estimator = kind(**QUICK, **({"batch_size": 20} if kind is not OCSVM else {})).fit(x, y)
    assert estimator.score_samples(x).shape == (60,)
    assert estimator.detector_.facts.inputs.scale == 255
    np.testing.assert_array_equal(estimator.score_samples(x.astype(np.int64)), estimator.score_samples(x))
    # Floats in [0, 1] are what the network gets for whole numbers.
    as_floats = clone(estimator).fit((x / np.float32(255)).astype(np.float32), y)
    found = as_floats.score_samples((x / np.float32(255)).astype(np.float32))
    np.testing.assert_allclose(found, estimator.score_samples(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.full((20, 1, 16, 16), 300), "images of the type int64 with values from 300 to 300; give whole numbers"),
        (np.full((20, 1, 16, 16), 2.0), "images of the type float64 with values from 2.0 to 2.0"),
        (np.zeros((20, 4, 16, 16), np.uint8), "dataset.channels is 4"),
        (np.zeros((20, 16, 16), np.uint8), r"X has the shape \(20, 16, 16\); give rows .* such as X\[:, None\]"),
    ],
)
def test_other_images_are_refused(x: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DeepSAD(**QUICK).fit(x)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eta": -1.0}, "method.eta is -1.0; it must be a number > 0"),
        ({"eta": -1.0, "alpha": 2.0, "lr": (1e-3, 1e-4, 1e-5)}, "3 problems:"),
        ({"threshold": "none"}, "threshold is 'none'; choose one of quantile, conformal, labeled"),
        ({"device": "tpu"}, "device is 'tpu'; choose one of auto, cpu, cuda"),
        ({"device": None, "threshold": None, "network": 3}, "3 problems:"),
        ({"pretrain": "vae"}, "pretrain is vae, which method=deep_sad cannot start from"),
        ({"network": {"unitz": [3]}}, "unitz"),
        ({"overrides": ["output_dir=here", "method=kde_raw"]}, "2 problems:"),
        ({"overrides": "trainer.threads=1"}, "overrides is 'trainer.threads=1'; give a list of them"),
        ({"overrides": ["method.eta=1,2"]}, "which sweeps over several values; give one value"),
        ({"overrides": ["method.etta=1"]}, "did you mean method.eta"),
        ({"overrides": ["dataset.label=y"]}, "dataset.label is not among the settings that it may change"),
    ],
)
def test_wrong_parameters_are_reported(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        DeepSAD(**settings).fit(*rows())
    assert told in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(OCSVM, "features"), (SSDGM, "variant")])
def test_a_method_that_does_not_exist_is_refused(kind: type[Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'other'; choose one of"):
        clone(kind(**{name: "other"})).fit(*rows())


def test_the_threshold_of_labeled_samples() -> None:
    x, y = rows()
    estimator = IsolationForest(threshold="labeled").fit(x, y)
    assert len(estimator.detector_._calibration[0]) == 2
    assert -estimator.score_samples(x[50:55]).max() < estimator.threshold_ < -estimator.score_samples(x[:5]).min()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_reported() -> None:
    with pytest.raises(ValueError, match=r"trainer.accelerator is gpu with 1 device, but torch sees 0 GPUs"):
        DeepSAD(device="cuda").fit(*rows())


def test_a_number_is_a_schedule_of_one_phase() -> None:
    x, y = rows()

    def trained(**settings: Any) -> Any:
        return DeepSAD(pretrain=None, **settings).fit(x, y).detector_._module.hparams

    assert trained(epochs=3)["lr"] == [1e-3] and trained(epochs=3)["epochs"] == [3]
    assert trained(lr=1e-2, max_epochs=2)["epochs"] == [2]
    assert trained(lr=(1e-2, 1e-3), epochs=(2, 1))["epochs"] == [2, 1]
    assert trained(network={"units": (7, 3)}, epochs=1)["network"]["units"] == [7, 3]


def test_nothing_is_printed_written_or_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    x, y = rows()
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    np.random.seed(1)  # noqa: NPY002
    drawn, levels, filters = np.random.get_state(), levels_of_lightning(), [*warnings.filters]  # noqa: NPY002
    DeepSAD(overrides=["trainer.threads=2"], **QUICK).fit(x, y).predict(x)
    OCSVM(features="hybrid", **QUICK).fit(x, y)
    OCSVM(random_state=0).fit(x, y)
    assert capfd.readouterr() == ("", "")
    assert not [*tmp_path.iterdir()]
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_num_threads() == threads
    assert np.array_equal(np.random.get_state()[1], drawn[1])  # noqa: NPY002
    assert levels_of_lightning() == levels and warnings.filters == filters


def levels_of_lightning() -> list[int]:
    return [logging.getLogger(name).level for name in LOGGERS]


def test_threads_do_not_disturb_each_other() -> None:
    x, y = rows()

    def scores(seed: int) -> np.ndarray:
        return DeepSAD(random_state=seed, **QUICK).fit(x, y).score_samples(x)

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(scores, range(8))]
    assert all(np.array_equal(one, scores(seed)) for seed, one in enumerate(found))


def test_estimators_load_neither_torch_nor_hydra_before_fit_and_modules_no_scikit_learn() -> None:
    code = (
        "import sys; from deepsad_pl import DeepSAD, KDE; DeepSAD(eta=2); "
        "print('torch' in sys.modules, 'hydra' in sys.modules); "
    )
    other = "import sys; from deepsad_pl import DeepSADModule; print('sklearn' in sys.modules)"
    shown = [
        subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
        for one in (code, other)
    ]
    assert shown == ["False False", "False"]


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(label_conventions)
    assert found.attempted and not found.failed


def test_whole_numbers_are_scored_like_the_floats_of_fit() -> None:
    """Images of a detector that was trained on floats from 0 to 1."""
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    network = {"filters": [2, 4], "dense": [4]}
    found = DeepSAD(max_epochs=1, network=network, random_state=0, device="cpu").fit(images / 255, np.zeros(40, int))
    scores = found.score_samples(images / 255)
    assert np.array_equal(found.score_samples(images), scores)
    assert np.array_equal(found.score_samples(images.astype(np.int64)), scores)
    with pytest.raises(
        ValueError, match="X has images with values from 0 to 255, but fit was given floats from 0 to 1"
    ):
        found.score_samples(images.astype(float))
    with pytest.raises(ValueError, match="X has images with values from -1 to 254"):
        found.score_samples(images.astype(int) - 1)
    masks = images > 127
    with pytest.raises(ValueError, match="X has whole numbers from 0 to 1, which may be pixels of 0 to 255 or not"):
        found.score_samples(masks.astype(np.uint8))
    assert found.score_samples(masks.astype(float)).shape == (40,)
    with pytest.raises(ValueError, match=r"values from 0\.\d* to 1\.0000001, but fit"):
        found.score_samples(np.minimum(images / 255 + 0.01, 1.0000001))


def test_columns_that_overrides_leave_out_must_be_there() -> None:
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=[*"abc"])
    with pytest.raises(ValueError, match="overrides leave out aa, but X has no such column"):
        IsolationForest(overrides=["dataset.drop=[aa]"]).fit(x)
    with pytest.raises(
        ValueError, match=r"overrides set dataset\.drop or dataset\.id, but the columns of an array have no"
    ):
        IsolationForest(overrides=["dataset.drop=[x0]"]).fit(x.to_numpy())
    assert IsolationForest(overrides=["dataset.drop=[a]"]).fit(x).detector_.facts.inputs.columns == ("b", "c")


def test_an_estimator_whose_fit_failed_is_not_fitted() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = IsolationForest(alpha=5)
    with pytest.raises(ValueError, match="alpha"):
        found.fit(x)
    with pytest.raises(NotFittedError):
        found.predict(x)


def test_masked_values_are_empty() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    empty = np.where(x > 2, np.nan, x)
    found = IsolationForest(random_state=0).fit(empty)
    assert np.array_equal(found.score_samples(np.ma.masked_greater(x, 2)), found.score_samples(empty))


def test_a_column_that_is_there_twice_is_refused() -> None:
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=[*"ab"])
    detector = IsolationForest(random_state=0).fit(x).detector_
    with pytest.raises(DeepSADError, match="it has several columns named a; give each column its own name"):
        detector.score(pd.concat([x, x[["a"]] * 0], axis=1))
    with pytest.raises(ValueError, match="X has more than one column 'a'; give each its own name"):
        IsolationForest(random_state=0).fit(pd.concat([x, x[["a"]] * 0], axis=1))
