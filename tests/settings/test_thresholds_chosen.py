"""The group ``threshold``: which choice applies, what it may contain, and what it adds to the identity."""

from pathlib import Path

import pytest
from hydra._internal.utils import create_config_search_path
from planned import plan_of, problems_of

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.thresholds import Threshold
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.store import register
from deepsad_pl.compose.strict import StrictLoader

CONFORMAL = Threshold("conformal", share=0.2, alpha=0.05)
HALF = Threshold("conformal", share=0.5, alpha=0.05)
# A data set that implies the scenario, which implies the threshold.
MARKED = """
defaults:
  - cardio
  - override /scenario@_global_.scenario: given
  - _self_
name: marked
"""


@pytest.fixture
def composer(tmp_path: Path) -> Composer:
    register()
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "marked.yaml").write_text(MARKED)
    path = create_config_search_path(str(CONF))
    schema = path.get_path().pop()
    path.append("test", f"file://{tmp_path}")
    path.append(schema.provider, schema.path)
    return Composer(StrictLoader(path))


@pytest.mark.parametrize(
    ("words", "threshold", "given"),
    [
        ([], Threshold(), False),
        (["scenario=given"], CONFORMAL, True),
        (["threshold=none", "scenario=given"], Threshold(), True),
        (["dataset=marked"], CONFORMAL, True),
        (["dataset=marked", "threshold=quantile"], Threshold("quantile", alpha=0.05), True),
        (["dataset=marked", "scenario=default"], Threshold(), False),
        (["dataset=marked", "scenario=default", "threshold=conformal", "threshold.share=0.5"], HALF, False),
        (["scenario=given", "threshold.alpha=0.01", "seed=3"], Threshold("conformal", share=0.2, alpha=0.01), True),
    ],
)
def test_given_labels_imply_conformal_unless_the_command_line_overrides_it(
    composer: Composer, words: list[str], threshold: Threshold, given: bool
) -> None:
    plan = composer.plan(words)
    assert plan.threshold == threshold
    assert ("given" in plan.identity["scenario"]) is given


def test_only_what_changes_the_training_is_in_the_identity() -> None:
    assert "threshold" not in plan_of().identity
    assert plan_of("threshold=none").run_dir == plan_of().run_dir
    conformal = plan_of("threshold=conformal", "threshold.alpha=0.01")
    assert conformal.identity == {**plan_of().identity, "threshold": {"kind": "conformal", "share": 0.2}}
    assert conformal.run_dir == plan_of("threshold=conformal").run_dir
    assert conformal.run_dir != plan_of("threshold=conformal", "threshold.share=0.3").run_dir
    assert plan_of("threshold=quantile").identity["threshold"] == {"kind": "quantile"}
    labeled = ("threshold=labeled", "scenario.gamma_n=0.1")
    assert plan_of(*labeled, "threshold.fpr=0.1").identity["threshold"] == {"kind": "labeled", "share": 0.2}


def test_all_ranges_are_checked_at_once() -> None:
    assert problems_of("threshold=conformal", "threshold.share=1", "threshold.alpha=0") == [
        "threshold.share is 1.0; it must be a number > 0 and < 1",
        "threshold.alpha is 0.0; it must be a number > 0 and < 1",
    ]
    assert problems_of("threshold=labeled", "threshold.fpr=2", "scenario.gamma_n=0.1") == [
        "threshold.fpr is 2.0; it must be a number > 0 and < 1"
    ]


def test_labels_that_a_threshold_needs_are_required() -> None:
    assert problems_of("threshold=labeled", "scenario.gamma_l=0") == [
        "threshold=labeled needs labeled normal samples, but scenario.gamma_n is 0; raise it or choose "
        "threshold=conformal",
        "threshold=labeled needs labeled anomalies, but scenario.gamma_l is 0; raise it or choose threshold=conformal",
    ]


def test_a_method_that_ignores_labels_is_calibrated_on_them() -> None:
    plan = plan_of("method=deep_svdd", "threshold=labeled", "scenario.gamma_n=0.1")
    assert plan.scenario.known_classes
    assert not plan_of("method=deep_svdd", "threshold=conformal").scenario.known_classes


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("threshold.alpah=0.1", "did you mean threshold.alpha"),
        ("threshold.fpr=0.1", "there is no setting threshold.fpr with threshold=conformal"),
        ("threshold=conform", "threshold has no option conform"),
        ("threshold.name=quantile", "threshold.name is 'quantile', but threshold=conformal is chosen"),
    ],
)
def test_unknown_names_are_refused(composer: Composer, word: str, told: str) -> None:
    with pytest.raises(DeepSADError, match=told):
        composer.plan(["threshold=conformal", word] if "." in word else [word])
