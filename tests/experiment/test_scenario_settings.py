"""The settings of a scenario and of a split in plans: identities, folders, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from planned import plan_of, problems_of, settings_of
from tiny_data import write_adbench

from deepsad_pl import load_data
from deepsad_pl.common.errors import BlankCellError, DeepSADError
from deepsad_pl.experiment.build import build
from deepsad_pl.experiment.build import load_data as source_of
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import what_was_done


def scenario_of(*overrides: str) -> dict[str, Any]:
    identity: dict[str, Any] = plan_of(*overrides).identity["scenario"]
    return identity


@pytest.mark.parametrize(
    "repeated",
    [
        "scenario.labels=null",
        "scenario.unlabeled=normal",
        "scenario.gamma_e=0",
        "scenario.gamma_en=0.3",  # without labeled normals
        "dataset.test_share=0.4",
    ],
)
def test_a_default_is_no_part_of_an_identity(repeated: str) -> None:
    assert plan_of("dataset=cardio", repeated).run_dir == plan_of("dataset=cardio").run_dir


@pytest.mark.parametrize(
    ("override", "part", "in_folder"),
    [
        ("scenario.labels=5", {"labels": 5}, "-known_1-labels_5-seed_0-"),
        ("scenario.unlabeled=all", {"gamma_l": 0.05, "unlabeled": "all"}, "-gamma_l_0.05-unlabeled_all-seed_0-"),
        ("scenario.gamma_e=0.2", {"gamma_l": 0.05, "gamma_e": 0.2}, "-gamma_l_0.05-gamma_e_0.2-seed_0-"),
    ],
)
def test_what_is_set_is_in_the_identity_the_folder_and_the_record(
    override: str, part: dict[str, Any], in_folder: str
) -> None:
    plan, plain = plan_of(override), plan_of()
    rest = {key: value for key, value in plain.identity["scenario"].items() if key != "gamma_l"}
    assert plan.identity["scenario"] == {**rest, **part}
    assert in_folder in plan.run_dir.name
    recorded = what_was_done(plan)["scenario"]
    assert part.items() <= recorded.items()
    assert ("gamma_l" in recorded) == ("gamma_l" in part)
    assert {"gamma_e", "gamma_en", "labels", "unlabeled"}.isdisjoint(what_was_done(plain)["scenario"])


def test_wrong_normals_are_in_the_folder_as_well() -> None:
    plan = plan_of("scenario.gamma_n=0.1", "scenario.gamma_en=0.2")
    assert "-gamma_n_0.1-gamma_en_0.2-seed_0-" in plan.run_dir.name


def test_a_count_makes_the_ratio_irrelevant() -> None:
    assert scenario_of("scenario.labels=5", "scenario.gamma_l=0.2") == scenario_of("scenario.labels=5")
    assert scenario_of("scenario.labels=0") == scenario_of("scenario.gamma_l=0")


def test_a_method_that_does_not_see_labels_has_one_run_for_all_budgets() -> None:
    words = ("method=deep_svdd", "scenario.unlabeled=all", "scenario.gamma_e=0.1")
    plans = [plan_of(*words, labels) for labels in ("scenario.labels=1", "scenario.labels=10", "scenario.gamma_l=0.1")]
    assert len({plan.run_dir for plan in plans}) == 1
    assert plans[0].run_dir != plan_of("method=deep_svdd").run_dir


def test_the_share_of_test_data_is_in_the_identity_when_it_is_another() -> None:
    for dataset in (("dataset=thyroid",), ("dataset=toy",), ("dataset=adbench", "dataset.table=vowels")):
        plan, plain = plan_of(*dataset, "dataset.test_share=0.3"), plan_of(*dataset)
        assert plan.identity["dataset"] == {**plain.identity["dataset"], "test_share": 0.3}
        assert "test_share" not in plain.identity["dataset"]


@pytest.mark.parametrize("share", ["0", "1", "1.5", "many"])
def test_a_share_that_leaves_a_part_empty_is_refused(share: str) -> None:
    (problem,) = problems_of("dataset=cardio", f"dataset.test_share={share}")
    assert "dataset.test_share is" in problem and "> 0 and < 1" in problem


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("scenario.labels=-1",), "scenario.labels is -1"),
        (("scenario.unlabeled=some",), "scenario.unlabeled is 'some'; choose normal or all"),
        (("scenario.unlabeled=all", "scenario.gamma_p=0.1"), "use scenario.gamma_p=0 or scenario.unlabeled=normal"),
        (("scenario.gamma_e=1",), "scenario.gamma_e is 1"),
        (("method=classifier", "scenario.labels=0"), "but scenario.labels=0 and scenario.k_l=1 leave none"),
        (("threshold=labeled", "scenario.gamma_n=0.1", "scenario.labels=0"), "but scenario.labels is 0; raise it"),
    ],
)
def test_what_cannot_be_had_is_refused(overrides: tuple[str, ...], told: str) -> None:
    (problem,) = problems_of(*overrides)
    assert told in problem


def test_numbers_are_checked_even_if_the_classes_cannot_be_read(tmp_path: Path) -> None:
    words = ("dataset=image_folder", f"dataset.root={tmp_path / 'none'}", "dataset.image_size=16")
    problems = problems_of(*words, "scenario.labels=-1", "scenario.gamma_en=2")
    assert any("scenario.labels is -1" in problem for problem in problems)
    assert any("scenario.gamma_en is 2" in problem for problem in problems)


def test_a_table_with_too_few_anomalies_is_refused_before_training(tmp_path: Path) -> None:
    write_adbench(tmp_path, "vowels", rows=60, outliers=6)
    words = ("dataset=adbench", "dataset.table=vowels", f"data_dir={tmp_path}", "dataset.test_share=0.3")
    plan = plan_of(*words, "scenario.unlabeled=all", "scenario.labels=4")
    assert build(plan, source_of(plan)).data.counts.as_dict() == {
        "labeled_anomalies": 4,
        "labeled_normals": 0,
        "unlabeled_normals": 38,
        "pollution": 0,
    }
    plan = plan_of(*words, "scenario.unlabeled=all", "scenario.labels=5")
    with pytest.raises(BlankCellError, match=r"scenario.labels=5 asks for 5 labeled anomalies .* hold 4; lower"):
        build(plan, source_of(plan))


def test_the_configuration_of_an_older_run_is_still_that_run() -> None:
    """It has none of the newer settings."""
    settings = settings_of("dataset=cardio")
    older = {
        **settings,
        "scenario": {
            key: value
            for key, value in settings["scenario"].items()
            if key not in ("labels", "unlabeled", "gamma_e", "gamma_en")
        },
        "dataset": {key: value for key, value in settings["dataset"].items() if key != "test_share"},
    }
    assert make_plan(older).run_dir == make_plan(settings).run_dir
    with pytest.raises(DeepSADError, match=r"scenario.gamma_l=0 and scenario.k_l=1 leave none"):
        unlabeled = {**older["scenario"], "gamma_l": 0}
        make_plan({**older, "scenario": unlabeled, "method": settings_of("method=classifier")["method"]})


def test_python_passes_the_settings_by_name() -> None:
    with pytest.raises(DeepSADError) as caught:
        load_data("cardio", labels=-1, unlabeled="some", test_share=0)
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        "dataset.test_share",
        "scenario.labels",
        "scenario.unlabeled",
    ]
