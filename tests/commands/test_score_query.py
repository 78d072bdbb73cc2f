"""score.py query=20: which training samples it asks about, in which file, and how dataset.labels uses their labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_labels import write_labeled
from own_tables import parts
from rich.console import Console
from stacks import alone

import deepsad_pl
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.common.errors import DeepSADError

SHORT = ("trainer.max_epochs=2", "logger=none", "trainer.threads=1")
TABLE = ("dataset=table", "dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", *SHORT)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query")
    parts().to_csv(folder / "parts.csv", index=False)
    return folder


def words(where: Path, *more: str) -> tuple[str, ...]:
    own = (f"dataset.path={where / 'parts.csv'}", "dataset.drop=[truth]", "dataset.id=part", f"data_dir={where}")
    return (*TABLE, *own, *more)


@pytest.fixture(scope="module")
def run_dir(where: Path) -> Path:
    return alone(where / "runs", *words(where)).run_dir


def asked(run_dir: Path, output: Path, *more: str) -> tuple[pd.DataFrame, str]:
    told = Console(file=(output.parent / "stderr").open("w"), width=200)
    said = score_new(parsed([f"run={run_dir}", "input=train", f"output={output}", *more]), told)
    return pd.read_csv(output, dtype=str, keep_default_na=False), said


def test_the_most_anomalous_unlabeled_rows_are_asked_for_first(run_dir: Path, tmp_path: Path) -> None:
    found, said = asked(run_dir, tmp_path / "ask.csv", "query=12")
    assert list(found) == ["id", "score", "quality"] and set(found["quality"]) == {""}
    frame = parts()
    score = deepsad_pl.load(run_dir).score(frame)
    unlabeled = frame["quality"].eq("").to_numpy()
    order = [row for row in np.argsort(-score, kind="stable") if unlabeled[row]][:12]
    assert found["id"].tolist() == frame["part"][order].tolist()
    assert found["score"].astype(float).to_numpy() == pytest.approx(score[order], rel=1e-5)
    assert said.startswith("12 of 378 unlabeled training samples to label, the most anomalous first")
    assert "fill in its column quality" in said and f"dataset.labels={tmp_path / 'ask.csv'}" in said


def test_uncertain_rows_are_those_nearest_to_the_threshold(run_dir: Path, tmp_path: Path) -> None:
    found, said = asked(run_dir, tmp_path / "ask.csv", "query=12", "query.by=uncertain", "threshold.alpha=0.1")
    detector, frame = deepsad_pl.load(run_dir).with_alpha(0.1), parts()
    distance = np.abs(detector.score(frame) - detector.threshold_value())[frame["quality"] == ""]
    assert f"nearest to the score {detector.threshold_value():.4g})" in said
    chosen = np.abs(found["score"].astype(float) - detector.threshold_value())
    assert chosen.to_numpy() == pytest.approx(np.sort(distance)[:12], abs=1e-5)


def test_without_a_threshold_the_summary_names_its_substitute(where: Path, tmp_path: Path) -> None:
    run = alone(where / "runs", *words(where, "threshold=none", "method=iforest_raw")).run_dir
    _, said = asked(run, tmp_path / "ask.csv", "query=5", "query.by=uncertain")
    assert "computed from the labels, since the run has no threshold" in said


@pytest.mark.parametrize("method", ["deep_sad", "ocsvm_hybrid", "iforest_raw"])
def test_diverse_rows_are_spread_over_the_candidates(method: str, where: Path, tmp_path: Path) -> None:
    run = alone(where / "runs", *words(where, f"method={method}")).run_dir
    found, _ = asked(run, tmp_path / "ask.csv", "query=5", "query.by=diverse")
    again, _ = asked(run, tmp_path / "again.csv", "query=5", "query.by=diverse")
    most, _ = asked(run, tmp_path / "most.csv", "query=50")
    assert found["id"].tolist() == again["id"].tolist()
    assert found["id"][0] == most["id"][0] and found["id"].isin(most["id"]).all()
    assert found["id"].tolist() != most["id"][:5].tolist()


def test_rows_without_names_are_identified_by_their_positions_in_the_table(where: Path, tmp_path: Path) -> None:
    plain = [word for word in words(where) if word != "dataset.id=part" and not word.startswith("dataset.drop")]
    more = ("dataset.drop=[part]", "dataset.truth=truth", "method=iforest_raw")
    run = alone(where / "runs", *plain, *more).run_dir
    found, said = asked(run, tmp_path / "ask.csv", "query=300")
    assert list(found) == ["row", "score", "quality"]
    assert "rows are counted from 0 over the whole table, since dataset.id is not set" in said
    frame, rows = parts(), found["row"].astype(int)
    assert rows.max() > 240 and (frame["quality"][rows] == "").all()
    score = deepsad_pl.load(run).score(frame.loc[rows])
    assert score == pytest.approx(found["score"].astype(float).to_numpy(), rel=1e-5)
    # The filled-in file is used as it is.
    found["quality"] = frame["truth"][rows].to_numpy()
    found.to_csv(tmp_path / "ask.csv", index=False)
    again = alone(where / "runs", *plain, *more, f"dataset.labels={tmp_path / 'ask.csv'}", "threshold=none").record
    assert again["counts"]["unlabeled"] == 0


def test_scores_get_another_name_if_the_label_column_is_called_score(where: Path, tmp_path: Path) -> None:
    parts().rename(columns={"quality": "score"}).to_csv(tmp_path / "parts.csv", index=False)
    own = [word for word in words(where) if not word.startswith(("dataset.label", "dataset.path"))]
    own += ["dataset.label=score", f"dataset.path={tmp_path / 'parts.csv'}", "method=iforest_raw"]
    found, _ = asked(alone(tmp_path / "runs", *own).run_dir, tmp_path / "ask.csv", "query=3")
    assert list(found) == ["id", "anomaly_score", "score"] and set(found["score"]) == {""}


def test_images_are_asked_for_by_path_and_fed_back(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "root")
    own = ("dataset=image_folder", f"dataset.root={root}", "dataset.image_size=16", "scenario=given", *SHORT)
    first = alone(tmp_path / "runs", *own, f"data_dir={tmp_path / 'data'}")
    found, _ = asked(first.run_dir, tmp_path / "ask.csv", "query=10")
    assert list(found) == ["path", "score", "label"]
    assert all(Path(path).is_file() for path in found["path"])
    found["label"] = ["anomaly", "normal"] * 5
    found.to_csv(tmp_path / "ask.csv", index=False)
    fed = (f"dataset.labels={tmp_path / 'ask.csv'}", f"warm_start={first.run_dir}", f"data_dir={tmp_path / 'data'}")
    before, after = (one["counts"] for one in (first.record, alone(tmp_path / "runs", *own, *fed).record))
    assert after["labeled_anomalies"] - before["labeled_anomalies"] == 5
    # Some of the normal images may be kept out for the threshold, as they were before they were labeled.
    assert after["unlabeled"] < before["unlabeled"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("query=0",), ["query is 0; it must be a whole number from 1 to 1,000,000"]),
        (("query=5", "query.by=random"), ["query.by is 'random'; choose anomalous, uncertain, diverse"]),
        (("query.by=diverse",), ["query.by is set, but without query=... no labels are asked for"]),
        (("query=5", "append=true", "explain=true"), ["append is true, but query", "explain is true, but query"]),
        (("query=few",), ["query is 'few'"]),
    ],
)
def test_wrong_arguments_are_reported(more: tuple[str, ...], told: list[str]) -> None:
    with pytest.raises(DeepSADError) as caught:
        parsed(["run=a", "input=train", "output=ask.csv", *more])
    assert [one[: len(start)] for one, start in zip(caught.value.problems, told, strict=True)] == told


def test_query_needs_training_samples_and_csv() -> None:
    with pytest.raises(DeepSADError) as caught:
        parsed(["run=a", "input=new.csv", "output=ask.parquet", "query=5"])
    assert [one.partition(";")[2].strip() for one in caught.value.problems] == [
        "give input=train",
        "give a file that ends in .csv",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("dataset=digits",), "query: there is no way to feed labels of dataset=digits back"),
        (
            ("dataset=table", "scenario=default", "scenario.normal_class=ok", "scenario.anomaly_class=scrap"),
            "query: the labels of this run were drawn from known classes",
        ),
    ],
)
def test_runs_whose_labels_cannot_be_fed_back_are_refused(
    more: tuple[str, ...], said: str, where: Path, tmp_path: Path
) -> None:
    table: tuple[str, ...] = ()
    if more[0] == "dataset=table":
        table = ("dataset.label=truth", f"dataset.path={where / 'parts.csv'}", "dataset.drop=[quality]")
        table += ("dataset.id=part", "scenario.gamma_l=0.05")
    run = alone(where / "runs", *more, *table, *SHORT, "method=iforest_raw").run_dir
    with pytest.raises(DeepSADError, match=said):
        asked(run, tmp_path / "ask.csv", "query=5")
    assert not (tmp_path / "ask.csv").exists()


def test_a_query_is_refused_if_all_samples_are_labeled(where: Path, tmp_path: Path) -> None:
    frame = parts()
    frame["quality"] = frame["truth"]
    frame.to_csv(tmp_path / "parts.csv", index=False)
    settings: dict[str, Any] = {"output_dir": tmp_path / "runs", "data_dir": tmp_path}
    own = [*words(where), f"dataset.path={tmp_path / 'parts.csv'}"]
    run = deepsad_pl.run("iforest_raw", None, own, **settings).run_dir
    with pytest.raises(DeepSADError, match="none of 400 training samples is unlabeled"):
        asked(run, tmp_path / "ask.csv", "query=5")
