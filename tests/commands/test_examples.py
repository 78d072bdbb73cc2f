"""The examples of components from outside, through train.py, sweeps and studies."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import settings_of, slow_but
from processes import ROOT, run_script
from tiny_data import write_image_folder

from deepsad_pl.experiment.plan import make_plan

EXAMPLES = ROOT / "examples"
QUICK = ("logger=none", "trainer.max_epochs=2", "trainer.threads=1")


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(EXAMPLES / name) for name in ("methods", "networks", "datasets")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]))


def run(script: str, *words: str, of: str = "methods", cwd: Path) -> str:
    done = run_script(script, "--config-dir", str(EXAMPLES / of / "conf"), *words, *QUICK, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*/*/*/metrics.json"))]


def test_examples_are_short() -> None:
    for path in [*EXAMPLES.glob("*/*.py"), *EXAMPLES.glob("*/conf/*/*.yaml")]:
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.parametrize(
    ("of", "words", "where"),
    [
        ("methods", ["method=robust_sad", "method.delta=1"], "robust_sad"),
        ("methods", ["method=deviation"], "deviation"),
        ("methods", ["method=mahalanobis"], "mahalanobis"),
        ("networks", ["network=strided"], "deep_sad"),
        ("datasets", ["dataset=breast_cancer"], "deep_sad"),
        ("datasets", ["dataset=breast_cancer", "method=autoencoder", "dataset.features=10"], "autoencoder"),
    ],
)
def test_an_example_runs_through_train(tmp_path: Path, of: str, words: list[str], where: str) -> None:
    run("train.py", *words, of=of, cwd=tmp_path)
    (record,) = records(tmp_path)
    assert record["method"] == where
    assert 0 <= record["auroc"] <= 1
    # A second time nothing is trained.
    assert "finished" in run("train.py", *words, of=of, cwd=tmp_path)


def test_outside_code_and_arguments_are_part_of_the_identity(tmp_path: Path) -> None:
    run("train.py", "method=robust_sad", "method.delta=1", cwd=tmp_path)
    (record,) = records(tmp_path)
    method = record["identity"]["method"]
    # The YAML's default is 0.5; a whole number becomes a float here.
    assert method["delta"] == 1.0
    assert isinstance(method["delta"], float)
    assert method["_target_"] == "robust_sad.RobustSADModule"
    assert [sorted(code) for code in method["code"]] == [["source", "target"]]
    assert "about" not in method


@pytest.mark.slow
def test_resnet18_of_torchvision_can_be_the_network(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "photos", {part: {"good": 8, "torn": 6} for part in ("train", "test")})
    words = ["dataset=image_folder", "dataset.root=photos", "network=resnet18", "network.num_classes=8"]
    schedule = ["pretrain=none", "method.batch_size=4", "report=false"]
    run("train.py", *words, *schedule, of="networks", cwd=tmp_path)
    (record,) = records(tmp_path)
    network = record["identity"]["dataset"]["network"]
    assert network["_target_"] == "torchvision.models.resnet18"
    assert "version" in network["code"][0]


def test_a_network_without_a_decoder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "photos", {part: {"good": 8, "torn": 6} for part in ("train", "test")})
    words = ["dataset=image_folder", "dataset.root=photos", "network=resnet18"]
    done = run_script("train.py", "--config-dir", str(EXAMPLES / "networks" / "conf"), *words, *QUICK, cwd=tmp_path)
    assert done.returncode != 0
    assert "the network has no decoder" in done.stderr
    assert "pretrain=none" in done.stderr
    assert not records(tmp_path)


STACKED = ("hydra/launcher=stacked", "hydra.launcher.n_jobs=1")


def test_stacked_outside_methods_get_the_same_results_as_alone(tmp_path: Path) -> None:
    for folder, launcher in (("stacked", STACKED), ("alone", ("hydra/launcher=basic",))):
        (tmp_path / folder).mkdir()
        for method in ("robust_sad", "deviation"):
            run("train.py", "-m", f"method={method}", "seed=0,1,2", *launcher, cwd=tmp_path / folder)
    stacked, alone = records(tmp_path / "stacked"), records(tmp_path / "alone")
    assert [record["trainer"]["replicas"] for record in stacked] == [3] * 6
    assert [record["trainer"]["replicas"] for record in alone] == [1] * 6
    assert [record["hash"] for record in stacked] == [record["hash"] for record in alone]
    assert np.allclose([r["auroc"] for r in stacked], [r["auroc"] for r in alone], atol=2e-3)


@pytest.mark.parametrize("launcher", slow_but(("joblib",), ("joblib", "submitit_local")))
def test_an_outside_method_runs_with_other_launchers(tmp_path: Path, launcher: str) -> None:
    run("train.py", "-m", "method=robust_sad,mahalanobis", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert [record["method"] for record in records(tmp_path)] == ["mahalanobis", "robust_sad"]


def test_a_study_can_use_outside_components_throughout(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    for of in ("methods", "datasets"):
        for group in (EXAMPLES / of / "conf").iterdir():
            (tmp_path / "conf" / group.name).symlink_to(group)
    words = ["study=classic", "dataset=breast_cancer", "method=deep_sad,robust_sad,deviation,mahalanobis", "seed=0,1"]
    words += ["study.normal_classes=[benign]", *STACKED]
    done = run_script("sweep.py", "--config-dir", "conf", *words, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(records(tmp_path)) == 8
    table = (tmp_path / "runs" / "studies" / "classic" / "table.md").read_text()
    header = next(line for line in table.splitlines() if "Deep SAD" in line)
    assert all(name in header for name in ("Deep SAD", "Robust SAD", "Deviation", "Mahalanobis"))


WRONG = {
    "no_module": ("_target_: nowhere.Module", "nowhere.Module, whose module is not found"),
    "no_class": ("_target_: robust_sad.NoSuchModule", "robust_sad.py defines no NoSuchModule"),
    "no_target": ("delta: 1.0", "method has no _target_"),
    "unknown": ("_target_: robust_sad.RobustSADModule\ndelt: 1.0\ndelta: 1.0", "did you mean method.delta?"),
    "range": ("_target_: robust_sad.RobustSADModule\ndelta: -1.0", "method.delta is -1.0; it must be a number > 0"),
    "type": ("_target_: robust_sad.RobustSADModule\ndelta: wide", "method.delta is 'wide'; it must be a number > 0"),
    "about": ("_target_: robust_sad.RobustSADModule\nabout: {colum: x}", "there is no setting method.about.colum"),
    "lacking": ("_target_: mahalanobis.fit_mahalanobis\nfeatures: raw\nabout: {shallow: true}", "lacks shrinkage"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_in_a_yaml_names_what_is_wrong(tmp_path: Path, name: str) -> None:
    text, told = WRONG[name]
    inherited = "" if name in ("no_target", "lacking") else "defaults: [deep_sad, _self_]\n"
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text(f"{inherited}name: mine\n{text}\n")
    done = run_script("train.py", "--config-dir", "conf", "method=mine", "pretrain=none", *QUICK, cwd=tmp_path)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


BROKEN = """
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.deep_svdd import DeepSVDDModule
class Half(TrainedMethod):
    def terms(self, x, semi_y): ...
class Raising(DeepSVDDModule):
    def __init__(self, network, *, depth, **schedule):
        raise RuntimeError(f"no depth {depth}")
class NoMethod:
    def __init__(self, network, *, lr, epochs, weight_decay): ...
class Wide(DeepSVDDModule):
    def score(self, x): return self.represent(x)
class Endless(DeepSVDDModule):
    def score(self, x): return super().score(x) / 0
def load(seed, pixels=0):
    return [[1, 2], [3, 4]], ["a", "b"]
"""
CLASSES = {
    "Half": ("", "abstract method"),
    "Raising": ("depth: 3\n", "RuntimeError: no depth 3, in {file}, line 7"),
    "Wide": ("", "Wide.score returned shape (2, 32) for 2 samples; return (2,), one number for each"),
    "Endless": ("", "method=mine cannot be evaluated: 719 of 719 anomaly scores are not finite; lower method.lr, or"),
    "NoMethod": ("", "creates a NoMethod; use a subclass of deepsad_pl.methods.base.TrainedMethod"),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "broken.py").write_text(BROKEN.lstrip())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for group in ("method", "dataset"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_in_a_class_names_the_file_and_what_is_missing(broken: Path, name: str) -> None:
    more, told = CLASSES[name]
    schedule = "lr: [1.0e-3]\nepochs: [1]\nbatch_size: 8\nweight_decay: 0.0\n"
    text = f"name: mine\n_target_: broken.{name}\n{schedule}{more}"
    (broken / "conf" / "method" / "mine.yaml").write_text(text)
    done = run_script("train.py", "--config-dir", "conf", "method=mine", "pretrain=none", *QUICK, cwd=broken)
    assert done.returncode != 0
    assert told.format(file=broken / "broken.py") in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((broken / "runs").rglob("metrics.json"))


def test_a_data_set_that_returns_something_else_is_refused(broken: Path) -> None:
    text = "defaults: [/network@network: mlp, _self_]\nname: mine\n_target_: broken.load\nclasses: [a, b]\n"
    text += "network: {units: [2]}\nlr: [1.0e-3]\nepochs: [1]\nbatch_size: 8\n"
    (broken / "conf" / "dataset" / "mine.yaml").write_text(text)
    done = run_script("train.py", "--config-dir", "conf", "dataset=mine", *QUICK, cwd=broken)
    assert done.returncode != 0
    assert "dataset=mine, broken.load: it returned x of shape (2, 2)" in done.stderr
    assert "return one integer per sample, the index of its class" in done.stderr


def test_changed_code_makes_another_run(broken: Path) -> None:
    text = "import broken_part\nfrom deepsad_pl.methods.deep_svdd import DeepSVDDModule\n"
    text += "class Mine(DeepSVDDModule):\n    def terms(self, x, semi_y):\n"
    text += "        return broken_part.factor() * super().terms(x, semi_y)\n"
    (broken / "broken_part.py").write_text("def factor(): return 2\n")
    (broken / "conf" / "method" / "mine.yaml").write_text("defaults: [deep_svdd]\nname: mine\n_target_: mine.Mine\n")
    words = ["--config-dir", "conf", "method=mine", "pretrain=none", *QUICK]
    folders = []
    for code in (text, text, text.replace("factor()", "factor() / 1")):
        (broken / "mine.py").write_text(code)
        done = run_script("train.py", *words, cwd=broken)
        assert done.returncode == 0, done.stderr
        folders.append(len(records(broken)))
    assert folders == [1, 1, 2]


def planned_with(words: list[str], about: dict[str, Any]) -> str:
    """The run folder of an outside method with changed facts."""
    settings = settings_of(*words)
    settings["method"] |= {"name": "mine", "_target_": "robust_sad.RobustSADModule", "delta": 0.5}
    settings["method"]["about"] = settings["method"]["about"] | about
    return str(make_plan(settings).run_dir)


def test_a_method_that_no_longer_sees_labels_makes_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "methods")
    # With pollution, the known class determines the rows, even for methods that do not see the labels.
    words = ["scenario.gamma_p=0.1", "scenario.gamma_n=0.05"]
    assert planned_with(words, {"labels": "hidden"}) != planned_with(words, {})


@pytest.mark.parametrize(
    ("made", "more", "told"),
    [
        ("np.zeros((8, 2)), np.arange(8) % 2", "about: {own_test_set: true}", "remove own_test_set from about"),
        (
            "Source(*[np.zeros((8, 2), 'float32'), np.arange(8) % 2] * 2, None)",
            "scaling: minmax",
            "returned a Source, whose rows are used unchanged, but dataset.scaling is minmax",
        ),
    ],
)
def test_facts_that_the_data_contradict_are_refused(broken: Path, made: str, more: str, told: str) -> None:
    code = f"import numpy as np\nfrom deepsad_pl.data.sources import Source\ndef load():\n    return {made}\n"
    (broken / "contradicted.py").write_text(code)
    text = "defaults: [/network@network: mlp, _self_]\nname: mine\n_target_: contradicted.load\nclasses: [a, b]\n"
    text += f"network: {{units: [2]}}\nlr: [1.0e-3]\nepochs: [1]\nbatch_size: 8\n{more}\n"
    (broken / "conf" / "dataset" / "mine.yaml").write_text(text)
    done = run_script("train.py", "--config-dir", "conf", "dataset=mine", *QUICK, cwd=broken)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_fact_is_refused_in_a_study_too(broken: Path) -> None:
    (broken / "conf" / "method" / "mine.yaml").write_text("name: mine\n_target_: x.Y\nabout: {colum: x}\n")
    words = ["study=labeled_anomalies", "dataset=digits", "method=mine", *QUICK]
    done = run_script("sweep.py", "--config-dir", "conf", *words, cwd=broken)
    assert done.returncode != 0
    assert "there is no setting method.about.colum" in done.stderr
    assert "Traceback" not in done.stderr
