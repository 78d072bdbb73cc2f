"""What could make the output of score.py wrong without a word, or lose a file that is no earlier output."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scored import refused, scored
from stacks import alone
from tiny_data import write_odds

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector.read_input import files_of
from deepsad_pl.detector.write_output import Output, output_problems

COLUMNS = [*"abcdef"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("table")
    write_odds(where, "thyroid", rows=100, outliers=20)
    words = ("dataset=thyroid", "method=iforest_raw", f"data_dir={where}", "logger=none")
    return alone(where / "runs", *words).run_dir


@pytest.fixture
def new(tmp_path: Path) -> pd.DataFrame:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 6)), columns=COLUMNS)
    frame.to_csv(tmp_path / "new.csv", index=False)
    return frame


@pytest.mark.parametrize("name", ["table.csv", "table.jsonl", "table.parquet", "notes.csv"])
def test_only_earlier_outputs_are_replaced(run_dir: Path, new: pd.DataFrame, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    frame = new if name != "notes.csv" else pd.DataFrame({"id": ["p1"], "quality": ["scrap"]})
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith("jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    before = path.read_bytes()
    told = refused(run_dir, f"input={tmp_path / 'new.csv'}", f"output={path}")
    shown = ", ".join(frame.columns)
    assert told == (
        f"output: {path} exists and has the columns {shown}, so it is no file of scores and would be lost; choose "
        "another file, or remove it first"
    )
    assert path.read_bytes() == before
    path.unlink()
    for _ in range(2):
        assert scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={path}").startswith("8 scored")


def test_the_input_and_the_scores_of_the_run_are_kept(run_dir: Path, new: pd.DataFrame, tmp_path: Path) -> None:
    for path in (tmp_path / "new.csv", run_dir / "scores.csv"):
        before = path.read_bytes()
        assert "is no file of scores" in refused(run_dir, f"input={tmp_path / 'new.csv'}", f"output={path}")
        assert path.read_bytes() == before


def test_answers_are_not_replaced_by_new_questions(tmp_path: Path) -> None:
    path = tmp_path / "ask.csv"
    path.write_text("row,score,label\n3,0.5,\n4,0.4,\n")
    assert output_problems(path, append=False, asks=True) == []
    path.write_text("row,score,label\n3,0.5,bad\n4,0.4,\n5,0.3,ok\n")
    assert output_problems(path, append=False, asks=True) == [
        f"output: {path} has 2 labels that were filled in and would be lost; choose another file"
    ]
    path.write_text("id,score,p_value,anomaly\n3,0.5,,\n")
    (problem,) = output_problems(path, append=False, asks=True)
    assert "is no file of questions about labels" in problem
    path.write_text("")
    assert output_problems(path, append=False, asks=True) == []


def test_names_of_rows_come_from_all_files_or_none(run_dir: Path, new: pd.DataFrame, tmp_path: Path) -> None:
    new.assign(id=[f"p{i}" for i in range(8)]).to_csv(tmp_path / "named.csv", index=False)
    np.savez(tmp_path / "x.npz", X=new.to_numpy())
    for other in ("new.csv", "x.npz"):
        words = f"input=[{tmp_path / 'named.csv'},{tmp_path / other}]"
        told = refused(run_dir, words, f"output={tmp_path / 'out.csv'}")
        assert told == (
            f"input: {tmp_path / 'named.csv'} has a column with the names of its rows, but {tmp_path / other} has "
            "none; score them one after the other, or number all rows with id=none"
        )


@pytest.mark.parametrize("named", [True, False])
def test_an_empty_file_comes_first(run_dir: Path, new: pd.DataFrame, tmp_path: Path, named: bool) -> None:
    frame = new.assign(id=[f"p{i}" for i in range(8)]) if named else new
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame[:0].to_csv(tmp_path / "empty.csv", index=False)
    files = f"input=[{tmp_path / 'empty.csv'},{tmp_path / 'new.csv'}]"
    assert scored(run_dir, files, f"output={tmp_path / 'out.parquet'}").startswith("8 scored")
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["id"].tolist() == (frame["id"].tolist() if named else list(range(8)))
    with Output(tmp_path / "none.parquet", "id") as output:
        output.write([], [], [], [])
    assert pd.read_parquet(tmp_path / "none.parquet").columns.tolist() == ["id", "score", "p_value", "anomaly"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["input=x.npz", "drop=[foo]", "id=bar"],
            "id and drop are set for the columns of a table, but x.npz is an ar",
        ),
        (
            ["input=x.npz", "id=none"],
            "id is set for the columns of a table, but x.npz is an array without named columns",
        ),
        (["input=train", "drop=[a]"], "drop is set, but the training samples have the columns and names of the run's"),
        (
            ["input=train", "id=none"],
            "id is set, but the training samples have the columns and names of the run's data",
        ),
    ],
)
def test_words_without_effect_are_refused(
    run_dir: Path, new: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", X=new.to_numpy())
    assert refused(run_dir, *words, "output=out.csv").startswith(told)


def test_json_lines_have_the_digits_of_csv(tmp_path: Path) -> None:
    rows: Any = (["a", "ü"], [1.23456789e-12, 4.4e-15], [0.25, np.nan], [1, pd.NA])
    for name in ("out.jsonl", "out.csv"):
        with Output(tmp_path / name, "id") as output:
            output.write(*rows)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"id": "a", "score": 1.23456789e-12, "p_value": 0.25, "anomaly": 1},
        {"id": "ü", "score": 4.4e-15, "p_value": None, "anomaly": None},
    ]
    assert pd.read_csv(tmp_path / "out.csv")["score"].tolist() == [line["score"] for line in lines]
    with Output(tmp_path / "out.jsonl", "id") as output:
        output.write([np.int64(3), pd.Timestamp("2024-01-01")], [0.5, 0.5], [0.5, 0.5], [0, 0])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [3, "2024-01-01 00:00:00"]


def test_each_file_is_scored_once(tmp_path: Path) -> None:
    (tmp_path / "photos" / "s").mkdir(parents=True)
    for place in ("a.png", "s/b.png"):
        (tmp_path / "photos" / place).write_bytes(b"")
    photos, below = tmp_path / "photos", tmp_path / "photos" / "s"
    assert files_of([photos, below, below / "b.png", photos]) == [str(photos)]
    assert files_of([below, photos / "a.png", below / ".." / "a.png"]) == [str(below), str(photos / "a.png")]
    assert files_of([f"{photos}/**"]) == [f"{photos}/"]
    assert files_of(["-", "-"]) == ["-"]
    # The folder itself yields neither arrays nor hidden images, and links are images of their own.
    array, hidden, link = photos / "x.npz", photos / ".h" / "c.png", tmp_path / "link.png"
    hidden.parent.mkdir()
    for path in (array, hidden):
        path.write_bytes(b"")
    link.symlink_to(photos / "a.png")
    assert files_of([photos, array, hidden, link]) == [str(photos), str(array), str(hidden), str(link)]


def test_tables_without_names_and_arrays_are_numbered_together(
    run_dir: Path, new: pd.DataFrame, tmp_path: Path
) -> None:
    new.assign(id=[f"p{i}" for i in range(8)], label="ok").to_csv(tmp_path / "named.csv", index=False)
    np.savez(tmp_path / "x.npz", X=new.to_numpy())
    files = f"input=[{tmp_path / 'named.csv'},{tmp_path / 'x.npz'}]"
    scored(run_dir, files, f"output={tmp_path / 'out.csv'}", "id=none", "drop=[id,label]")
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["id"].tolist() == list(range(16))
    assert found["score"].tolist()[:8] == found["score"].tolist()[8:]


def test_dates_are_no_numbers_and_masked_cells_are_empty(run_dir: Path, new: pd.DataFrame) -> None:
    detector = deepsad_pl.load(run_dir)
    days = pd.Series(pd.date_range("2024-01-01", periods=8))
    for cells in (days, days.dt.tz_localize("UTC"), days - days[0], days.dt.to_period("D"), days.astype(object)):
        with pytest.raises(DeepSADError, match=r"'?c'? holds .*, which is not a number"):
            detector.score(new.assign(c=cells))
    text = new.assign(c=new["c"].astype(str))
    assert detector.score(text).tolist() == detector.score(new).tolist()
    masked = np.ma.masked_greater(new.to_numpy(), 1.0)
    with pytest.raises(DeepSADError, match="is empty"):
        detector.score(masked)
    assert detector.score(np.ma.masked_greater(new.to_numpy(), 99.0)).tolist() == detector.score(new).tolist()
