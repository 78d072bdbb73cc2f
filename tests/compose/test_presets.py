"""Presets of whole experiments (``+experiment=``) give the same runs as their settings typed by hand."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from planned import plan_of
from processes import ROOT
from test_unknown_keys import loader, problems_of

from deepsad_pl import run
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.experiment.plan import Plan

CLI = Callable[..., subprocess.CompletedProcess[str]]
BY_HAND = {
    "paper_mnist": [
        *("dataset=mnist", "recipe=paper"),
        *("scenario.normal_class=8", "scenario.anomaly_class=1", "scenario.gamma_l=0.01"),
    ],
    "quick_digits": ["dataset=digits", "logger=csv", "trainer.max_epochs=3"],
}
OWN = """\
# @package _global_
defaults:
  - override /dataset: cardio
  - override /method: ocsvm_raw
  - override /logger: none

scenario: {gamma_l: 0.1}
seed: 3
"""
TYPED = ["dataset=cardio", "method=ocsvm_raw", "logger=none", "scenario.gamma_l=0.1", "seed=3"]


def planned(*words: str, config_dir: Path | None = None) -> Plan:
    """The plan that a sweep makes from these words."""
    return Composer(loader(config_dir)).plan(list(words))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for ``--config-dir`` with a preset called ``own``."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(OWN)
    return tmp_path / "conf"


def test_every_preset_is_compared_with_its_settings() -> None:
    assert {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} == set(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_preset_gives_the_run_of_its_settings_typed_by_hand(name: str) -> None:
    preset, typed = plan_of(f"+experiment={name}"), plan_of(*BY_HAND[name])
    assert preset == typed
    assert preset.run_dir != plan_of().run_dir
    assert planned(f"+experiment={name}") == planned(*BY_HAND[name])


def test_the_command_line_overrides_a_preset() -> None:
    words = ["dataset=fmnist", "scenario.gamma_l=0.2", "seed=4"]
    assert planned("+experiment=paper_mnist", *words) == planned(*BY_HAND["paper_mnist"], *words)
    assert planned(*words, "+experiment=paper_mnist") == planned(*BY_HAND["paper_mnist"], *words)


def test_an_own_preset_works(own: Path) -> None:
    assert planned("+experiment=own", config_dir=own) == planned(*TYPED)


def test_a_run_of_a_preset_is_the_finished_run_of_its_typed_settings(cli: CLI, own: Path) -> None:
    preset = cli("train.py", "+experiment=quick_digits")
    assert preset.returncode == 0, preset.stderr
    by_hand = cli("train.py", *BY_HAND["quick_digits"])
    assert "this run had already finished" in by_hand.stdout
    swept = cli("train.py", "-m", "--config-dir", str(own), "+experiment=quick_digits,own", "dataset=digits")
    assert swept.returncode == 0, swept.stderr
    assert "this run had already finished" in swept.stdout
    names = {path.parent.name for path in own.parent.glob("runs/digits/ocsvm_raw/*/metrics.json")}
    assert names == {planned(*TYPED, "dataset=digits").run_dir.name}


def test_settings_of_a_preset_are_checked_like_those_of_a_command(own: Path) -> None:
    with (own / "experiment" / "own.yaml").open("a") as file:
        file.write("sede: 1\nmethod: {kapa: 2}\n")
    told = problems_of("+experiment=own", "normal_class=3", config_dir=own)
    assert [problem.split(";")[0] for problem in told[:3]] == [
        "there is no setting method.kapa, which a config file sets",
        "there is no setting sede, which a config file sets",
        "there is no setting normal_class",
    ]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("+experiment=quick_digit", "experiment has no option quick_digit; did you mean quick_digits?"),
        (
            "experiment=quick_digits",
            "replaces a chosen experiment, but none is chosen; write +experiment=quick_digits to add it",
        ),
    ],
)
def test_unknown_presets_and_a_missing_plus_are_refused(word: str, told: str) -> None:
    (problem,) = problems_of(word)
    assert told in problem


def test_a_study_refuses_a_preset(cli: CLI) -> None:
    done = cli("sweep.py", "study=classic", "+experiment=quick_digits", "dry_run=true")
    assert done.returncode != 0
    assert "+experiment=quick_digits: a preset may set what the study varies" in " ".join(done.stderr.split())


def test_the_help_lists_presets(cli: CLI) -> None:
    assert "+experiment=paper_mnist, quick_digits" in cli("train.py", "--help").stdout


def test_a_preset_can_be_used_from_python(tmp_path: Path, own: Path) -> None:
    result = run(overrides=["+experiment=own"], config_dir=own, dataset="digits", output_dir=tmp_path / "runs")
    assert result.plan.run_dir.name == planned(*TYPED, "dataset=digits").run_dir.name
    with pytest.raises(DeepSADError, match=r"method\.eta is -1"):
        run(overrides=["+experiment=quick_digits", "method.eta=-1"], output_dir=tmp_path / "runs")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "seed: [1,\n\t2]\n",
            r"own\.yaml, line 2: found character '\\t' that cannot start any token; write plain YAML",
        ),
        ("seed: !!python/object/apply:os.getpid []\n", r"own\.yaml, line 1: could not determine a constructor"),
    ],
    ids=["tab", "python"],
)
def test_a_preset_that_is_no_plain_yaml_is_named(own: Path, text: str, told: str) -> None:
    (own / "experiment" / "own.yaml").write_text(text)
    with pytest.raises(DeepSADError, match=told):
        planned("+experiment=own", config_dir=own)
    (problem,) = problems_of("+experiment=own", config_dir=own)
    assert re.search(told, problem)
