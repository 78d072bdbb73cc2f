"""A report names exactly the settings that change a study's experiments."""

from dataclasses import replace
from typing import Any

import pytest
from studies import composer, fields_of, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study.differences import Asked, Differences, differences_of
from deepsad_pl.study.grid import Study
from deepsad_pl.study.jobs import Planner
from deepsad_pl.study.requests import Request

TWO = {"datasets": ["digits"], "methods": ["deep_sad", "ocsvm_raw"], "normal_classes": [0]}
MNIST = {**TWO, "datasets": ["mnist"]}
CARDIO = {"datasets": ["cardio"], "methods": ["deep_sad", "ssad_raw"]}


def asked_for(name: str, *words: str, **narrowed: Any) -> Asked:
    whole = fields_of(name)
    study = study_of(name, **narrowed)
    fields = {field: value for field, value in narrowed.items() if value != whole[field]}
    return Asked(Request(words, fields), study, Planner(composer(), words).plan(study, {}))


def differences(name: str, *asked: Asked) -> Differences:
    own, latest = study_of(name), asked[0]
    shown: Study = replace(
        latest.study, normal_classes=own.normal_classes, anomaly_classes=own.anomaly_classes, seeds=own.seeds
    )
    try:
        own_cells = Planner(composer(), latest.request.passed_on).cells(shown)
    except DeepSADError:
        own_cells = None
    return differences_of(asked, own, own_cells, composer())


def told(name: str, *words: str, **narrowed: Any) -> Differences:
    return differences(name, asked_for(name, *words, **narrowed))


@pytest.mark.parametrize(
    ("name", "words", "narrowed"),
    [
        ("labeled_anomalies", (), TWO),
        ("labeled_anomalies", ("method.eta=1.0", "scenario.gamma_p=0", "trainer.max_epochs=1000"), TWO),
        ("labeled_anomalies", ("trainer=cpu", "trainer.threads=1", "logger=none", "output_dir=x", "force=true"), TWO),
        ("labeled_anomalies", ("recipe=paper",), MNIST),
        # Without labels there is no eta.
        ("labeled_anomalies", ("method.eta=7",), {**TWO, "axes": {"gamma_l": [0.0]}}),
        # A value that the study fixes anyway; the default is 0.
        ("anomaly_classes", ("scenario.gamma_p=0.1",), {**TWO, "axes": {"k_l": [1]}, "seeds": list(range(10))}),
        # The class of this name, by its index.
        ("classic", (), {**CARDIO, "normal_classes": [0]}),
    ],
)
def test_settings_that_change_no_experiment_are_not_named(
    name: str, words: tuple[str, ...], narrowed: dict[str, Any]
) -> None:
    assert told(name, *words, **narrowed) == Differences((), True)


@pytest.mark.parametrize(
    ("name", "words", "narrowed"),
    [
        ("labeled_anomalies", ("trainer.max_epochs=10",), TWO),
        ("labeled_anomalies", ("method.eta=2",), TWO),
        ("labeled_anomalies", ("pretrain=none",), TWO),
        ("labeled_anomalies", ("dataset.network.dense=[16]",), TWO),
        ("labeled_anomalies", ("scenario.gamma_p=0.1",), TWO),
        # Two phases are the default: neither can be left out alone.
        ("labeled_anomalies", ("method.lr=[1e-3]", "method.epochs=[150]"), TWO),
        ("anomaly_classes", ("scenario.gamma_p=0.2",), {**TWO, "axes": {"k_l": [1]}, "seeds": list(range(10))}),
        ("classic", ("dataset.scaling=minmax",), CARDIO),
        ("classic", ("dataset.network.units=[16,4]", "method.kappa=2"), CARDIO),
    ],
)
def test_settings_that_change_experiments_are_named_and_drop_the_papers_figures(
    name: str, words: tuple[str, ...], narrowed: dict[str, Any]
) -> None:
    assert told(name, "logger=none", *words, "trainer.threads=2", **narrowed) == Differences(words, False)


@pytest.mark.parametrize(
    ("name", "words", "narrowed"),
    [
        ("labeled_anomalies", ("recipe=paper",), TWO),
        ("classic", ("recipe=paper", "trainer.precision=bf16-mixed", "method.selection=holdout"), CARDIO),
    ],
)
def test_comparable_settings_are_named_and_keep_the_papers_figures(
    name: str, words: tuple[str, ...], narrowed: dict[str, Any]
) -> None:
    assert told(name, *words, **narrowed) == Differences(words, True)
    both = told(name, *words, "trainer.max_epochs=1", **narrowed)
    assert both == Differences((*words, "trainer.max_epochs=1"), False)


def test_settings_that_hide_each_other_are_named_once() -> None:
    """Beside the other one, neither changes anything."""
    words = ("trainer.max_epochs=10", "method.epochs=[10,0]", "pretrain.epochs=[10,0]")
    found = told("labeled_anomalies", *words, **TWO)
    assert found.settings in (words[:1], words[1:])
    assert not found.comparable


@pytest.mark.parametrize(
    ("name", "narrowed", "settings", "comparable"),
    [
        ("classic", {**CARDIO, "seeds": [0, 1]}, ("seed=0,1",), True),
        ("classic", {**CARDIO, "seeds": [10, 11]}, ("seed=10,11",), True),
        ("classic", {**CARDIO, "normal_classes": ["anomaly"], "anomaly_classes": ["normal"]}, None, False),
        ("classic", {**CARDIO, "datasets": ["digits"], "normal_classes": [3]}, ("study.normal_classes=[3]",), False),
        ("labeled_anomalies", {**TWO, "anomaly_classes": [1, 2]}, (), True),
        ("labeled_anomalies", {**TWO, "anomaly_classes": None}, ("study.anomaly_classes=None",), False),
        (
            "labeled_anomalies",
            {**TWO, "fixed": {"scenario.k_l": 1, "scenario.gamma_p": 0.1}},
            ("study.fixed={scenario.gamma_p:0.1}",),
            False,
        ),
        ("labeled_anomalies", {**TWO, "fixed": {"scenario.k_l": 1}}, ("~study.fixed.scenario.gamma_p",), False),
        (
            "labeled_anomalies",
            {**TWO, "variants": {"deep_sad": {"method.eta": [1.0, 2.0]}}},
            ("~study.variants.soft_boundary_svdd", "study.variants.deep_sad={'method.eta': [1.0, 2.0]}"),
            False,
        ),
    ],
)
def test_fields_of_the_study_are_named(
    name: str, narrowed: dict[str, Any], settings: tuple[str, ...] | None, comparable: bool
) -> None:
    if settings is None:
        settings = tuple(f"study.{field}={narrowed[field]}" for field in ("normal_classes", "anomaly_classes"))
    assert told(name, **narrowed) == Differences(settings, comparable)


def test_several_commands_are_combined() -> None:
    """The second one sets no epochs, and each has half of the seeds."""
    words = ("trainer.max_epochs=10",)
    halves = [list(range(5)), list(range(5, 10))]
    commands = [
        asked_for("classic", *words, **{**CARDIO, "methods": methods, "seeds": seeds})
        for methods, seeds in zip((["ssad_raw"], ["deep_sad"]), halves, strict=True)
    ]
    assert differences("classic", commands[0]).settings == ("seed=0,1,2,3,4",)
    assert differences("classic", *commands).settings == words


def test_data_other_than_the_published_ones_are_named() -> None:
    asked = asked_for("classic", **CARDIO)
    for job in asked.planned.unique:
        job.plan.identity["dataset"]["data_digest"] = "0" * 64
    found = differences("classic", asked)
    assert found == Differences(("data other than the published cardio",), False)
