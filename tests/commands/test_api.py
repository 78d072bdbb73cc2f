"""Experiments from Python do the same as the commands, and report errors before any work."""

import doctest
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import ROOT, run_script
from sklearn.metrics import roc_auc_score

import deepsad_pl
from deepsad_pl import DeepSADError, list_datasets, list_methods, load_data, run
from deepsad_pl.commands import api
from deepsad_pl.compose import override_text
from deepsad_pl.shallow.models import Model

QUICK = {"logger": "none", "max_epochs": 2, "threads": 1}


def test_a_run_equals_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("deep_sad", "digits", ["method.eta=2"], gamma_l=0.1, seed=1, output_dir=tmp_path / "api", **QUICK)
    words = ["method.eta=2", "scenario.gamma_l=0.1", "seed=1", "trainer.max_epochs=2", "trainer.threads=1"]
    done = run_script("train.py", *words, "logger=none", "output_dir=command", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (scores,) = (tmp_path / "command").glob("*/*/*/scores.csv")
    assert (result.run_dir / "scores.csv").read_bytes() == scores.read_bytes()
    assert result.run_dir.name == scores.parent.name
    assert not result.was_finished
    assert result.auroc == pytest.approx(roc_auc_score(result.y, result.scores))
    again = run("deep_sad", "digits", ["method.eta=2"], gamma_l=0.1, seed=1, output_dir=tmp_path / "api", **QUICK)
    assert again.was_finished
    repeated = run_script(*shlex.split(result.record["command"])[1:], cwd=tmp_path)
    assert "finished" in repeated.stdout


@pytest.mark.parametrize("method", ["deep_sad", "iforest_raw"])
def test_the_returned_module_scores_like_the_run(tmp_path: Path, method: str) -> None:
    result = run(method, "digits", output_dir=tmp_path, pretrain="none", **QUICK)
    source = load_data("digits")
    x = torch.from_numpy(source.x_test).float() / 16
    module = result.module
    if isinstance(module, Model):
        found = module.score(x.flatten(1).numpy())
    else:
        assert not module.training
        with torch.no_grad():
            found = module.score(x).numpy()
    np.testing.assert_allclose(found, result.scores, rtol=1e-4, atol=1e-5)


def test_settings_are_found_by_their_last_name(tmp_path: Path) -> None:
    result = run("ssad_raw", kappa=0.5, selection="none", anomaly_class=["1", 2], k_l=2, output_dir=tmp_path, **QUICK)
    assert result.record["identity"]["method"]["kappa"] == 0.5
    assert result.record["scenario"]["anomaly_class"] == ["1", "2"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gama_l": 0.1}, "there is no setting gama_l with these choices; did you mean scenario.gamma_l?"),
        ({"lr": [1e-3]}, "lr is ambiguous: dataset.lr, recipe.lr, pretrain.lr, method.lr; pass overrides="),
        ({"gamma_l": 2.0}, "scenario.gamma_l"),
        ({"eta": -1}, "method.eta is -1.0; it must be a number > 0"),
        ({"method": "deep_bad"}, "method has no option deep_bad; did you mean deep_sad?"),
        ({"config_dir": "nowhere"}, "config_dir is nowhere, which is not a folder"),
    ],
)
def test_errors_are_reported_before_any_work(tmp_path: Path, settings: dict[str, object], told: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        run(**{"output_dir": tmp_path / "runs", **QUICK, **settings})  # type: ignore[arg-type]
    assert told in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_own_choices_are_listed() -> None:
    conf = ROOT / "examples" / "methods" / "conf"
    assert {*list_methods(conf)} - {*list_methods()} == {"robust_sad", "deviation", "mahalanobis"}
    assert {"digits", "cardio"} <= {*list_datasets()}


def test_the_public_names_are_exactly_those_listed() -> None:
    assert all(getattr(deepsad_pl, name) is not None for name in deepsad_pl.__all__)
    assert {*deepsad_pl.__all__} == {*deepsad_pl._WHERE} <= {*dir(deepsad_pl)}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = deepsad_pl.nothing


def test_the_import_and_the_lists_need_no_torch() -> None:
    code = "import sys, deepsad_pl; deepsad_pl.list_methods(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("module", [deepsad_pl, api, override_text])
def test_examples_in_docstrings(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted and not found.failed
