"""A run on an own table scores new rows of the table: raw numbers, categories, empty cells, text in number columns."""

import io
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_tables import parts
from planned import EACH_METHOD
from rich.console import Console

import deepsad_pl
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector.detector import UnusualInputWarning


def run(folder: Path, method: str = "deep_sad", **settings: object) -> deepsad_pl.Result:
    parts().drop(columns="truth").to_csv(folder / "parts.csv", index=False)
    words = ["dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part"]
    return deepsad_pl.run(
        method,
        "table",
        [f"dataset.path={folder / 'parts.csv'}", *words, "trainer.max_epochs=2", "logger=none"],
        output_dir=folder / "runs",
        data_dir=folder,
        **settings,
    )


def scored(run_dir: Path, table: Path, out: Path, *words: str) -> tuple[pd.DataFrame, str]:
    with out.with_suffix(".log").open("w") as log:
        stderr = Console(file=log, width=400)
        told = score_new(parsed([f"run={run_dir}", f"input={table}", f"output={out}", *words]), stderr)
    return pd.read_csv(out), f"{out.with_suffix('.log').read_text()}{told}"


@pytest.mark.parametrize("method", EACH_METHOD)
def test_raw_rows_get_the_scores_of_the_run(method: str, tmp_path: Path) -> None:
    result = run(tmp_path, method)
    table = pd.read_csv(tmp_path / "parts.csv", keep_default_na=False)
    found, _ = scored(result.run_dir, tmp_path / "parts.csv", tmp_path / "out.csv")
    assert found["id"].tolist() == table["part"].tolist()
    assert found["score"].to_numpy() == pytest.approx(result.scores, rel=1e-5)
    assert found["anomaly"].tolist() == (found["p_value"] <= 0.05).astype(int).tolist()
    detector = deepsad_pl.load(result.run_dir)
    frame = pd.read_csv(tmp_path / "parts.csv")
    assert detector.score(frame) == pytest.approx(result.scores, rel=1e-5)
    assert (detector.predict(frame) == np.where(found["anomaly"] == 1, -1, 1)).all()


def test_new_rows_in_other_formats_and_orders_get_the_same_scores(tmp_path: Path) -> None:
    result = run(tmp_path)
    table = parts(50, scrap=1, good=1, seed=3)
    table.to_csv(tmp_path / "new.csv", index=False)
    first, _ = scored(result.run_dir, tmp_path / "new.csv", tmp_path / "first.csv")
    other = table[list(reversed(table.columns))]
    for name in ("new.tsv", "new.parquet"):
        other.to_csv(tmp_path / name, sep="\t", index=False) if name.endswith("tsv") else other.to_parquet(
            tmp_path / name
        )
        found, _ = scored(result.run_dir, tmp_path / name, tmp_path / "second.csv")
        assert found["score"].tolist() == first["score"].tolist()
        assert found["id"].tolist() == table["part"].tolist()


def test_unseen_values_are_reported_and_counted(tmp_path: Path) -> None:
    result = run(tmp_path)
    table = parts(50, scrap=1, good=1, seed=3).astype({"sensor_0": object})
    table.loc[3, "sensor_0"] = "oops"
    table.loc[4, "sensor_1"] = np.nan
    table.loc[5:6, "machine"] = "new"
    table.to_csv(tmp_path / "new.csv", index=False)
    found, told = scored(result.run_dir, tmp_path / "new.csv", tmp_path / "out.csv")
    assert found["score"].isna().tolist() == [row == 3 for row in range(50)]
    assert "row 3 of" in told and "(id P00003) cannot be scored: column 'sensor_0' holds 'oops', which is not" in told
    assert "2 rows have an unknown category in column 'machine', which no training row has" in told
    assert "1 row has no value in column 'sensor_1', which no training row has" in told
    assert "49 scored, 1 could not be scored" in told
    detector, rest = deepsad_pl.load(result.run_dir), table.drop(index=3)
    sentences = (
        "2 rows have an unknown category in column 'machine', which no training row has; 1 row has no value in column "
        "'sensor_1', which no training row has"
    )
    with pytest.warns(UnusualInputWarning, match=sentences) as caught:
        assert detector.score(rest) == pytest.approx(found["score"].drop(index=3), rel=1e-5)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.score(rest.drop(index=[4, 5, 6]).assign(surplus=1))


@pytest.mark.parametrize("truth", [False, True])
def test_training_rows_keep_the_names_of_their_table(truth: bool, tmp_path: Path) -> None:
    table = parts()
    # Unordered, and with leading zeros that a number would lose.
    table["part"] = [f"{7 * i % 400:04}" for i in range(400)]
    words = ["dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part"]
    words += ["dataset.truth=truth"] if truth else ["dataset.drop=[truth]"]
    table.to_csv(tmp_path / "parts.csv", index=False)
    words += [f"dataset.path={tmp_path / 'parts.csv'}", "trainer.max_epochs=1", "logger=none"]
    result = deepsad_pl.run("deep_sad", "table", words, output_dir=tmp_path / "runs", data_dir=tmp_path)
    detector = deepsad_pl.load(result.run_dir)
    expected = dict(zip(table["part"], detector.score(table.drop(columns=["truth", "quality"])), strict=True))
    stderr = Console(stderr=True)
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        score_new(parsed([f"run={result.run_dir}", "input=train", f"output={tmp_path / name}"]), stderr)
    text = pd.read_csv(tmp_path / "out.csv", dtype={"id": str})
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    packed = pd.read_parquet(tmp_path / "out.parquet")
    assert len(text) == (240 if truth else 400)
    assert text["id"].tolist() == [line["id"] for line in lines] == packed["id"].tolist()
    for scores in (text["score"], [line["score"] for line in lines], packed["score"]):
        assert list(scores) == pytest.approx([expected[name] for name in text["id"]], rel=1e-5)
    tested = pd.read_csv(result.run_dir / "scores.csv", dtype={"id": str}).set_index("id")["score"]
    assert tested.to_dict() == pytest.approx({name: expected[name] for name in tested.index}, rel=1e-5)
    assert {*tested.index} | {*text["id"]} == {*table["part"]}


def test_a_missing_column_is_an_error_before_any_row(tmp_path: Path) -> None:
    result = run(tmp_path)
    parts().drop(columns="sensor_2").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DeepSADError, match="lacks the column 'sensor_2', which the training data had"):
        scored(result.run_dir, tmp_path / "new.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def _copied(run_dir: Path, folder: Path) -> Path:
    """The detector without its run."""
    shutil.copytree(run_dir / "detector", folder / "detector")
    return folder


def test_a_damaged_description_of_a_detector_is_told_when_alpha_changes(tmp_path: Path) -> None:
    facts = run(tmp_path).run_dir / "detector" / "detector.json"
    for damaged in ("{", "[]"):
        facts.write_text(damaged)
        with pytest.raises(DeepSADError, match=r"detector\.json is damaged \(.*\); remove .*detector, and"):
            run(tmp_path, alpha=0.1)
        assert facts.read_text() == damaged
    record = json.loads((facts.parents[1] / "metrics.json").read_text())
    assert record["threshold"]["alpha"] == 0.05
    shutil.rmtree(facts.parent)
    assert run(tmp_path, alpha=0.1).record["threshold"]["alpha"] == 0.1
    assert deepsad_pl.load(facts.parents[1]).threshold.alpha == 0.1


def test_a_detector_has_the_latest_alpha_of_its_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = run(tmp_path)
    assert deepsad_pl.load(result.run_dir).threshold.alpha == 0.05
    weights = (result.run_dir / "detector" / "module.ckpt").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        again = run(tmp_path, alpha=0.1)
    assert again.was_finished and again.run_dir == result.run_dir
    assert (result.run_dir / "detector" / "module.ckpt").stat().st_mtime_ns == weights
    record = json.loads((result.run_dir / "metrics.json").read_text())["threshold"]
    assert record["alpha"] == 0.1
    told = f"the threshold is now {record['value']:g} (kind conformal, alpha 0.1), without training: {result.run_dir}"
    assert told in caplog.messages
    copied = deepsad_pl.load(_copied(result.run_dir, tmp_path / "elsewhere"))
    assert copied.threshold.alpha == 0.1 and copied.threshold_value() == record["value"]
    assert json.loads((result.run_dir / "detector" / "detector.json").read_text())["threshold"] == record
    detector = deepsad_pl.load(result.run_dir)
    assert detector.threshold.alpha == 0.1
    found, told = scored(result.run_dir, tmp_path / "parts.csv", tmp_path / "out.csv")
    assert "at alpha 0.1" in told
    assert found["anomaly"].tolist() == (found["p_value"] <= 0.1).astype(int).tolist()
    assert found["anomaly"].sum() > (found["p_value"] <= 0.05).sum()


def test_a_table_without_the_ids_of_the_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = run(tmp_path), tmp_path / "out.csv"
    table = parts(50, scrap=1, good=1, seed=3)
    scored(result.run_dir, tmp_path / "parts.csv", out)
    before = out.read_bytes()
    table.rename(columns={"part": "Part"}).to_csv(tmp_path / "new.csv", index=False)
    asked = "lacks the column 'part', which had the names of the training rows (dataset.id); did you mean Part? Give"
    way_out = re.escape(f"{asked} id=<column>, or id=none to number the rows from 0")
    with pytest.raises(DeepSADError, match=way_out):
        scored(result.run_dir, tmp_path / "new.csv", out, "append=true")
    text = (tmp_path / "new.csv").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    with pytest.raises(DeepSADError, match=f"input: standard input: it {way_out}"):
        scored(result.run_dir, Path("-"), out, "append=true")
    table.drop(columns=["part", "sensor_2"]).to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(DeepSADError) as caught:
        scored(result.run_dir, tmp_path / "less.csv", out)
    assert [problem.split(",")[0].partition(": it ")[2] for problem in caught.value.problems] == [
        "lacks the column 'part'",
        "lacks the column 'sensor_2'",
    ]
    assert "dataset.id); give id=<column>" in caught.value.problems[0]
    assert out.read_bytes() == before
    found, _ = scored(result.run_dir, tmp_path / "new.csv", out, "id=Part")
    assert found["id"].tolist() == table["part"].tolist()
    for word in ("none", "null"):
        found, _ = scored(result.run_dir, tmp_path / "new.csv", out, f"id={word}")
        assert found["id"].tolist() == [*range(50)]
    # Scores alone need no names.
    assert deepsad_pl.load(result.run_dir).score(tmp_path / "new.csv") == pytest.approx(found["score"], rel=1e-6)


def test_a_wrong_table_is_described_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = run(tmp_path), tmp_path / "out.csv"
    headless = parts(20, scrap=1, good=1, seed=3).to_csv(index=False, header=False).encode()
    (tmp_path / "headless.csv").write_bytes(headless)
    for table, shown in ((Path("-"), "standard input"), (tmp_path / "headless.csv",) * 2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(headless)))
        with pytest.raises(DeepSADError) as caught:
            scored(result.run_dir, table, out)
        (problem,) = caught.value.problems
        assert problem.startswith(f"input: {shown}: it has none of the training columns sensor_0, sensor_1, sensor_2")
        assert "is the first line a header?" in problem
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DeepSADError, match=r"^standard input is empty"):
        scored(result.run_dir, Path("-"), out)
    for key, word in (("drop", "drop=[sensor_1]"), ("id", "id=sensor_1")):
        with pytest.raises(DeepSADError, match=f"{key} names the column 'sensor_1', which the detector needs"):
            scored(result.run_dir, tmp_path / "parts.csv", out, word)
    with pytest.raises(DeepSADError, match=r"it has no column 'qualty'; did you mean quality\?"):
        scored(result.run_dir, tmp_path / "parts.csv", out, "drop=[qualty]")
    assert not out.exists()


def test_an_array_of_another_width_than_the_table_is_refused(tmp_path: Path) -> None:
    detector = deepsad_pl.load(run(tmp_path).run_dir)
    (encoded,) = detector.facts.inputs.shape
    assert encoded != 6
    for x in (np.zeros((3, 9)), np.zeros((3, encoded)), np.zeros((0, 5)), np.zeros(6), np.zeros((3, 6, 1))):
        with pytest.raises(DeepSADError, match=r"give cells of shape \(n, 6\)") as caught:
            detector.score(x)
        assert f"x has the shape {x.shape} and the type float64, but the detector scores rows" in str(caught.value)
    cells = parts(20, scrap=1, good=1, seed=3)[list(detector.facts.inputs.feature_names)]
    assert detector.score(cells.to_numpy()) == pytest.approx(detector.score(cells))
