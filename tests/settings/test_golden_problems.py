"""The messages about wrong configurations do not change unnoticed. ``pytest --write-golden`` rewrites the files.

Paths, compilers and GPUs of this machine are replaced, so that the messages are the same everywhere.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_files import METHODS, GoldenFiles
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from planned import about, settings_of
from studies import DIGITS, fields_of, planner, study_of

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.strict import find_problems, with_those_of_the_rest
from deepsad_pl.data.scenario import Scenario, draw_training_set
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.study.command_line import sort_overrides
from deepsad_pl.study.grid import Study, Subject, places, study_problems

SETTINGS = """
output_dir= data_dir=
dataset.name=a/b dataset.kind=floppy
dataset.kind=mnist
dataset.name=mnist
dataset=cardio dataset.name=a dataset.kind=digits dataset.scaling=log
dataset=image_folder dataset.root=
dataset=image_folder dataset.root=IMAGES dataset.kind=digits dataset.channels=2 dataset.image_size=7
dataset=image_folder dataset.root=IMAGES dataset.name=mnist dataset.image_size=[8,8,8]
dataset=image_folder dataset.root=IMAGES/no
dataset=image_folder dataset.root=IMAGES/train
dataset=image_folder dataset.root=EMPTY
dataset=image_folder dataset.root=IMAGES scenario.normal_class=novel
dataset=image_folder dataset.root=IMAGES scenario.anomaly_class=novel
dataset=image_folder dataset.root=IMAGES scenario.normal_class=[ant,bee]
dataset.network.name=mlp dataset.network.filters=[] dataset.network.dense=[0] dataset.network.kernel_size=4
dataset=cardio dataset.network.name=lenet dataset.network.units=[8,0]
dataset.classes=[a,b] scenario.gamma_l=2 seed=-1
dataset.classes=[0,1,2,3,4,5,6,7,8,''] scenario.k_l=-1
dataset=cardio dataset.classes=["caf\u00e9","cafe\u0301"]
method.lr=[-1,nan] method.epochs=[-1,0] method.batch_size=1 method.weight_decay=-1
method.lr=[] method.epochs=[]
method.eta=0 method.center_from=nowhere
pretrain.lr=[0,inf] pretrain.epochs=[0,0] pretrain.batch_size=0 pretrain.weight_decay=inf
pretrain.epochs=[1,2,3] pretrain.loss=l1 pretrain.data=some
method=ss_dgm_m1m2 method.hidden=[] method.latent=0 pretrain.hidden=[8,0] pretrain.latent=-1
method=soft_boundary_svdd method.nu=1
method=autoencoder method.loss=l1
method=ocsvm_raw method.features=bottleneck method.selection=guess method.gammas=[0] method.nus=[0.5,2] method.nu=0
method=ocsvm_hybrid method.features=raw method.gammas=[] method.nus=[]
method=iforest_raw method.trees=0 method.subsample=1
method=kde_raw method.bandwidths=[0,1e60] method.folds=1
method=kde_hybrid method.bandwidths=[]
method=ssad_raw method.kappa=-1 method.eta_u=0 method.eta_l=inf method.selection=guess
dataset=cardio method=autoencoder method.loss=cross_entropy
dataset=cardio pretrain.loss=cross_entropy
method.name=kde_raw pretrain.name=vae logger.name=csv
pretrain.name=none
method.center_from=labeled_normal
method=classifier scenario.gamma_l=0
method=ss_dgm_m2 scenario.k_l=0
logger.mode=cloud
logger=csv logger.name=wandb
trainer.accelerator=tpu trainer.strategy=fsdp trainer.precision=16 trainer.checkpoint_seconds=-1
trainer.devices=0 trainer.num_nodes=0 trainer.threads=0 trainer.max_epochs=0
trainer.accelerator=cpu trainer.devices=2
trainer=ddp trainer.accelerator=cpu trainer.compile=true method=kde_raw
trainer.accelerator=cpu trainer.compile=true
trainer=ddp trainer.accelerator=gpu
trainer=ddp trainer.devices=8
scenario.gamma_l=1 scenario.gamma_p=-0.1 scenario.gamma_n=nan scenario.k_l=-1 seed=4294967296
scenario.gamma_l=0.5 scenario.gamma_n=0.5
scenario.normal_class=[]
scenario.normal_class=ten scenario.anomaly_class=10
scenario.normal_class=1
scenario.normal_class=[0,1,2,3,4,5,6,7,8,9]
scenario.anomaly_class=[]
scenario.anomaly_class=[1,2,1,0] scenario.k_l=2
scenario.k_l=10
dataset=cardio scenario.k_l=2
dataset=cardio dataset.classes=["null","1_0"] scenario.normal_class=null scenario.anomaly_class=11
dataset=toy dataset.classes=["10","1_0","a-b","a_b"] scenario.normal_class=10 scenario.anomaly_class=A.b
"""
# The same for one job of a sweep; the number is that of the processes that a launcher starts for it.
IN_A_SWEEP: Mapping[str, int | None] = {
    "trainer=ddp trainer.accelerator=cpu": None,
    "trainer=ddp trainer.accelerator=gpu trainer.compile=true": 4,
    "logger=wandb": None,
}
DATA = """
scenario.gamma_l=0.9
scenario.gamma_p=0.95
scenario.gamma_l=0.2 scenario.k_l=2 scenario.anomaly_class=[1,2] scenario.gamma_p=0.9
dataset=image_folder dataset.root=IMAGES scenario.normal_class=bee scenario.anomaly_class=ant
method.batch_size=2 pretrain=none scenario.gamma_l=0
method.center_from=labeled_normal scenario.gamma_n=0.001
method=classifier scenario.gamma_l=0.001
method=kde_raw method.folds=5000
method=ssad_raw method.kappa=9
method=ssad_raw method.eta_l=0.01
method=ssad_raw method.eta_u=0.001
dataset.network.filters=[4,4,4,4]
"""
# Command lines of train.py.
WORDS = (
    "normal_class=3 +nonsense=1 +scenario.gama_l=0.2 scenaro.gamma_l=0.2 +trainer.limit_train_batches=1 lr=[1]"
    " metod.lr=[1] method.kappa=1 dataset.network.units=[1] datset=mnist dry_run=true study.seeds=[1] ~seed +seed=1"
    " seed=x trainer.precision=8",
    "method=deepsad dataset=minst pretrain=null logger=[csv,none] study=classic scenario.gamma_l=7",
    "dataset=image_folder",
    "hydra/launcher=none hydra/sweeper=gird",
    "experiment=mine +dataset.foo=1",
)


def lines_of(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.fixture
def places_of(tmp_path: Path) -> Mapping[str, Path]:
    """The placeholders for paths in the lines above."""
    images, empty = tmp_path / "images", tmp_path / "empty"
    for name in ("train/ant", "train/bee", "test/ant", "test/novel"):
        for i in range(8):
            (images / name).mkdir(parents=True, exist_ok=True)
            (images / name / f"{i}.pgm").write_bytes(b"P5 8 8 255\n" + bytes(range(64)))
    for part in ("train", "test"):
        (empty / part).mkdir(parents=True)
    return {"IMAGES": images, "EMPTY": empty}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "SLURM_STEP_NUM_TASKS", "CC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def settings_for(line: str, places: Mapping[str, Path], tmp_path: Path) -> dict[str, Any]:
    for name, path in places.items():
        line = line.replace(name, str(path))
    return settings_of(f"data_dir={tmp_path}", *line.split())


def told(work: Callable[..., object], *given: Any, **more: Any) -> list[str]:
    """The messages with which something is refused."""
    with pytest.raises(DeepSADError) as caught:
        work(*given, **more)
    return caught.value.problems


def without_paths(problems: Sequence[str], places: Mapping[str, Path]) -> list[str]:
    for name, path in places.items():
        problems = [problem.replace(str(path), name) for problem in problems]
    return list(problems)


def test_problems_of_settings_are_unchanged(
    golden: GoldenFiles, places_of: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[str]] = {}
    for line in lines_of(SETTINGS):
        settings = settings_for(line, places_of, tmp_path)
        found[line] = without_paths(told(make_plan, settings), places_of)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "trial")
    for line, tasks in IN_A_SWEEP.items():
        settings = settings_of(*line.split())
        found[f"{line} (-m, tasks {tasks})"] = told(make_plan, settings, multirun=True, tasks=tasks)
    golden.check("problems_of_settings.txt", found)


def test_problems_of_pretraining_are_unchanged(golden: GoldenFiles) -> None:
    """What each method may start from."""
    found: dict[str, list[str]] = {}
    for method, pretrain in itertools.product(METHODS, ("autoencoder", "vae", "none")):
        settings = settings_of(f"method={method}", f"pretrain={pretrain}")
        try:
            make_plan(settings)
        except DeepSADError as error:
            found[f"method={method} pretrain={pretrain}"] = error.problems
        else:
            found[f"method={method} pretrain={pretrain}"] = ["-"]
    golden.check("problems_of_pretraining.txt", found)


def test_problems_of_data_are_unchanged(golden: GoldenFiles, places_of: Mapping[str, Path], tmp_path: Path) -> None:
    found: dict[str, list[str]] = {}
    for line in lines_of(DATA):
        plan = make_plan(settings_for(line, places_of, tmp_path))
        found[line] = without_paths(told(build, plan, load_data(plan)), places_of)
    scenario = Scenario((0,), (1,), 0.5, 0.0, 0.0, seed=0)
    found["no normal row"] = told(draw_training_set, [1, 1], scenario, ("a", "b"))
    golden.check("problems_of_data.txt", found)


def test_problems_of_words_are_unchanged(golden: GoldenFiles, tmp_path: Path) -> None:
    own = {
        "dataset/own": "defaults: [cardio]\nname: own\nclases: [a, b]\nnetwork:\n  unit: [1]\n",
        "experiment/own": "# @package _global_\nseed: 1\n",
    }
    for name, text in own.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(text)
    found: dict[str, list[str]] = {}
    with initialize_config_dir(CONF, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for line in WORDS:
            found[line] = with_those_of_the_rest(find_problems(loader, "train", line.split()))
        sweep = "+nonsense=1 study=clasic"
        found[f"sweep.py {sweep}"] = find_problems(loader, "sweep", sweep.split()).problems
        for words in ("dataset=own", "experiment=own"):
            searched = f"hydra.searchpath=[file://{tmp_path}]"
            found[words] = with_those_of_the_rest(find_problems(loader, "train", [searched, words]))
    found["method.lr=${nothing}"] = told(settings_of, "method.lr='${nothing}'")
    golden.check("problems_of_words.txt", found)


STUDIES: Sequence[Mapping[str, Any]] = (
    {"name": "a/b", "datasets": [], "methods": [], "seeds": []},
    {"methods": ["deep_sad", "deep_bad", "deep_sad"], "seeds": [0, 1, 0], "variants": {"deep_worse": {}}},
    {"axes": {"gamma_l": [], "x": [1, 1]}, "depends": {"gamma_l": "some"}},
    {"normal_classes": 0, "anomaly_classes": [], "figure": "pie"},
    {"normal_classes": None, "anomaly_classes": [1, [2, 3]]},
)
CELLS: Sequence[Mapping[str, Any]] = (
    {"normal_classes": ["cat"]},
    {"anomaly_classes": [None]},
    {"anomaly_classes": [9]},
)
PASSED_ON = """
seed=a,b method=deep_sad,kde_raw
study.seeds=[1] seed=1 study.datasets=[digits] dataset=digits
scenario.gamma_l=0.1 scenario.normal_class=1 scenario.anomaly_class=2 method.eta=1,2
"""
# Changes of a study of Deep SAD and the KDE on digits, and settings passed on to its experiments.
PLANNED: Sequence[tuple[Mapping[str, Any], tuple[str, ...]]] = (
    ({"fixed": {"method.kapa": 2.0, "method.kappa": 1.0}}, ("method.bandwidth=[1]", "method.trees=3", "+trainer.x=1")),
    ({"methods": ["deep_sad"], "normal_classes": [1], "anomaly_classes": [1]}, ()),
    ({}, ("method.eta=0", "method.folds=0")),
    ({"datasets": ["digts"]}, ()),
    ({"normal_classes": ["cat"]}, ()),
)


def changed_study(changed: Mapping[str, Any]) -> Study:
    return replace(study_of("labeled_anomalies"), **changed)


def test_problems_of_studies_are_unchanged(golden: GoldenFiles) -> None:
    found: dict[str, list[str]] = {}
    for changed in STUDIES:
        found[f"study {changed}"] = study_problems(changed_study(changed), METHODS)
    scenario = settings_of()["scenario"]
    subject = Subject("digits", "deep_sad", DIGITS, True, scenario, {}, lambda method, key: True, about, DIGITS[:9])
    for changed in CELLS:
        found[f"cells {changed}"] = told(places, changed_study(changed), subject)
    for line in lines_of(PASSED_ON):
        overrides = OverridesParser.create().parse_overrides(line.split())
        keys = fields_of("labeled_anomalies")["keys"]
        found[line] = told(sort_overrides, overrides, keys)
    small = {"datasets": ["digits"], "methods": ["deep_sad", "kde_raw"], "axes": {"gamma_l": [0.05]}}
    for changed, passed_on in PLANNED:
        study = changed_study({**small, **changed})
        with planner(*passed_on) as plan:
            title = f"planned {changed} {' '.join(passed_on)}".rstrip()
            found[title] = told(plan.plan, study, {})
    golden.check("problems_of_studies.txt", found)
