"""The toy data of Figure 1, and the figure from runs on them."""

import csv
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from planned import METHODS, plan_of, settings_of
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tiny_data import write_odds

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.sources import Source, table_set
from deepsad_pl.data.toy import ANOMALIES, CENTERS, CLASSES, CLUSTER_STD, NORMALS, toy_table
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.experiment.run import run_experiment
from deepsad_pl.report import toy_figure
from deepsad_pl.report.toy_figure import Cloud, ToyPanel, draw_study, draw_toy, plane_around, score_grid

TOY = ("dataset=toy", "scenario.normal_class=normal", "scenario.anomaly_class=known", "scenario.gamma_l=0.05")
SHORT = ("logger=none", "trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1")
SVG = "{http://www.w3.org/2000/svg}"

Finished = Callable[..., Plan]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run an experiment on the toy data for one epoch and return its plan; a finished one is not run again."""
    folder = tmp_path_factory.mktemp("runs")

    def run(method: str, *overrides: str) -> Plan:
        settings = settings_of(*TOY, *SHORT, f"method={method}", f"output_dir={folder}", *overrides)
        plan = make_plan(settings)
        run_experiment(plan, config=settings, config_yaml=OmegaConf.to_yaml(settings), command="a test")
        return plan

    return run


def toy_source(seed: int = 0, scaling: Any = "zscore") -> Source:
    return table_set("toy", data_dir=Path("nowhere"), seed=seed, scaling=scaling)


def scores_of(plan: Plan) -> np.ndarray:
    with (plan.run_dir / "scores.csv").open(newline="") as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def wrapped_again(texts: list[str]) -> list[str]:
    """Join a last word that was wrapped to its title."""
    joined: list[str] = []
    for text in texts:
        if joined and joined[-1].startswith("(") and text == "Hybrid":
            joined[-1] += f" {text}"
        else:
            joined.append(text)
    return joined


def texts_of(svg: Path) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ET.parse(svg).iter(f"{SVG}text")]


def test_the_seed_determines_the_data() -> None:
    one, again, other = toy_table(3), toy_table(3), toy_table(4)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.isclose(one[0], other[0]).any(axis=1).any()


def test_the_classes_agree_with_the_config() -> None:
    assert list(CLASSES) == settings_of(*TOY)["dataset"]["classes"]


def test_counts_and_the_split_by_class() -> None:
    x, labels = toy_table(0)
    assert x.shape == (1900, 2)
    assert np.bincount(labels).tolist() == [NORMALS, ANOMALIES, ANOMALIES, ANOMALIES]
    source = toy_source()
    assert np.bincount(source.labels_train).tolist() == [600, 180, 180, 180]
    assert np.bincount(source.labels_test).tolist() == [400, 120, 120, 120]


def test_each_row_is_in_exactly_one_part() -> None:
    source = toy_source(5)
    train, test = ({tuple(row) for row in part.tolist()} for part in (source.x_train, source.x_test))
    assert not train & test
    assert len(train | test) == len(toy_table(5)[0])


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_scaling_is_the_same_as_for_other_tables(scaling: Any) -> None:
    x = toy_source(scaling=scaling).x_train
    if scaling == "minmax":
        assert np.allclose((x.min(axis=0), x.max(axis=0)), [[0, 0], [1, 1]], atol=1e-6)
    else:
        assert np.allclose((x.mean(axis=0), x.std(axis=0)), [[0, 0], [1, 1]], atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_classes_lie_as_in_figure_1(seed: int) -> None:
    x, labels = toy_table(seed)
    normal, known, left, right = (x[labels == i] for i in range(4))
    for name, rows in zip(CLASSES[1:], (known, left, right), strict=True):
        assert np.allclose(rows.mean(axis=0), CENTERS[name], atol=4 * CLUSTER_STD / ANOMALIES**0.5)
    middle = normal.mean(axis=0)
    assert (left < middle).mean() == 1
    assert (right[:, 0] > middle[0]).all()
    assert (right[:, 1] < middle[1]).all()
    # The known anomalies lie within the bounding box of the normals, the novel ones outside of all other rows.
    assert ((known > normal.min(axis=0)) & (known < normal.max(axis=0))).all(axis=1).mean() > 0.99
    apart = NearestNeighbors(n_neighbors=1).fit(np.concatenate([normal, known])).kneighbors
    assert min(apart(rows)[0].min() for rows in (left, right)) > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_scores_at_the_test_rows_equal_those_of_the_run(finished: Finished, method: str) -> None:
    plan = finished(method)
    source = load_data(plan)
    scores = score_grid(plan, source, source.x_test)
    assert scores.dtype == np.float64
    assert np.ptp(scores) > 0
    assert np.allclose(scores, scores_of(plan), rtol=1e-5, atol=1e-5)


def test_a_figure_has_one_panel_per_method_in_the_given_order(finished: Finished, tmp_path: Path) -> None:
    plans = [finished(method) for method in ("ocsvm_raw", "classifier", "ssad_hybrid", "deep_sad")]
    written = draw_study(tmp_path / "new", plans)
    assert [path.name for path in written] == ["figure.png", "figure.svg"]
    # A title that is wider than its panel goes on in the next line.
    titles = [text for text in wrapped_again(texts_of(written[1])) if text.startswith(("(", "AUROC"))]
    auroc = [f"AUROC {100 * roc_auc_score(load_data(p).labels_test > 0, scores_of(p)):.1f}%" for p in plans]
    names = ["Unsupervised: OC-SVM Raw", "Supervised: Classifier", "Semi-supervised: SSAD Hybrid"]
    expected = [
        f"({letter}) {name}" for letter, name in zip("bcde", [*names, "Semi-supervised: Deep SAD"], strict=True)
    ]
    assert titles[0] == "(a) Training data"
    assert titles[1::2] == expected
    # The kernel methods' hyper-parameters were selected with test labels.
    informed = [", test-informed", "", ", test-informed", ""]
    assert titles[2::2] == [f"{value}{mark}" for value, mark in zip(auroc, informed, strict=True)]
    with Image.open(written[0]) as image:
        assert image.size[0] > 2000
        assert len(set(image.convert("L").resize((200, 50)).tobytes())) > 20


def test_the_legend_and_the_counts_describe_the_points(finished: Finished, tmp_path: Path) -> None:
    texts = texts_of(draw_study(tmp_path, [finished("ocsvm_raw"), finished("classifier")])[1])
    assert "600 unlabeled, 31 labeled" in texts
    assert {"known anomaly class", "novel anomaly class", "region deemed normal"} < set(texts)


def test_the_same_runs_give_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    plans = [finished("deep_sad"), finished("kde_raw")]
    one, again = (draw_study(tmp_path / name, plans) for name in ("one", "again"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in again]


def test_settings_that_differ_from_the_study_are_named_above_the_panels(finished: Finished, tmp_path: Path) -> None:
    words = ["trainer.max_epochs=1", "method.eta=2"]
    assert "run with trainer.max_epochs=1 method.eta=2" in texts_of(
        draw_study(tmp_path, [finished("deep_sad")], run_with=words)[1]
    )


def test_other_seeds_have_different_data_and_are_left_out(finished: Finished, tmp_path: Path) -> None:
    plans = [finished("deep_sad", "seed=7"), finished("deep_sad"), finished("classifier", "seed=7")]
    titles = [text for text in texts_of(draw_study(tmp_path, plans)[1]) if text.startswith("(")]
    assert titles == ["(a) Training data", "(b) Semi-supervised: Deep SAD", "(c) Supervised: Classifier"]


def test_without_a_boundary_95_percent_of_the_unlabeled_rows_are_normal(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[ToyPanel] = []
    monkeypatch.setattr(toy_figure, "draw_toy", lambda *args: drawn.extend(args[4]) or [])
    plan = finished("ocsvm_raw", "scenario.gamma_p=0.1")
    draw_study(tmp_path, [plan, finished("classifier", "scenario.gamma_p=0.1")])
    source, rows = load_data(plan), build(plan, load_data(plan)).data.training_set.index
    assert len(rows) == 666  # 600 normals and a tenth of pollution
    assert (score_grid(plan, source, source.x_train[rows]) <= drawn[0].threshold).mean() == pytest.approx(
        0.95, abs=2e-3
    )
    assert drawn[1].threshold == 0


def test_a_panel_shades_what_exceeds_its_threshold(tmp_path: Path) -> None:
    rows = Cloud(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 2]))
    plane = plane_around(rows.x)
    slope = plane.points.sum(axis=1).reshape(len(plane.vertical), -1)

    def share(threshold: float) -> float:
        """The shares of the normal region's color in the second panel's upper left and lower right."""
        (png, _) = draw_toy(tmp_path, rows, rows, plane, [ToyPanel("a title", slope, threshold)])
        with Image.open(png) as image:
            pixels = np.asarray(image.convert("RGB"))
        half = pixels[:, pixels.shape[1] // 2 :]
        return float((half == (0xE6, 0xF3, 0xFC)).all(axis=2).mean())

    shares = [share(threshold) for threshold in (-9.0, 0.5, 1.0, 1.5, 9.0)]
    assert shares == sorted(shares)
    # At the two extremes, only the legend's patch or the whole panel has that color.
    assert shares[0] < 0.02
    assert shares[-1] > 0.5
    assert shares[2] == pytest.approx((shares[0] + shares[-1]) / 2, abs=0.02)


def test_each_score_is_drawn_at_its_point_of_the_plane() -> None:
    plane = plane_around(np.array([[0.0, 10.0], [2.0, 30.0]]))
    assert plane.points.shape == (len(plane.vertical) * len(plane.horizontal), 2)
    grid = plane.points.reshape(len(plane.vertical), len(plane.horizontal), 2)
    assert np.array_equal(grid[3, :, 0], plane.horizontal)
    assert np.array_equal(grid[:, 3, 1], plane.vertical)
    assert plane.horizontal[0] < 0 < 2 < plane.horizontal[-1]
    assert plane.vertical[0] < 10 < 30 < plane.vertical[-1]


def test_an_unfinished_experiment_is_reported(finished: Finished, tmp_path: Path) -> None:
    plan = replace(finished("ocsvm_raw"), run_dir=tmp_path / "empty")
    with pytest.raises(DeepSADError, match=r"empty holds no record, .* not finished"):
        draw_study(tmp_path, [plan])
    with pytest.raises(DeepSADError, match="not finished"):
        score_grid(plan, toy_source(), np.zeros((1, 2)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "file"), [("deep_sad", "last.ckpt"), ("ssad_hybrid", "pretrain.ckpt"), ("ssad_hybrid", "model.npz")]
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_model_is_reported(finished: Finished, tmp_path: Path, method: str, file: str, damage: str) -> None:
    plan = finished(method)
    plan = replace(plan, run_dir=shutil.copytree(plan.run_dir, tmp_path / "run"))
    path = plan.run_dir / "checkpoints" / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DeepSADError, match=file):
        score_grid(plan, load_data(plan), np.zeros((1, 2)))


def test_having_no_experiment_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="no finished experiment"):
        draw_study(tmp_path, [])


def test_data_outside_the_plane_are_reported(tmp_path: Path) -> None:
    write_odds(tmp_path, "thyroid")
    with pytest.raises(DeepSADError, match=r"dataset=thyroid has samples of shape \(6,\)"):
        draw_study(tmp_path, [plan_of("dataset=thyroid", f"data_dir={tmp_path}", "scenario.gamma_l=0.1")])
