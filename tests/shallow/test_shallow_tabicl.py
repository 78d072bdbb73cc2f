"""TabICL by a stand-in of its package: rows, labels and weights reach it, and other weights are refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from planned import about, plan_of, problems_of
from tabicl_stand_in import install_stand_in

import deepsad_pl
from deepsad_pl import TabICL
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores
from deepsad_pl.detector.export_file import export
from deepsad_pl.shallow import tabicl
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.tabicl import TabICLModel, fit_tabicl
from deepsad_pl.shallow.task import Task

Matrix = npt.NDArray[np.float32]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_stand_in(tmp_path, monkeypatch)


def task_of(n: int = 60, labels: int = 4, seed: int = 0) -> Task:
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    semi_y = np.zeros(n, np.int64)
    semi_y[:labels], semi_y[labels : 2 * labels] = -1, 1
    return Task(x, semi_y, None, None, seed)


def test_the_score_is_the_probability_of_a_known_anomaly(weights: Path) -> None:
    task = task_of()
    fitted = fit_tabicl(task, weights=str(weights), estimators=8)
    new = np.random.default_rng(1).normal(size=(2500, 3))
    classifier = fitted.model.classifier()  # type: ignore[attr-defined]
    assert classifier.n_estimators == 8
    normal, anomalous = (task.x[one].mean(axis=0) for one in (task.semi_y != -1, task.semi_y == -1))
    np.testing.assert_allclose(classifier._means, [normal, anomalous])
    # More rows than a block has.
    expected = classifier.predict_proba(new.astype(np.float32))[:, 1]
    np.testing.assert_array_equal(fitted.model.score(new), expected)
    assert fitted.selection["weights"] == tabicl._sha256(weights)


def test_a_saved_model_gives_the_same_scores_with_the_same_weights_only(weights: Path, tmp_path: Path) -> None:
    task = task_of()
    model = fit_tabicl(task, weights=str(weights), estimators=2).model
    save_model(tmp_path / "model.npz", model)
    again = load_model(tmp_path / "model.npz")
    assert type(again) is TabICLModel
    assert again.score(task.x).tobytes() == model.score(task.x).tobytes()
    np.savez(weights, temperature=3.0)
    with pytest.raises(DeepSADError, match=r"but the model was fitted with .*; put the earlier file back"):
        load_model(tmp_path / "model.npz").score(task.x)
    weights.unlink()
    with pytest.raises(DeepSADError, match=r"weights\.npz cannot be read \(No such file"):
        load_model(tmp_path / "model.npz").score(task.x)


def test_only_the_seed_decides(weights: Path) -> None:
    models = [fit_tabicl(task_of(seed=seed), weights=str(weights), estimators=2).model for seed in (0, 0, 1)]
    found = [model.score(task_of().x).tobytes() for model in models]
    assert found[0] == found[1] != found[2]


def test_a_file_that_is_no_checkpoint_is_refused_by_the_fit(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no weights")
    with pytest.raises(
        DeepSADError, match=r"TabICL cannot use the weights .*other \(.*; give method\.weights the path"
    ):
        fit_tabicl(task_of(), weights=str(tmp_path / "other"), estimators=2)


@pytest.mark.parametrize(("labels", "message"), [(0, "none is labeled"), (60, "only labeled anomalies")])
def test_a_single_class_is_refused(labels: int, message: str, weights: Path) -> None:
    with pytest.raises(DeepSADError, match=message):
        fit_tabicl(task_of(labels=labels), weights=str(weights), estimators=2)


def test_a_model_without_the_package_names_the_extra(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabicl", None)
    with pytest.raises(DeepSADError, match=r"without the package tabicl .*pip install 'deepsad-pl\[tabicl\]'"):
        fit_tabicl(task_of(), weights=str(weights), estimators=2)


# --- The checks of a configuration.


def test_a_missing_package_and_a_missing_file_are_reported_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deepsad_pl.settings.checks.find_spec", lambda name: None)
    assert problems_of("method=tabicl", f"method.weights={tmp_path / 'none.ckpt'}") == [
        "method=tabicl needs the package tabicl, which is not installed; run pip install 'deepsad-pl[tabicl]' or "
        "choose another method",
        f"method.weights is {tmp_path / 'none.ckpt'}, but there is no such file; give the path of a file",
    ]


def test_weights_have_to_be_given(weights: Path) -> None:
    (problem,) = problems_of("method=tabicl")
    assert problem.startswith("method.weights is not set")


def test_the_identity_has_the_content_of_the_weights(weights: Path, tmp_path: Path) -> None:
    def plan(path: Path) -> Any:
        return plan_of("method=tabicl", f"method.weights={path}", f"data_dir={tmp_path}")

    first = plan(weights)
    assert first.identity["method"] == {
        **{"name": "tabicl", "features": "raw", "estimators": 8, "files": {"weights": [tabicl._sha256(weights)]}}
    }
    moved = weights.rename(tmp_path / "moved.npz")
    assert plan(moved).run_dir == first.run_dir
    np.savez(moved, temperature=3.0)
    assert plan(moved).run_dir != first.run_dir
    assert about("trees").files == [] and "files" not in plan_of("method=trees").identity["method"]


# --- Whole runs.


def test_a_run_its_estimator_and_its_detector_agree(
    weights: Path, tmp_path: Path, experiment: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), np.repeat([-1, 0], [5, 75])
    x[:5] += 2
    np.savez(tmp_path / "rows.npz", X=x, y=y)
    run = experiment(
        *("dataset=table", f"dataset.path={tmp_path / 'rows.npz'}", "dataset.label=y", "method=tabicl"),
        *(f"method.weights={weights}", "method.estimators=3", "seed=3", "threshold=quantile"),
    )
    scores = read_scores(run.run_dir)[1]
    assert scores[:5].min() > scores[5:].mean()
    found = TabICL(weights=str(weights), estimators=3, random_state=3).fit(x, y)
    assert (-found.score_samples(x)).tolist() == scores.tolist()
    detector = deepsad_pl.load(run.run_dir)
    assert detector.score(x).tolist() == scores.tolist()
    with pytest.raises(DeepSADError, match="cannot be exported"):
        export(detector, tmp_path / "detector.onnx", "onnx")


def test_the_real_package_takes_what_it_is_given(tmp_path: Path) -> None:
    package = pytest.importorskip("tabicl._model.tabicl")
    config = {"embed_dim": 32, "col_num_blocks": 1, "row_num_blocks": 1, "icl_num_blocks": 1, "col_num_inds": 8}
    torch.manual_seed(0)
    network = package.TabICL(**config)
    torch.save({"config": config, "state_dict": network.state_dict()}, tmp_path / "random.ckpt")
    model = fit_tabicl(task_of(), weights=str(tmp_path / "random.ckpt"), estimators=2).model
    score = model.score(task_of().x)
    assert ((score >= 0) & (score <= 1)).all()
    assert model.score(task_of().x).tolist() == score.tolist()
