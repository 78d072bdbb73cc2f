"""``dataset=table``: which rows are for training and testing, with which labels and truth, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_tables import parts

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.own_table import class_names, column_count, own_table, table_problems
from deepsad_pl.data.sources import Source
from deepsad_pl.data.table_columns import TableColumns

MARKED = {"label": "quality", "normal": ["ok"], "anomaly": ["scrap"], "id": "part"}


def load(frame: pd.DataFrame, folder: Path, *, given: bool = True, seed: int = 0, **settings: Any) -> Source:
    path = folder / "parts.csv"
    frame.to_csv(path, index=False)
    return own_table(str(path), given=given, seed=seed, **{**MARKED, **settings})


def test_without_truth_all_rows_train_and_are_scored(tmp_path: Path) -> None:
    frame = parts().drop(columns="truth")
    source = load(frame, tmp_path)
    assert source.x_train.shape == source.x_test.shape == (400, 4 + 1 + 1 + 3)
    assert source.x_train is source.x_test
    expected = frame["quality"].map({"ok": 1, "scrap": -1, "": 0})
    assert source.semi_y_train is not None and source.semi_y_train.tolist() == expected.tolist()
    assert source.labels_test.tolist() == [-1] * 400
    assert source.ids_test is not None and source.ids_test.tolist() == frame["part"].tolist()


def test_with_truth_a_stratified_part_is_split_off_by_the_seed(tmp_path: Path) -> None:
    frame = parts()
    found = [load(frame, tmp_path, truth="truth", train_share=0.7, seed=seed) for seed in (0, 0, 1)]
    bad = frame["truth"].eq("scrap").to_numpy()
    for source in found:
        assert (len(source.x_train), len(source.x_test)) == (280, 120)
        assert source.labels_test.sum() == pytest.approx(0.3 * bad.sum(), abs=1)
        assert source.ids_test is not None
        rows = [int(name[1:]) for name in source.ids_test]
        assert source.labels_test.tolist() == bad[rows].astype(int).tolist()
        assert source.semi_y_train is not None
        labels = frame["quality"].drop(index=rows).map({"ok": 1, "scrap": -1, "": 0})
        assert source.semi_y_train.tolist() == labels.tolist()
    first, again, other = (source.ids_test.tolist() for source in found if source.ids_test is not None)
    assert first == again != other


def test_columns_are_encoded_by_training_rows_only(tmp_path: Path) -> None:
    frame = parts()
    first = load(frame, tmp_path, truth="truth")
    assert first.ids_test is not None
    tested = frame["part"].isin(first.ids_test.tolist())
    changed = frame.copy()
    changed.loc[tested, "sensor_0"] = 1e6
    changed.loc[tested, "machine"] = "Z"
    second = load(changed, tmp_path, truth="truth")
    assert np.array_equal(first.x_train, second.x_train)
    used = frame.loc[~tested].drop(columns=["part", "quality", "truth"])
    columns = TableColumns.fit(used, scaling="zscore")
    assert np.array_equal(first.x_train, columns.transform(used).x)


def test_truth_may_be_the_column_of_the_labels(tmp_path: Path) -> None:
    source = load(parts().drop(columns="truth"), tmp_path, truth="quality")
    assert sorted(set(source.labels_test.tolist())) == [-1, 0, 1]
    assert (source.labels_test == 1).sum() == 4


def test_test_rows_may_be_in_a_separate_file(tmp_path: Path) -> None:
    tested = parts(60, scrap=1, good=1, seed=1)
    tested.loc[:4, "machine"] = "new"
    # Columns in another order, and without the labels of training.
    tested[["truth", "machine", "sensor_3", "sensor_0", "checked", "sensor_1", "sensor_2", "part"]].to_csv(
        tmp_path / "test.csv", index=False
    )
    source = load(parts(), tmp_path, truth="truth", test_path=str(tmp_path / "test.csv"), drop=[])
    assert (len(source.x_train), len(source.x_test)) == (400, 60)
    assert source.labels_test.tolist() == tested["truth"].eq("scrap").astype(int).tolist()
    # An unknown category is encoded as zeros.
    assert not source.x_test[:5, -4:-1].any()
    tested.drop(columns="truth").to_csv(tmp_path / "test.csv", index=False)
    without = load(parts().drop(columns="truth"), tmp_path, test_path=str(tmp_path / "test.csv"), drop=[])
    assert set(without.labels_test.tolist()) == {-1}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_formats_give_the_same_source(suffix: str, tmp_path: Path) -> None:
    frame = parts()
    path = tmp_path / f"parts{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    source = own_table(str(path), given=True, seed=0, drop=["truth"], **MARKED)  # type: ignore[arg-type]
    expected = load(frame, tmp_path, drop=["truth"])
    assert np.array_equal(source.x_train, expected.x_train)
    assert source.semi_y_train is not None and expected.semi_y_train is not None
    assert np.array_equal(source.semi_y_train, expected.semi_y_train)


def test_several_files_are_one_table(tmp_path: Path) -> None:
    frame = parts()
    paths = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for path, half in zip(paths, (frame[:150], frame[150:]), strict=True):
        half.to_csv(path, index=False)
    source = own_table(paths, given=True, seed=0, drop=["truth"], **MARKED)  # type: ignore[arg-type]
    assert np.array_equal(source.x_train, load(frame, tmp_path, drop=["truth"]).x_train)


def test_a_table_with_classes_can_have_a_scenario_that_draws(tmp_path: Path) -> None:
    frame = parts()
    source = load(frame, tmp_path, given=False, label="machine", drop=["truth", "quality"], normal=[], anomaly=[])
    assert source.semi_y_train is None
    assert set(source.labels_train.tolist()) == {0, 1, 2}
    settings = {"label": "machine", "path": str(tmp_path / "parts.csv"), "test_path": None}
    assert class_names(settings) == ["A", "B", "C"]
    with pytest.raises(DeepSADError, match="some rows have no class in the column quality"):
        class_names({**settings, "label": "quality"})
    with pytest.raises(DeepSADError, match=r"name the column that has them: dataset.label="):
        class_names({**settings, "label": None})


def test_test_rows_need_numbers_where_training_had_numbers(tmp_path: Path) -> None:
    tested = parts(30, scrap=1, good=1, seed=1).astype({"sensor_0": object})
    tested.loc[3, "sensor_0"] = "broken"
    tested.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DeepSADError) as caught:
        load(parts(), tmp_path, truth="truth", test_path=str(tmp_path / "test.csv"))
    assert str(caught.value) == (
        "1 test row cannot be read (row 3: column 'sensor_0' holds 'broken', which is not a number; rows are counted "
        "from 0); correct or remove these rows, or drop the column with dataset.drop"
    )


def test_rows_are_named_by_their_position_in_the_table_even_if_it_is_split(tmp_path: Path) -> None:
    frame = parts().drop(columns="part")
    source = load(frame, tmp_path, truth="truth", id=None)
    assert source.rows_train is not None
    row = next(row for row in range(350, 400) if row not in source.rows_train)
    frame.loc[row, "sensor_0"] = 1e300
    with pytest.raises(
        DeepSADError, match=rf"1 test row .*row {row}: column 'sensor_0' holds '1e\+300', which is out of"
    ):
        load(frame, tmp_path, truth="truth", id=None)


def test_a_column_of_names_is_not_asked_for_twice(tmp_path: Path) -> None:
    frame = parts().drop(columns="truth").assign(serial=lambda table: table["part"] + "x", row=np.arange(400))
    with pytest.raises(DeepSADError) as caught:
        load(frame, tmp_path)
    assert [problem.partition("; ")[2] for problem in caught.value.problems] == [
        "leave the column out: dataset.drop=[serial]",
        "leave the column out: dataset.drop=[row]",
    ]


def settings_for(path: Path, **changed: Any) -> dict[str, Any]:
    return {"path": str(path), "test_path": None, "truth": None, "drop": ["truth"], **MARKED, **changed}


def test_wrong_files_and_columns_are_reported_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    parts().to_csv(path, index=False)
    assert list(table_problems(settings_for(path))) == []
    assert column_count(settings_for(path)) == 6
    found = list(table_problems(settings_for(path, label="qualty", truth="truht", drop=["nothing"])))
    assert found[0] == f"dataset.label names the column 'qualty', which {path} does not have; did you mean quality?"
    assert found[1] == f"dataset.truth names the column 'truht', which {path} does not have; did you mean truth?"
    assert found[2].startswith(f"dataset.drop names the column 'nothing', which {path} does not have; the columns are")
    (missing,) = table_problems(settings_for(tmp_path / "nowhere.csv"))
    assert missing.endswith("nowhere.csv, which is not a file; give a CSV, TSV, Parquet, .npz or .mat file")
    every = ["sensor_0", "sensor_1", "sensor_2", "sensor_3", "machine", "checked", "truth"]
    assert list(table_problems(settings_for(path, drop=every))) == [
        "no column is left to learn from; leave some out of dataset.drop"
    ]


def test_a_column_that_names_rows_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"column 'part' .*dataset.id=part.*dataset.drop=\[part\]"):
        load(parts().drop(columns="truth"), tmp_path, id=None)


def test_with_files_of_test_rows_each_file_needs_only_what_is_read_from_it(tmp_path: Path) -> None:
    train, test = tmp_path / "parts.csv", tmp_path / "test.csv"
    parts().drop(columns="truth").to_csv(train, index=False)
    tested = parts(60, scrap=1, good=1, seed=1).drop(columns="quality").assign(note="x")
    tested.to_csv(test, index=False)
    settings = settings_for(train, test_path=str(test), truth="truth", drop=["note"])
    assert list(table_problems(settings)) == []
    source = own_table(given=True, seed=0, **settings)
    assert source.labels_test.tolist() == tested["truth"].eq("scrap").astype(int).tolist()
    assert source.semi_y_train is not None and (source.semi_y_train == -1).sum() == 10
    assert source.told[0].endswith("; not learned from: quality (label), truth (truth), part (id), note (drop)")
    # Dropped instead, the truth is not known.
    settings |= {"truth": None, "drop": ["note", "truth"]}
    assert list(table_problems(settings)) == []
    assert set(own_table(given=True, seed=0, **settings).labels_test.tolist()) == {-1}


def test_what_the_files_of_training_and_test_rows_lack_is_reported_at_once_with_the_file(tmp_path: Path) -> None:
    train, test = tmp_path / "parts.csv", tmp_path / "test.csv"
    parts().drop(columns="truth").to_csv(train, index=False)
    parts(60, scrap=1, good=1, seed=1).drop(columns=["quality", "machine"]).to_csv(test, index=False)
    settings = settings_for(train, test_path=str(test), label=None, drop=["nothing"])
    expected = [
        f"dataset.drop names the column 'nothing', which neither {train} nor {test} has; the columns are part, "
        "sensor_0, sensor_1, sensor_2, sensor_3, machine, checked, quality, truth",
        f"{test} (dataset.test_path) has no column 'machine', which {train} has; set dataset.label=machine if it has "
        "the labels, or leave it out with dataset.drop=[machine]",
        f"{test} (dataset.test_path) has no column 'quality', which {train} has; set dataset.label=quality if it has "
        "the labels, or leave it out with dataset.drop=[quality]",
        f"{test} (dataset.test_path) has a column 'truth', which {train} does not have; set dataset.truth=truth if it "
        "has the truth of the test rows, or leave it out with dataset.drop=[truth]",
    ]
    assert list(table_problems(settings)) == expected
    with pytest.raises(DeepSADError) as caught:
        own_table(given=True, seed=0, **settings)
    assert caught.value.problems == expected
    # A truth that only the training file has is no truth of test rows.
    (problem, *_) = table_problems(settings_for(train, test_path=str(test), truth="quality", label="quality", drop=[]))
    assert problem.startswith(f"dataset.truth names the column 'quality', which {test} does not have")
    # Classes of a scenario are needed in both.
    (problem, *_) = table_problems(
        settings_for(train, test_path=str(test), label="machine", anomaly=[], drop=[]), given=False
    )
    assert problem.startswith(f"dataset.label names the column 'machine', which {test} does not have")


def test_a_source_tells_which_columns_are_used_and_warns_of_forgotten_labels(tmp_path: Path) -> None:
    frame = parts().assign(odd=1.0)
    source = load(frame, tmp_path, truth="truth", drop=["odd"])
    line = (
        "6 columns: 4 numbers, 1 category (machine: 3), 1 boolean; not learned from: quality (label), truth (truth), "
        "part (id), odd (drop)"
    )
    assert (source.told, source.warned) == ((line,), ())
    assert source.refit is not None and source.refit(np.arange(200)).told == (line,)
    both = load(frame, tmp_path, truth="quality", drop=["truth", "odd"])
    assert both.told[0].endswith("not learned from: quality (label, truth), part (id), truth (drop), odd (drop)")
    warning = (
        "column 'quality' is empty in 378 of 400 training rows and is learned from as a category with 2 values; if it "
        "holds labels, name it with dataset.label or dataset.truth, or leave it out: dataset.drop=[quality]"
    )
    bare = {"label": None, "normal": [], "anomaly": [], "drop": ["truth", "odd"]}
    assert load(frame, tmp_path, **bare).warned == (warning,)
    numbers = frame.assign(quality=frame["quality"].map({"ok": 1.0, "scrap": -1.0}))
    assert load(numbers, tmp_path, **bare).warned == (warning.replace("a category", "a number"),)
    # A sensor that seldom measures is no label.
    frame["quality"] = np.where(frame.index % 20 == 0, frame["sensor_0"], np.nan)
    assert load(frame, tmp_path, **bare).warned == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_that_pandas_wrote_as_decimals_are_read_alike_from_every_format(suffix: str, tmp_path: Path) -> None:
    frame = parts().drop(columns="truth")
    frame["quality"] = frame["quality"].map({"ok": 0.0, "scrap": 1.0})
    path, answers = tmp_path / f"parts{suffix}", tmp_path / "answers.csv"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
        assert ",1.0\n" in path.read_text()
    asked = frame.index[frame["quality"].isna()][:2]
    pd.DataFrame({"part": frame["part"][asked], "quality": [1.0, 0.0]}).to_csv(answers, index=False)
    settings: dict[str, Any] = {**MARKED, "normal": [0], "anomaly": [1], "labels": str(answers)}
    source = own_table(str(path), given=True, seed=0, **settings)
    expected = frame["quality"].map({0.0: 1, 1.0: -1}).fillna(0)
    expected[asked] = [-1, 1]
    assert source.semi_y_train is not None and source.semi_y_train.tolist() == expected.tolist()


def test_rows_without_a_name_of_their_own_are_a_warning(tmp_path: Path) -> None:
    frame, test = parts().drop(columns="truth"), tmp_path / "test.csv"
    parts(40, scrap=1, good=1).drop(columns="truth").assign(part="P").to_csv(test, index=False)
    frame.loc[3:4, "part"], frame.loc[7, "part"] = "P00002", ""
    assert load(frame, tmp_path, test_path=str(test)).warned == (
        f"dataset.id=part: 1 row of {tmp_path / 'parts.csv'} has no name and 3 rows share a name with another, such as "
        "'P00002'; scores.csv does not tell them apart",
        f"dataset.id=part: 40 rows of {test} share a name with another, such as 'P'; scores.csv does not tell "
        "them apart",
    )


def test_labels_in_every_row_are_said_to_be_of_use_as_truth(tmp_path: Path) -> None:
    hint = (
        "each row that is scored has a label in the column quality; with dataset.truth=quality the labels are also the "
        "truth, by which AUROC is computed"
    )
    frame = parts().drop(columns="truth")
    full = frame.assign(quality=frame["quality"].replace("", "ok"))
    assert load(full, tmp_path).told[1:] == (hint,)
    assert load(full, tmp_path, truth="quality").told[1:] == load(frame, tmp_path).told[1:] == ()
    # 0 is no label.
    unnamed: dict[str, Any] = {"normal": [], "anomaly": []}
    numbers = frame.assign(quality=frame["quality"].map({"ok": 1, "scrap": -1, "": 0}))
    assert load(numbers, tmp_path, **unnamed).told[1:] == ()
    assert load(numbers.assign(quality=numbers["quality"].replace(0, 1)), tmp_path, **unnamed).told[1:] == (hint,)


def test_a_glob_is_all_files_that_match_it(tmp_path: Path) -> None:
    frame = parts()
    frame[:150].to_csv(tmp_path / "day1.csv", index=False)
    frame[150:].to_csv(tmp_path / "day2.csv", index=False)
    settings = settings_for(tmp_path / "day*.csv")
    assert list(table_problems(settings)) == []
    assert column_count(settings) == 6
    source = own_table(given=True, seed=0, **settings)
    assert np.array_equal(source.x_train, load(frame, tmp_path, drop=["truth"]).x_train)
    (problem,) = table_problems(settings_for(tmp_path / "night*.csv"))
    assert problem.endswith("night*.csv, which names no file; give a CSV, TSV, Parquet, .npz or .mat file")
