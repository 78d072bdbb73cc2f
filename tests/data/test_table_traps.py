"""What could make the results of a table wrong without a word: spellings, labels, files and columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.marks import semi_labels, truths
from deepsad_pl.data.own_table import class_names, own_table, table_problems
from deepsad_pl.data.sources import as_source
from deepsad_pl.data.table_files import read_table, table_chunks

pytestmark = pytest.mark.unit
SETTINGS = {"path": "", "test_path": None, "label": None, "truth": None, "id": None, "drop": []}
SETTINGS |= {"normal": [], "anomaly": [], "labels": None}


def written(folder: Path, name: str, **columns: Any) -> str:
    pd.DataFrame(columns).to_csv(folder / name, index=False)
    return str(folder / name)


def numbers(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


def test_test_rows_keep_the_spelling_of_categories(tmp_path: Path) -> None:
    """Machine 01 is a number to whoever sees only the test rows."""
    machines = ["01", "02", "A1", "1e3"] * 25
    path = written(tmp_path, "train.csv", x=numbers(100), machine=machines)
    tested = written(tmp_path, "test.csv", x=numbers(3), machine=["01", "02", "1e3"])
    source = own_table(path, given=True, seed=0, test_path=tested)
    assert source.warned == ()
    assert source.x_test[:, 1:].tolist() == source.x_train[[0, 1, 3], 1:].tolist()
    assert source.x_test[:, 1:].sum(axis=1).tolist() == [1, 1, 1]


def test_whole_numbers_with_decimals_are_the_same_category(tmp_path: Path) -> None:
    """pandas writes them so if another cell of the column is empty."""
    path = written(tmp_path, "train.csv", x=numbers(100), m=["1", "2", "A", None] * 25, b=["true", "false"] * 50)
    tested = written(tmp_path, "test.csv", x=numbers(3), m=[1, 2, None], b=[1, 0, 1])
    assert "1.0" in Path(tested).read_text()
    source = own_table(path, given=True, seed=0, test_path=tested)
    assert source.warned == ()
    assert source.x_test[:, 1].tolist() == source.x_train[[0, 1, 0], 1].tolist()
    assert source.x_test[:, 2:].tolist() == source.x_train[[0, 1, 3], 2:].tolist()


def test_what_no_training_row_has_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "train.csv", x=numbers(100), machine=["A", "B"] * 50)
    tested = written(tmp_path, "test.csv", x=[0.5, None, 0.5], machine=["A", "C", "D"])
    source = own_table(path, given=True, seed=0, test_path=tested)
    assert source.warned == (
        "2 test rows have a category in column 'machine' that no training row has; it is encoded as zeros, which may "
        "look anomalous",
        "1 test row has no value in column 'x', unlike all training rows",
    )


def test_a_truth_with_other_values_than_the_labels_is_not_answered_with_names_that_turn_the_labels_around() -> None:
    labels, truth = ["-1", "0", "1"] * 10, ["0"] * 25 + ["1"] * 5
    told = r"dataset\.truth=t has the values '1' \(5\), '0' \(25\) but no -1, .*write the truth of an anomaly as -1, of"
    with pytest.raises(DeepSADError, match=told):
        truths(truth, [], [], key="dataset.truth=t", strict=False, labels=labels, label="dataset.label=q")
    with pytest.raises(
        DeepSADError, match=r"but dataset\.anomaly names -1, which none has, and 0 would mean anomaly; "
    ):
        truths(truth, ["1"], ["-1"], key="dataset.truth=t", strict=False, labels=labels, label="q")
    found = truths(["-1", "1", ""], [], [], key="dataset.truth=t", strict=False, labels=labels, label="q")
    assert found.tolist() == [1, 0, -1]
    # -1 for unlabeled rows beside the classes 0 and 1, as in scikit-learn.
    assert semi_labels(labels[:3], ["0"], ["1"], key="q").tolist() == [0, 1, -1]
    assert truths(["0", "1"], ["0"], ["1"], key="t", strict=False, labels=labels, label="q").tolist() == [0, 1]


def test_the_normal_label_may_occur_in_the_truth_alone(tmp_path: Path) -> None:
    columns = {"x": numbers(100), "q": ["scrap"] * 5 + [None] * 95, "t": ["scrap"] * 10 + ["ok"] * 90}
    path = written(tmp_path, "parts.csv", **columns)
    asked: Any = {"label": "q", "truth": "t", "anomaly": ["scrap"]}
    source = own_table(path, given=True, seed=0, normal=["ok"], **asked)
    assert np.unique(source.labels_test, return_counts=True)[1].tolist() == [36, 4]
    assert source.semi_y_train is not None and set(source.semi_y_train.tolist()) == {0, -1}
    with pytest.raises(DeepSADError, match=r"dataset\.normal names 'okk', but dataset\.label=q has the labels"):
        own_table(path, given=True, seed=0, normal=["okk"], **asked)
    with pytest.raises(DeepSADError, match=r"dataset\.anomaly names 'crack', but dataset\.label=q has the labels"):
        own_table(path, given=True, seed=0, normal=["ok"], **{**asked, "anomaly": ["crack"]})


def test_names_that_the_command_line_turns_into_values_are_found_in_both_columns() -> None:
    found = semi_labels(["false", "true", ""], [False], [True], key="q", others=["false", "true", "false"])
    assert found.tolist() == [1, -1, 0]
    marks = ["false", "true"]
    assert truths(marks, [False], [True], key="t", strict=False, labels=marks, label="q").tolist() == [0, 1]
    assert truths(marks, [False], [True], key="t", strict=True, labels=marks, label="q").tolist() == [0, 1]


@pytest.mark.parametrize(("normal", "anomaly", "labels"), [(["ok"], ["bad"], ("ok", "bad")), ([], [], ("1", "-1"))])
def test_test_rows_of_one_kind_have_a_truth(
    tmp_path: Path, normal: list[str], anomaly: list[str], labels: tuple[str, str]
) -> None:
    path = written(tmp_path, "train.csv", x=numbers(40), q=[*labels, None, None] * 10)
    tested = written(tmp_path, "test.csv", x=numbers(10), q=[labels[0]] * 10)
    asked: Any = {"label": "q", "truth": "q", "normal": normal, "anomaly": anomaly}
    assert own_table(path, given=True, seed=0, test_path=tested, **asked).labels_test.tolist() == [0] * 10
    if normal:
        tested = written(tmp_path, "test.csv", x=numbers(10), q=["OK"] * 10)
        with pytest.raises(DeepSADError, match=r"'ok' is named, but dataset\.truth=q has 'OK'; did you mean OK"):
            own_table(path, given=True, seed=0, test_path=tested, **asked)


def test_names_that_an_empty_column_of_labels_lacks_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "parts.csv", x=numbers(40), q=[None] * 40)
    with pytest.raises(
        DeepSADError, match=r"dataset\.normal names 'okk', but dataset\.label=q has the labels no label"
    ):
        own_table(path, given=True, seed=0, label="q", normal=["okk"], anomaly=["badd"])


@pytest.mark.parametrize("column", [True, False])
def test_the_first_answers_may_be_of_one_kind(tmp_path: Path, column: bool) -> None:
    more = {"quality": [None] * 40} if column else {}
    path = written(tmp_path, "parts.csv", x=numbers(40), part=[f"p{i}" for i in range(40)], **more)
    answers = written(tmp_path, "answers.csv", part=["p3", "p7"], **{"quality" if column else "label": ["bad", "bad"]})
    asked: Any = {"id": "part", "labels": answers, "normal": ["ok"], "anomaly": ["bad"]}
    if column:
        asked["label"] = "quality"
    assert list(table_problems({**SETTINGS, "path": path, **asked})) == []
    source = own_table(path, given=True, seed=0, **asked)
    assert source.semi_y_train is not None
    assert np.flatnonzero(source.semi_y_train).tolist() == [3, 7]
    assert source.semi_y_train[3] == -1


def test_a_word_for_no_value_is_no_anomaly() -> None:
    for word in ("NA", "NaN", "None"):
        with pytest.raises(DeepSADError, match=rf"^t has '{word}' in 2 rows, which would mean anomaly; leave a cell"):
            truths(["ok", word, word, "crack"], ["ok"], [], key="t", strict=False)
    assert truths(["ok", "NA", "crack"], ["ok"], ["NA"], key="t", strict=False).tolist() == [0, 1, 1]
    assert truths(["None", "crack"], ["None"], [], key="t", strict=False).tolist() == [0, 1]


def arrays(folder: Path, y: np.ndarray) -> str:
    np.savez(folder / "a.npz", X=np.stack([numbers(len(y)), numbers(len(y), 1)], axis=1), y=y)
    return str(folder / "a.npz")


def parquet(folder: Path, y: np.ndarray) -> str:
    pq.write_table(pa.table({"x0": numbers(len(y)), "y": pa.array(y)}), folder / "a.parquet")  # NaN, not null
    return str(folder / "a.parquet")


@pytest.mark.parametrize("save", [arrays, parquet])
def test_nan_is_no_label(tmp_path: Path, save: Callable[[Path, np.ndarray], str]) -> None:
    path = save(tmp_path, np.array([0.0] * 50 + [1.0] * 10 + [np.nan] * 40))
    source = own_table(path, given=True, seed=0, truth="y", normal=["0"])
    assert dict(zip(*np.unique(source.labels_test, return_counts=True), strict=True)) == {-1: 16, 0: 20, 1: 4}
    path = save(tmp_path, np.array([1.0, -1.0] + [np.nan] * 98))
    source = own_table(path, given=True, seed=0, label="y")
    assert source.semi_y_train is not None and source.semi_y_train[:3].tolist() == [1, -1, 0]


def test_labels_of_arrays_are_no_feature(tmp_path: Path) -> None:
    path = arrays(tmp_path, np.array([0, 1] * 20))
    told = (
        f"{path} has labels y, which would be learned from, since no setting names them; name them with dataset.label"
    )
    assert [problem[: len(told)] for problem in table_problems({**SETTINGS, "path": path})] == [told]
    with pytest.raises(DeepSADError, match="has labels y, which would be learned from"):
        own_table(path, given=True, seed=0)
    assert own_table(path, given=True, seed=0, drop=["y"]).columns == ("x0", "x1")
    first = written(tmp_path, "first.csv", x0=numbers(40), x1=numbers(40), y=[0, 1] * 20)
    (problem,) = table_problems({**SETTINGS, "path": [first, path]})
    assert problem.startswith(told)


def test_a_file_counts_once(tmp_path: Path) -> None:
    paths = [written(tmp_path, f"day{i}.csv", x=numbers(30, i)) for i in range(3)]
    every = str(tmp_path / "day*.csv")
    (problem,) = table_problems({**SETTINGS, "path": [every, str(tmp_path / "." / "day1.csv")]})
    assert (
        problem
        == f"dataset.path names {Path(paths[1]).resolve()} 2 times, so its rows would count as often; name it once"
    )
    (problem,) = table_problems({**SETTINGS, "path": every, "test_path": paths[2]})
    assert problem.startswith(f"{Path(paths[2]).resolve()} is a file of dataset.path and of dataset.test_path, so its")
    assert list(table_problems({**SETTINGS, "path": paths[:2], "test_path": paths[2]})) == []
    with pytest.raises(DeepSADError, match=r"day1\.csv 2 times"):
        own_table([every, paths[1]], given=True, seed=0)
    with pytest.raises(DeepSADError, match="would be training and test rows"):
        own_table(every, given=True, seed=0, test_path=paths[2])


def test_classes_are_spelled_like_labels(tmp_path: Path) -> None:
    one = written(tmp_path, "a.csv", x=numbers(40), c=["0", "1"] * 20)
    other = written(tmp_path, "b.csv", x=numbers(40), c=["0.0", "1.0"] * 20)
    assert class_names({**SETTINGS, "path": [one, other], "label": "c"}) == ["0", "1"]
    source = own_table([one, other], given=False, seed=0, label="c")
    assert np.bincount(np.concatenate([source.labels_train, source.labels_test])).tolist() == [40, 40]
    case = written(tmp_path, "c.csv", x=numbers(30), c=["ok", "OK", "bad"] * 10)
    with pytest.raises(DeepSADError, match="column c has the classes 'OK' and 'ok', which differ only in case"):
        class_names({**SETTINGS, "path": case, "label": "c"})


def test_what_labels_mean_is_not_asked_of_classes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", x=numbers(40), c=["0", "1"] * 20, t=["0", "1"] * 20)
    asked = {**SETTINGS, "path": path, "label": "c", "anomaly": ["1"], "truth": "t"}
    problems = list(table_problems(asked, given=False))
    assert [problem.partition(", which only scenario=given uses")[0] for problem in problems] == [
        "dataset.anomaly is ['1']",
        "dataset.truth is t",
    ]


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0"])
def test_an_index_is_no_feature(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "a.csv", **{name: np.random.default_rng(0).permutation(50), "x": numbers(50)})
    with pytest.raises(DeepSADError, match=f"column '{name}' seems to number the rows"):
        own_table(path, given=True, seed=0)


def test_a_quote_that_is_never_closed_is_no_cell(tmp_path: Path) -> None:
    lines = ["x,note", *(f"{i},fine" for i in range(10)), '10,"6 inch pipe', *(f"{i},fine" for i in range(11, 400))]
    path = tmp_path / "a.csv"
    told = r"has a double quote in row 10, counted from 0, that is never closed, so 389 further lines would be part of"
    for end in ("", "\n"):
        path.write_text("\n".join(lines) + end)
        with pytest.raises(DeepSADError, match=told):
            read_table([path])
        with pytest.raises(DeepSADError, match=told):
            list(table_chunks(path, ragged={}))
    # Quotes in cells without quotes, and lines in closed ones.
    for end in ("\n", " \n", ""):
        path.write_text('x,note\n1,6" pipe\n2,"two\nlines, ""here"""' + end)
        assert read_table([path])["note"].tolist() == ['6" pipe', 'two\nlines, "here"']
    # Nothing is lost after the last row.
    for end in ("\n", ""):
        path.write_text('x,note\n1,fine\n2,"6 inch' + end)
        assert read_table([path])["note"].tolist() == ["fine", "6 inch"]


def test_numbers_with_a_question_mark_are_told(tmp_path: Path) -> None:
    cells = [str(i % 40) for i in range(500)]
    path = written(tmp_path, "a.csv", x=numbers(500), count=[*cells[:-1], "?"])
    source = own_table(path, given=True, seed=0)
    assert source.warned == (
        "column 'count' is learned from as a category, although all but 1 cell are numbers; if '?' in row 499, counted "
        "from 0, is no category, correct it or leave the cell empty",
    )
    # A few codes, and codes with letters in many rows.
    for texts in (["1", "2", "A"] * 20, [*(str(i % 20) for i in range(60)), *["A"] * 40]):
        path = written(tmp_path, "a.csv", x=numbers(len(texts)), code=texts)
        assert own_table(path, given=True, seed=0).warned == ()


def test_columns_of_data_frames_are_matched_by_name() -> None:
    train = pd.DataFrame({"small": numbers(50), "large": 100 + numbers(50)})
    y = np.array([0, 1] * 25)
    straight, turned = (
        as_source((train, y, test, y), seed=0, scaling="zscore") for test in (train, train[["large", "small"]])
    )
    assert np.array_equal(straight.x_test, turned.x_test)
    with pytest.raises(DeepSADError, match="training x with the columns small, large, but test x with small, other"):
        as_source((train, y, train.rename(columns={"large": "other"}), y), seed=0, scaling="zscore")
