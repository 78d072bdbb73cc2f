"""Entries of ``study.datasets``: choices of ``dataset``, tables of ADBench, and tables of the user's own."""

from pathlib import Path

import pytest
from own_tables import parts
from studies import composer, planner, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study.dataset_entries import normal_classes, overrides_of, same_name_problems
from deepsad_pl.study.jobs import Planned

ONE_CELL = {"methods": ["deep_sad"], "seeds": [0], "normal_classes": "declared", "anomaly_classes": "together"}


def planned(*datasets: str, passed_on: tuple[str, ...] = (), **changed: object) -> Planned:
    with planner(*passed_on) as made:
        return made.plan(study_of("classic", **{**ONE_CELL, "datasets": list(datasets), **changed}), {})


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        ("thyroid", ["dataset=thyroid"]),
        ("adbench/cardio", ["dataset=adbench", "dataset.table=cardio"]),
        ("adbench/2_annthyroid", ["dataset=adbench", "dataset.table='2_annthyroid'"]),
        ("table/parts.csv", ["dataset=table", "dataset.path='parts.csv'", "dataset.name=parts"]),
        (
            "table//data/my parts.csv.gz",
            ["dataset=table", "dataset.path='/data/my parts.csv.gz'", "dataset.name=my_parts"],
        ),
        ("table/[day].csv", ["dataset=table", "dataset.path='[day].csv'", "dataset.name=day"]),
        ("my_group/option", ["dataset=my_group/option"]),
    ],
)
def test_an_entry_is_a_choice_or_one_of_its_tables(entry: str, lines: list[str]) -> None:
    with planner():
        assert [*overrides_of(entry, composer())] == lines


@pytest.mark.parametrize(
    ("entry", "why"), [("cardio/x", "is a single data set"), ("adbench/", "nothing follows the slash")]
)
def test_a_wrong_entry_is_told_with_the_way_out(entry: str, why: str) -> None:
    with pytest.raises(DeepSADError, match=rf"study.datasets has {entry}, but .*{why}; .*adbench/<table>"):
        planned(entry)


def test_the_tables_of_a_choice_are_data_sets_of_their_own() -> None:
    found = planned("adbench/cardio", "thyroid", "adbench/MVTec-AD_cable")
    names = [job.plan.dataset.name for job in found.unique]
    assert names == ["adbench-cardio", "thyroid", "adbench-MVTec-AD_cable"]
    assert found.unique[0].overrides[:3] == ("dataset=adbench", "dataset.table=cardio", "method=deep_sad")
    assert [place.experiment.dataset for place in found.places] == [
        "adbench/cardio",
        "thyroid",
        "adbench/MVTec-AD_cable",
    ]


def test_a_table_with_and_without_its_number_is_listed_once() -> None:
    with pytest.raises(DeepSADError, match="adbench/cardio, adbench/6_cardio, which are all called adbench-cardio"):
        planned("adbench/cardio", "adbench/6_cardio")
    assert not [*same_name_problems({"a": "same", "b": "same"})], "two choices were always allowed to share a name"


def test_a_user_s_tables_name_their_normal_class(tmp_path: Path) -> None:
    for name in ("left", "right"):
        parts(seed=len(name)).drop(columns="quality").to_csv(tmp_path / f"{name}.csv", index=False)
    words = ("scenario=default", "dataset.label=truth", "dataset.normal=[ok]", "dataset.id=part")
    found = planned(*(f"table/{tmp_path}/{name}.csv" for name in ("left", "right")), "cardio", passed_on=words)
    by_name = {job.plan.dataset.name: job.plan for job in found.unique}
    assert set(by_name) == {"left", "right", "cardio"}
    assert by_name["left"].classes == ("ok", "scrap")
    assert by_name["left"].scenario.normal_classes == (0,) and by_name["left"].scenario.known_classes == (1,)
    assert by_name["cardio"].classes == ("normal", "anomaly")


def test_all_other_classes_are_known_together(tmp_path: Path) -> None:
    frame = parts().drop(columns="quality").rename(columns={"truth": "class"})
    frame.loc[frame["class"] == "scrap", "class"] = (["bent", "crack"] * len(frame))[
        : (frame["class"] == "scrap").sum()
    ]
    frame.to_csv(tmp_path / "parts.csv", index=False)
    words = ("scenario=default", "dataset.label=class", "dataset.normal=[ok]", "dataset.id=part")
    (place,) = (found := planned(f"table/{tmp_path}/parts.csv", passed_on=words)).places
    assert (place.normal_class, place.anomaly_class) == ("ok", "bent+crack")
    plan = found.jobs[place.experiment].plan
    assert plan.scenario.normal_classes == (2,) and plan.scenario.known_classes == (0, 1)


def test_without_a_normal_class_the_study_says_what_to_set(tmp_path: Path) -> None:
    parts().drop(columns="quality").to_csv(tmp_path / "parts.csv", index=False)
    words = ("scenario=default", "dataset.label=truth", "dataset.id=part")
    with pytest.raises(DeepSADError, match=r"which of its classes ok, scrap is normal; set dataset.normal"):
        planned(f"table/{tmp_path}/parts.csv", passed_on=words)


def test_the_normal_class_is_the_declared_one_or_the_class_normal() -> None:
    assert normal_classes({}, ("normal", "anomaly")) == ("normal",)
    assert normal_classes({"normal": ["ok", "fine"]}, ("fine", "ok", "scrap")) == ("ok", "fine")
    assert normal_classes({"normal": []}, ("0", "1")) == ()
