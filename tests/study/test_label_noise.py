"""The study label_noise, a run with wrong labels, and the commands on the page about scenarios."""

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from planned import plan_of, settings_of
from processes import ROOT
from studies import planner, study_of

from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import run_experiment
from deepsad_pl.experiment.show_outcome import show_outcome
from deepsad_pl.study.jobs import Planned

PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python (\w+\.py) (.*)$", PAGE, re.MULTILINE)


def planned(study: str, **changed: object) -> Planned:
    fields = {"datasets": ["digits"], "normal_classes": [3], "anomaly_classes": [5, 7], **changed}
    with planner() as made:
        return made.plan(study_of(study, **fields), {})


def test_methods_that_see_labels_are_run_for_each_share_and_the_other_once() -> None:
    methods = ["knn_ratio_raw", "classifier", "deep_svdd"]
    found = planned("label_noise", methods=methods)
    runs: dict[str, set[Path]] = {}
    for job in found.unique:
        runs.setdefault(job.plan.method["name"], set()).add(job.plan.run_dir)
    assert {method: len(runs[method]) for method in methods} == {"knn_ratio_raw": 10, "classifier": 10, "deep_svdd": 1}
    assert {*methods} <= {*study_of("label_noise").methods}


def test_without_wrong_labels_its_runs_are_those_of_the_first_scenario() -> None:
    noise = planned("label_noise", methods=["deep_sad"], axes={"gamma_e": [0.0]})
    ratios = planned("labeled_anomalies", methods=["deep_sad"], axes={"gamma_l": [0.05]})
    assert {job.plan.run_dir for job in noise.unique} == {job.plan.run_dir for job in ratios.unique}


def test_a_number_of_labels_can_be_an_axis() -> None:
    axis = {
        "axes": {"labels": [0, 1, 5]},
        "keys": {"labels": "scenario.labels"},
        "depends": {"labels": "seeing_labels"},
    }
    found = planned("label_noise", **axis, methods=["deep_sad", "classifier", "deep_svdd"])
    in_rows = {
        method: [sum(p.column == method and p.row == (labels,) for p in found.places) for labels in (0, 1, 5)]
        for method in ("deep_sad", "classifier", "deep_svdd")
    }
    # Without labels there is one experiment for all known classes, and none for a method that needs labels.
    assert in_rows == {"deep_sad": [1, 2, 2], "classifier": [0, 2, 2], "deep_svdd": [1, 1, 1]}
    scenarios = [job.plan.scenario for job in found.unique if job.plan.method["name"] == "deep_sad"]
    assert sorted(one.label_count or 0 for one in scenarios) == [0, 1, 1, 5, 5]


def test_a_record_and_the_console_tell_how_many_labels_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ("scenario.labels=10", "scenario.gamma_e=0.3", "scenario.gamma_n=0.1", "scenario.gamma_en=0.2")
    settings = settings_of("method=knn_ratio_raw", "logger=none", f"output_dir={tmp_path}", *words)
    caplog.set_level("INFO")
    outcome = run_experiment(make_plan(settings), config=settings, config_yaml=OmegaConf.to_yaml(settings), command="")
    # 107 normals: T (1 - .02) = 107 + 10 - 3, so T = 116.3; 11 labeled normals, 2 of which are anomalies.
    expected = {"train": 116, "labeled_anomalies": 10, "wrong_anomalies": 3, "labeled_normals": 11, "wrong_normals": 2}
    assert expected.items() <= outcome.record["counts"].items()
    assert outcome.record["counts"]["unlabeled_normals"] == 107 - 3 - 9
    assert outcome.record["scenario"]["gamma_e"] == 0.3
    assert "11 labeled normals (2 of them wrongly), 10 labeled anomalies of class 1 (3 of them wrongly)" in caplog.text
    show_outcome(outcome)
    assert re.search(r"wrong labels\s+5", capsys.readouterr().out)


def test_the_page_has_examples_of_every_setting() -> None:
    shown = " ".join(words for _, words in COMMANDS)
    for key in ("scenario.labels", "scenario.unlabeled", "scenario.gamma_e", "dataset.test_share", "study=label_noise"):
        assert key in shown


@pytest.mark.parametrize(("script", "words"), COMMANDS)
def test_the_commands_of_the_page_can_be_planned(script: str, words: str) -> None:
    chosen = shlex.split(words)
    if script == "train.py":
        assert plan_of(*chosen).run_dir.name
        return
    values = dict(word.split("=") for word in chosen)
    with planner() as made:
        narrowed = study_of(values["study"], datasets=[values["dataset"]], methods=values["method"].split(","))
        assert len(made.plan(narrowed, {}).unique) == 2 * 5 * 90 + 10
