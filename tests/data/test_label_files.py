"""``dataset.labels``: labels that were filled in later override those of a table or of folders, or are refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_labels import write_labeled
from own_tables import parts
from planned import plan_of, problems_of

from deepsad_pl.common.records import identity_hash
from deepsad_pl.data.own_table import own_table
from deepsad_pl.data.sources import Source, image_folder_source
from deepsad_pl.experiment.build import build, load_data

WORDS = ("dataset=table", "dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    parts().to_csv(tmp_path / "parts.csv", index=False)
    return tmp_path / "parts.csv"


def answers(path: Path, cells: dict[str, str], *, by: str = "id", label: str = "quality") -> Path:
    pd.DataFrame({by: list(cells), "score": 1.0, label: list(cells.values())}).to_csv(path, index=False)
    return path


def words(table: Path, *labels: Path, drop: str = "truth") -> tuple[str, ...]:
    named = f"dataset.labels=[{','.join(map(str, labels))}]"
    return (*WORDS, f"dataset.path={table}", f"dataset.drop=[{drop}]", f"data_dir={table.parent}", named)


def source_of(table: Path, labels: Any, **settings: Any) -> Source:
    own: dict[str, Any] = {"label": "quality", "normal": ["ok"], "anomaly": ["scrap"], "id": "part", "drop": ["truth"]}
    return own_table(str(table), given=True, seed=0, labels=labels, **{**own, **settings})


def unlabeled(frame: pd.DataFrame, count: int) -> list[int]:
    return np.flatnonzero(frame["quality"] == "")[:count].tolist()


def test_only_filled_in_labels_override_those_of_the_table(table: Path, tmp_path: Path) -> None:
    frame = parts()
    labeled = frame.index[frame["quality"] == "ok"][:2].tolist()
    a, b, c = unlabeled(frame, 3)
    cells = {a: "scrap", b: "ok", c: "", labeled[0]: "scrap", labeled[1]: ""}
    path = answers(tmp_path / "asked.csv", {frame["part"][row]: mark for row, mark in cells.items()})
    before = frame["quality"].map({"ok": 1, "scrap": -1, "": 0}).to_numpy()
    expected = before.copy()
    expected[[a, b, labeled[0]]] = [-1, 1, -1]
    source = source_of(table, str(path))
    assert source.semi_y_train is not None and source.semi_y_train.tolist() == expected.tolist()
    assert source.semi_y_before is not None and source.semi_y_before.tolist() == before.tolist()


def test_several_rounds_add_up_and_the_id_column_may_have_its_own_name(table: Path, tmp_path: Path) -> None:
    frame = parts()
    a, b = unlabeled(frame, 2)
    first = answers(tmp_path / "1.csv", {frame["part"][a]: "scrap", frame["part"][b]: ""})
    second = answers(tmp_path / "2.csv", {frame["part"][a]: "scrap", frame["part"][b]: "ok"}, by="part")
    source = source_of(table, [str(first), str(second)])
    assert source.semi_y_train is not None and source.semi_y_train[[a, b]].tolist() == [-1, 1]


def test_without_ids_rows_are_named_by_their_positions_in_the_whole_table(table: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"id": None, "drop": ["part"], "truth": "truth"}
    found = source_of(table, None, **settings)
    assert found.rows_train is not None and len(found.rows_train) < 400
    row = int(found.rows_train[-1])
    path = answers(tmp_path / "asked.csv", {str(row): "scrap"}, by="row")
    source = source_of(table, str(path), **settings)
    assert source.semi_y_train is not None and source.semi_y_train[-1] == -1


def test_a_table_without_labels_gets_its_first_ones_from_a_file(table: Path, tmp_path: Path) -> None:
    path = answers(tmp_path / "asked.csv", {"P00003": "scrap", "P00004": "ok"}, label="label")
    source = source_of(table, str(path), label=None, drop=["truth", "quality"])
    assert source.semi_y_train is not None and np.flatnonzero(source.semi_y_train).tolist() == [3, 4]


def test_all_wrong_files_are_reported_at_once_before_any_work(table: Path, tmp_path: Path) -> None:
    frame = parts()
    a, b = (frame["part"][row] for row in unlabeled(frame, 2))
    first = answers(tmp_path / "first.csv", {a: "ok", "P9": "", b: "scarp"})
    second = answers(tmp_path / "second.csv", {a: "scrap"})
    other = answers(tmp_path / "other.csv", {a: "ok"}, by="row", label="qualty")
    found = problems_of(*words(table, first, second, other, tmp_path / "none.csv"))
    assert [one.partition(";")[0].replace(str(tmp_path), "...") for one in found] == [
        "dataset.labels: .../other.csv has no column 'part' or 'id' with the names",
        "dataset.labels: .../other.csv has no column 'quality' with the labels",
        "dataset.labels is .../none.csv, which is not a file",
        "dataset.labels names 'P9', which no training row has",
        f"dataset.labels has different labels for {a!r}, 'ok' in first.csv and 'scrap' in second.csv",
        "dataset.labels has the label 'scarp' (1), whose meaning is not known",
    ]
    assert "did you mean scrap?" in found[-1] and found[1].endswith("its columns are row, score, qualty")


def test_a_name_of_several_rows_is_refused(table: Path, tmp_path: Path) -> None:
    frame = parts()
    frame["part"] = ["P1", "P1", *frame["part"][2:]]
    frame.to_csv(table, index=False)
    path = answers(tmp_path / "asked.csv", {"P1": "ok"})
    (found,) = problems_of(*words(table, path))
    assert found.startswith("dataset.labels names 'P1', which several rows have")


def test_a_drawn_scenario_refuses_labels(table: Path, tmp_path: Path) -> None:
    path = answers(tmp_path / "asked.csv", {"P00003": "ok"})
    told = "dataset.labels holds labels, which only scenario=given uses; choose it, or leave dataset.labels out"
    assert told in problems_of(*words(table, path), "scenario=default")


def test_the_content_of_the_files_is_part_of_the_identity_but_not_their_path(table: Path, tmp_path: Path) -> None:
    cells = {"P00003": "ok"}
    moved = answers(tmp_path / "moved.csv", cells)
    plans = [plan_of(*words(table, one)) for one in (answers(tmp_path / "asked.csv", cells), moved)]
    assert plans[0].identity == plans[1].identity
    answers(moved, {"P00003": "scrap"})
    assert plan_of(*words(table, moved)).identity != plans[0].identity
    without = plan_of(*words(table)[:-1])
    assert "label_files" not in without.identity["dataset"] and "labels" not in without.identity["dataset"]
    assert identity_hash(without.identity) != identity_hash(plans[0].identity)


def test_labels_that_change_after_the_plan_are_noticed(table: Path, tmp_path: Path) -> None:
    path = answers(tmp_path / "asked.csv", {"P00003": "ok"})
    plan = plan_of(*words(table, path))
    assert len(load_data(plan).x_train) == 400
    answers(path, {"P00003": "scrap"})
    with pytest.raises(Exception, match="have changed since the run was planned"):
        load_data(plan)


def test_calibration_samples_stay_the_same_except_those_labeled_as_anomalies(table: Path, tmp_path: Path) -> None:
    def held_out(plan: Any) -> set[int]:
        data = build(plan, load_data(plan)).data
        return {*data._held_out.tolist()}

    first = held_out(plan_of(*words(table)[:-1]))
    frame = parts()
    candidates = [row for row in sorted(first) if frame["quality"][row] == ""][:2]
    cells = {frame["part"][candidates[0]]: "scrap", frame["part"][candidates[1]]: "ok"}
    cells |= {frame["part"][row]: "scrap" for row in unlabeled(frame, 40) if row not in first}
    after = held_out(plan_of(*words(table, answers(tmp_path / "asked.csv", cells))))
    assert after == first - {candidates[0]}


def test_images_are_named_by_their_path(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "root")
    cells = {
        str(root / "train" / "000.png"): "anomaly",
        "train/unlabeled/000.png": "normal",
        "train/normal/000.png": "anomaly",
        "train/001.png": "",
    }
    path = answers(tmp_path / "asked.csv", cells, by="path", label="label")

    def made(labels: str | None) -> Source:
        settings: dict[str, Any] = {"image_size": 8, "channels": 1, "data_dir": tmp_path / "data", "given": True}
        return image_folder_source(str(root), labels=labels, **settings)

    before, after = made(None).semi_y_train, made(str(path)).semi_y_train
    assert before is not None and after is not None
    expected = copy.copy(before)
    # Straight below the part, then by folder: anomaly, normal, unlabeled.
    expected[[0, 28, 40]] = [-1, -1, 1]
    assert after.tolist() == expected.tolist()

    where = ("dataset=image_folder", "scenario=given", "dataset.image_size=16", f"data_dir={tmp_path / 'data'}")
    plans = [plan_of(*where, f"dataset.root={root}", *more) for more in ((), (f"dataset.labels={path}",))]
    assert "label_files" not in plans[0].identity["dataset"]
    assert plans[0].identity != plans[1].identity
    answers(path, {"train/nowhere.png": "normal", "train/000.png": "scrap"}, by="path", label="label")
    unknown, spelled = problems_of(*where, f"dataset.root={root}", f"dataset.labels={path}")
    assert unknown.startswith("dataset.labels names 'train/nowhere.png', which no training image has")
    assert "write 'normal' or 'anomaly'" in spelled


def test_a_label_may_name_a_folder_whose_name_is_a_number(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "root", {"train": {"": 4, "08": 4, "anomaly": 2}})
    path = answers(
        tmp_path / "asked.csv", {"train/000.png": "08", "train/001.png": "anomaly"}, by="path", label="label"
    )
    settings: dict[str, Any] = {"image_size": 8, "channels": 1, "data_dir": tmp_path / "data", "given": True}
    source = image_folder_source(str(root), labels=str(path), normal=["08"], **settings)
    assert source.semi_y_train is not None and source.semi_y_train[:4].tolist() == [1, -1, 0, 0]
