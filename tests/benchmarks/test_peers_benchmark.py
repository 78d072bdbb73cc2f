"""Peers get our rows and labels; a library that is not installed is replaced by a minimal one or skipped."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peer_models import INSTALL, PEERS, Peer, Problem
from benchmarks.peers import OURS, Cell
from deepsad_pl.compose.composer_at import composer_at
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.plan import make_plan


class Distances:
    """In place of a detector of another library: how far a row lies from the mean of what it was fitted on."""

    seen: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: object, **settings: object) -> None:
        Distances.seen = {"args": args, **settings}

    def fit(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any] | None = None) -> None:
        Distances.seen |= {"x": x, "y": y}
        self.mean = x.mean(axis=0)

    def decision_function(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.linalg.norm(x - self.mean, axis=1)[:, None])


def problem() -> Problem:
    x = np.array([[0, 0], [0, 2], [9, 9]], np.float32)
    return Problem(x, np.array([False, False, True]), np.array([[0, 1], [3, 5]], np.float32), seed=7, quick=True)


@pytest.mark.parametrize("name", ["DeepOD DeepSAD", "DeepOD RoSAS", "PyOD DeepSVDD", "PyOD XGBOD"])
def test_a_peer_is_given_the_rows_the_labels_and_the_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(**{name.split()[1]: Distances})
    monkeypatch.setattr("benchmarks.peer_models.import_module", lambda path: module)
    scores = PEERS[name].run(problem())
    seen = Distances.seen
    assert scores.shape == (2,)
    assert seen["random_state"] == 7
    assert seen.get("epochs") == (None if name == "PyOD XGBOD" else 1)
    if name == "PyOD DeepSVDD":
        # Known anomalies are left out, so the mean is (0, 1).
        assert seen["args"] == (2,) and seen["y"] is None and len(seen["x"]) == 2
        np.testing.assert_allclose(scores, [0, 5])
    else:
        assert len(seen["x"]) == 3
        np.testing.assert_array_equal(seen["y"], [0, 0, 1])


@pytest.mark.parametrize("name", ["random forest", "gradient boosting", "logistic regression"])
def test_a_classifier_of_scikit_learn_scores_the_probability_of_an_anomaly(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    x[:10] += 6
    near, far = PEERS[name].run(Problem(x, np.arange(60) < 10, np.array([[0, 0], [6, 6]], np.float32), seed=0))
    assert 0 <= near < 0.5 < far <= 1


def test_all_methods_see_the_same_rows_and_labels() -> None:
    cell = Cell("toy", seed=3)
    found, truth = cell.problem()
    assert 0 < found.known.sum() < 0.02 * len(found.x)
    assert found.x.dtype == np.float32 and len(truth) == len(found.x_test)
    plan = make_plan(composer_at().settings([*cell.overrides(), *OURS["knn_ratio_raw"]]))
    source = load_data(plan)
    data = build(plan, source).data
    np.testing.assert_array_equal(data.semi_y == -1, found.known)
    np.testing.assert_array_equal(source.x_train[data.training_set.index], found.x)
    np.testing.assert_array_equal(source.x_test, found.x_test)


def test_a_quick_run_reports_ours_and_skips_what_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Peer(("no_such_library",), "no_such_library", PEERS["PyOD XGBOD"].score)
    monkeypatch.setitem(PEERS, "PyOD XGBOD", absent)
    names = ["knn_ratio_raw", "PyOD XGBOD", "random forest"]
    path = peers.main(["--quick", "--methods", *names, "--out", str(tmp_path)])
    content = json.loads(path.read_text())
    rows = {row["case"]: row for row in content["rows"]}
    assert [*rows] == ["deep_sad", "knn_ratio_raw", "random forest", "PyOD XGBOD"]
    skipped = rows.pop("PyOD XGBOD")
    assert skipped["values"] == [] and skipped["ratio"] is None
    assert skipped["note"] == f"not run: no_such_library is not installed; {INSTALL}"
    for row in rows.values():
        assert len(row["values"]) == 1 and row["median"] > 0
        assert 0 < row["more"]["AUROC"] <= 100 and 0 < row["more"]["AP"] <= 100
    assert rows["knn_ratio_raw"]["more"]["AUROC"] > 90
    assert content["machine"]["threads"] == 1
    assert "scikit-learn" in content["notes"][-1]
    assert "no_such_library is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--repeats", "2"], ["--methods", "nobody"]])
def test_wrong_options_are_refused(wrong: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["--quick", *wrong])
    assert wrong[0] in capsys.readouterr().err
