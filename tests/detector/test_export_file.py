"""An exported detector gives the scores of the run it comes from, without this package's code."""

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from own_tables import parts
from planned import METHODS, slow_but
from sklearn.datasets import load_digits

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.sources import split_rows
from deepsad_pl.detector.detector import Detector, UnusualInputWarning
from deepsad_pl.detector.export_file import METADATA, PARITY, export, onnx_scorer, program_scorer
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.shallow.models import KernelModel

CATEGORIES = ["A", "B", "C"]
FEATURES = ["sensor_0", "sensor_1", "sensor_2", "sensor_3", "machine", "checked"]


def trained(folder: Path, method: str = "deep_sad", *overrides: str) -> deepsad_pl.Result:
    parts().drop(columns="truth").to_csv(folder / "parts.csv", index=False)
    words = ["dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part"]
    settings = [f"dataset.path={folder / 'parts.csv'}", *words, "trainer.max_epochs=2", "logger=none", *overrides]
    return deepsad_pl.run(method, "table", settings, output_dir=folder / "runs", data_dir=folder)


def as_numbers(table: pd.DataFrame) -> np.ndarray:
    """The rows as input of the exported file, made with pandas only."""
    codes = pd.Categorical(table["machine"], CATEGORIES).codes
    return table.assign(machine=codes, checked=table["checked"].astype(float))[FEATURES].to_numpy(np.float64)


@pytest.mark.parametrize("method", slow_but(("deep_sad", "ocsvm_raw"), METHODS))
def test_exported_scores_of_a_table_equal_those_of_the_run(method: str, tmp_path: Path) -> None:
    result = trained(tmp_path, method)
    detector, x = deepsad_pl.load(result.run_dir), as_numbers(parts())
    for kind, suffix, read in (("onnx", ".onnx", onnx_scorer), ("torch_export", ".pt2", program_scorer)):
        path = tmp_path / f"detector{suffix}"
        export(detector, path, kind)  # type: ignore[arg-type]
        score = read(path)
        scale = np.abs(result.scores).max()
        assert score(x) == pytest.approx(result.scores, rel=1e-5, abs=1e-5 * scale)
        for batch in (x[:1], x[7:20]):
            assert score(batch).shape == (len(batch),)
        assert score(x[7:20]) == pytest.approx(result.scores[7:20], rel=1e-5, abs=1e-5 * scale)


IMAGE_METHODS = ("deep_sad", "autoencoder", "ss_dgm_m1m2", "ssad_hybrid", "iforest_raw")


@pytest.mark.parametrize("method", slow_but(("deep_sad",), IMAGE_METHODS))
def test_exported_scores_of_images_equal_those_of_the_run(method: str, tmp_path: Path) -> None:
    overrides = ["trainer.max_epochs=2", "logger=none"]
    result = deepsad_pl.run(method, "digits", overrides, gamma_l=0.05, output_dir=tmp_path)
    data = load_digits()
    x = data.images.astype(np.uint8)[split_rows(data.target, 0)[1]][:, None]
    for kind, suffix, read in (("onnx", ".onnx", onnx_scorer), ("torch_export", ".pt2", program_scorer)):
        path = tmp_path / f"detector{suffix}"
        metadata = export(deepsad_pl.load(result.run_dir), path, kind)  # type: ignore[arg-type]
        assert metadata["input"] == {"name": "x", "type": "uint8", "shape": [1, 8, 8]}
        assert read(path)(x) == pytest.approx(result.scores, rel=1e-5, abs=1e-5 * np.abs(result.scores).max())


def test_rows_that_cannot_be_scored_get_nan_and_unknown_categories_zeros(tmp_path: Path) -> None:
    detector, table = deepsad_pl.load(trained(tmp_path).run_dir), parts(20, scrap=1, good=1, seed=3)
    export(detector, tmp_path / "detector.onnx", "onnx")
    score, x = onnx_scorer(tmp_path / "detector.onnx"), as_numbers(table)
    usual = score(x)
    x[2, 5], x[3, 0], x[4, 1] = 2, np.inf, -np.inf
    found = score(x)
    assert np.isnan(found).nonzero()[0].tolist() == [2, 3, 4]
    assert np.delete(found, [2, 3, 4]).tolist() == np.delete(usual, [2, 3, 4]).tolist()
    x = as_numbers(table)
    x[:5, 4] = [-1, 3, 99, 0.5, np.nan]
    x[6, 0] = np.nan
    table.loc[:3, "machine"] = "new"
    table.loc[4, "machine"] = None
    table.loc[6, "sensor_0"] = np.nan
    with pytest.warns(UnusualInputWarning, match="4 rows have an unknown category in column 'machine'"):
        expected = detector.score(table)
    assert score(x) == pytest.approx(expected, rel=1e-5)


def test_the_file_says_what_a_program_needs_to_know(tmp_path: Path) -> None:
    result = trained(tmp_path)
    detector = deepsad_pl.load(result.run_dir)
    metadata = export(detector, tmp_path / "a.onnx", "onnx")
    export(detector, tmp_path / "a.pt2", "torch_export")
    (entry,) = onnx.load(tmp_path / "a.onnx").metadata_props
    assert entry.key == METADATA and json.loads(entry.value) == metadata
    extra = {METADATA: ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra[METADATA]) == metadata
    kinds = ["number"] * 4 + ["category", "boolean"]
    assert [(one["name"], one["kind"]) for one in metadata["columns"]] == list(zip(FEATURES, kinds, strict=True))
    assert metadata["columns"][4]["categories"] == CATEGORIES
    assert metadata["threshold"] == {
        "kind": "conformal",
        "share": 0.2,
        "alpha": 0.05,
        "score": metadata["threshold"]["score"],
    }
    raised = metadata["threshold"]["score"] / detector.threshold_value() - 1
    assert 0 < raised <= 2 * PARITY
    assert (result.scores > metadata["threshold"]["score"]).tolist() == (detector.predict(parts()) == -1).tolist()
    assert torch.__version__.startswith(metadata["versions"]["torch"])
    assert metadata["method"] == "deep_sad" and metadata["hash"] in result.run_dir.name


class _OwnModel(KernelModel):
    """A model whose class is not from the package."""


class _Branching(DeepSADModule):
    """A module with a score that torch cannot trace."""

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return super().score(x) * (2 if float(x.sum()) > 0 else 1)


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_an_untraceable_model_is_reported_in_one_sentence_and_leaves_no_file(kind: str, tmp_path: Path) -> None:
    detector = deepsad_pl.load(trained(tmp_path).run_dir)
    assert detector.module is not None
    branching = _Branching(**detector.module.hparams)
    branching.load_state_dict(detector.module.state_dict())
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(DeepSADError, match=rf"cannot be exported as {kind} \(.*\); score with score.py") as caught:
        export(Detector(detector.facts, branching, None), folder / "a.onnx", kind)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def test_a_model_from_outside_is_refused(tmp_path: Path) -> None:
    detector = deepsad_pl.load(trained(tmp_path, "ssad_raw").run_dir)
    assert isinstance(detector.model, KernelModel)
    own = _OwnModel(detector.model.rows, detector.model.coef, detector.model.gamma, detector.model.offset)
    with pytest.raises(DeepSADError, match="_OwnModel computes its scores outside torch, so it cannot be exported"):
        export(Detector(detector.facts, None, own), tmp_path / "a.onnx", "onnx")


def test_wrong_scores_of_a_file_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = deepsad_pl.load(trained(tmp_path).run_dir)
    scored = Detector.score
    monkeypatch.setattr(Detector, "score", lambda self, x: scored(self, x) * 1.0001)
    with pytest.raises(DeepSADError, match=r"the exported scores differ .* by a relative 1\.\de-04, more than 1e-05"):
        export(detector, tmp_path / "a.onnx", "onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("method", slow_but(("deep_sad",), ("deep_sad", "autoencoder")))
def test_a_score_that_the_detector_refuses_because_it_overflows_is_nan(method: str, tmp_path: Path) -> None:
    detector, table = deepsad_pl.load(trained(tmp_path, method).run_dir), parts(20, scrap=1, good=1, seed=3)
    table.loc[3, "sensor_0"] = 1e30
    with pytest.raises(DeepSADError, match="row 3: its score is inf: its values are too far from the training data"):
        detector.score(table)
    x = as_numbers(table)
    for kind, suffix, read in (("onnx", ".onnx", onnx_scorer), ("torch_export", ".pt2", program_scorer)):
        path = tmp_path / f"detector{suffix}"
        export(detector, path, kind)  # type: ignore[arg-type]
        found = read(path)(x)
        assert np.flatnonzero(np.isnan(found)).tolist() == [3]
        assert np.delete(found, 3) == pytest.approx(detector.score(table.drop(index=3)), rel=1e-5)
