"""From a configuration to a plan: every wrong value is reported, and the identity holds exactly what matters."""

import re
from pathlib import Path

import pytest
import torch
from plain_loops import phases_of
from planned import plan_of, problems_of
from processes import ROOT

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import load_data
from deepsad_pl.experiment.plan import Plan

# These also need settings of the data.
NAMED_ELSEWHERE = ("adbench", "image_folder", "mvtec", "table")
DATASETS = sorted(path.stem for path in (ROOT / "conf" / "dataset").glob("*.yaml") if path.stem not in NAMED_ELSEWHERE)


def image_folder(root: Path, **files: bytes) -> str:
    """An image folder with two classes, as an override; a plan never opens the images."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            (root / part / name / "1.png").write_bytes(files.get(name, b"x"))
    return f"dataset.root={root}"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("method.eta=0", "method.eta", "0.0"),
        ("method.eta=-1", "method.eta", "-1.0"),
        ("method.eta=nan", "method.eta", "nan"),
        ("method.eta=inf", "method.eta", "inf"),
        ("method.lr=[-0.1,0.1]", "method.lr", "-0.1"),
        ("pretrain.lr=[0,0.1]", "pretrain.lr", "0.0"),
        ("method.lr=[1]", "method.lr", "1"),
        ("pretrain.epochs=[1,2,3]", "pretrain.epochs", "3"),
        ("method.epochs=[-1,2]", "method.epochs", "-1"),
        ("method.epochs=[0,0]", "method.epochs", "[0, 0]"),
        ("method.batch_size=1", "method.batch_size", "1"),
        ("pretrain.batch_size=0", "pretrain.batch_size", "0"),
        ("method.weight_decay=-1", "method.weight_decay", "-1.0"),
        ("method.center_from=nowhere", "method.center_from", "nowhere"),
        ("method.center_from=labeled_normal", "scenario.gamma_n", "0"),
        ("pretrain.loss=l1", "pretrain.loss", "l1"),
        ("pretrain.data=some", "pretrain.data", "some"),
        ("scenario.gamma_l=1", "scenario.gamma_l", "1.0"),
        ("scenario.gamma_p=-0.1", "scenario.gamma_p", "-0.1"),
        ("scenario.gamma_n=1.5", "scenario.gamma_n", "1.5"),
        ("scenario.gamma_l=nan", "scenario.gamma_l", "nan"),
        ("scenario.normal_class=1", "scenario.anomaly_class", "'1'"),
        ("scenario.normal_class=ten", "scenario.normal_class", "'ten'"),
        ("scenario.anomaly_class=10", "scenario.anomaly_class", "10"),
        ("scenario.k_l=10", "scenario.k_l", "10"),
        ("scenario.k_l=-1", "scenario.k_l", "-1"),
        ("scenario.normal_class=[]", "scenario.normal_class", "empty"),
        ("seed=-1", "seed", "-1"),
        ("trainer.precision=16", "trainer.precision", "'16'"),
        ("trainer.accelerator=tpu", "trainer.accelerator", "'tpu'"),
        ("trainer.strategy=fsdp", "trainer.strategy", "'fsdp'"),
        ("trainer.devices=2", "trainer.devices", "2"),
        ("trainer.devices=0", "trainer.devices", "0"),
        ("trainer.threads=0", "trainer.threads", "0"),
        ("trainer.max_epochs=0", "trainer.max_epochs", "0"),
        ("trainer.checkpoint_seconds=-1", "trainer.checkpoint_seconds", "-1"),
        ("logger.mode=cloud", "logger.mode", "'cloud'"),
        ("dataset.network.kernel_size=4", "dataset.network.kernel_size", "4"),
        ("dataset.network.dense=[]", "dataset.network.dense", "[]"),
        ("dataset.name=a/b", "dataset.name", "'a/b'"),
        ("dataset.name=", "dataset.name", "''"),
        ("dataset.kind=floppy", "dataset.kind", "floppy"),
        ("dataset.kind=mnist", "dataset.kind is mnist, but dataset.name is digits", "choose dataset=mnist"),
        ("dataset.name=mnist", "dataset.kind is digits, but dataset.name is mnist", "its own dataset.name"),
        ("dataset.classes=[0,1,2,3,4,5,6,7,8,0]", "dataset.classes", "0 more than once"),
        ("dataset.classes=[a,b]", "dataset.classes has 2 names", "digits has 10 classes"),
        ("dataset.classes=[0,1,2,3,4,5,6,7,8,9,10]", "dataset.classes has 11 names", "digits has 10 classes"),
        ("dataset.classes=[0,1,2,3,4,5,6,7,8,'']", "dataset.classes", "give every class a name"),
        ("output_dir=", "output_dir", "empty"),
        ("output_dir=' '", "output_dir", "empty"),
    ],
)
def test_a_wrong_value_is_one_problem_with_key_and_value(override: str, key: str, value: str) -> None:
    (problem,) = problems_of(override)
    assert key in problem
    assert value in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "overrides",
    [
        ("dataset.kind=mnist", "dataset.name=other"),
        ("dataset.name=my-digits",),
        ("dataset=cardio", "dataset.kind=thyroid", "dataset.name=other", "dataset.classes=[good,bad]"),
        ("data_dir=",),
    ],
)
def test_a_data_set_may_have_its_own_name(overrides: tuple[str, ...]) -> None:
    assert plan_of(*overrides, "scenario.normal_class=0", "scenario.anomaly_class=1")


def test_an_image_folder_must_not_have_the_name_of_a_known_data_set(tmp_path: Path) -> None:
    (problem,) = problems_of("dataset=image_folder", image_folder(tmp_path), "dataset.name=mnist")
    assert problem.startswith("dataset.kind is image_folder, but dataset.name is mnist")


def test_an_image_folder_without_a_root_is_reported() -> None:
    assert problems_of("dataset=image_folder", "dataset.root=")[0].startswith("dataset.root is empty")


def test_composed_and_decomposed_letters_are_one_class_name() -> None:
    (problem,) = problems_of("dataset=cardio", "dataset.classes=['caf\u00e9','cafe\u0301']")
    assert problem.startswith("dataset.classes has caf\u00e9 more than once")


@pytest.mark.parametrize("kind", ["digits", "toy"])
def test_every_class_of_the_embedded_data_sets_has_a_name(kind: str) -> None:
    plan = plan_of(f"dataset={kind}")
    source = load_data(plan)
    assert len(plan.classes) == len({*source.labels_train, *source.labels_test})


@pytest.mark.parametrize("word", ["method.name=deep_svdd", "pretrain.name=none", "logger.name=foo"])
def test_no_choice_may_have_the_name_of_another(word: str) -> None:
    problems = problems_of(word)
    assert word.replace("=", " is ").replace("foo", "'foo'") in problems[0]


def test_cross_entropy_needs_inputs_in_the_unit_interval() -> None:
    (problem,) = problems_of("dataset=cardio", "pretrain.loss=cross_entropy")
    assert "pretrain.loss" in problem
    assert plan_of("dataset=cardio", "pretrain.loss=cross_entropy", "dataset.scaling=minmax")
    assert plan_of("dataset=digits", "pretrain.loss=cross_entropy")


def test_a_wrong_scaling_is_reported() -> None:
    assert any("dataset.scaling" in problem for problem in problems_of("dataset=cardio", "dataset.scaling=log"))


def test_the_autoencoder_is_not_pretrained_by_itself() -> None:
    (problem,) = problems_of("method=autoencoder", "pretrain=autoencoder")
    assert "pretrain" in problem


def test_the_autoencoder_as_a_method_needs_no_pretrain_override() -> None:
    assert plan_of("method=autoencoder").pretrain is None


@pytest.mark.parametrize("size", ["7", "[8,7]", "[8,8,8]", "8.5", "big"])
def test_an_image_must_survive_every_pooling(tmp_path: Path, size: str) -> None:
    (problem,) = problems_of("dataset=image_folder", image_folder(tmp_path), f"dataset.image_size={size}")
    assert "dataset.image_size" in problem
    assert "from 8 to 4096" in problem


def test_a_wrong_number_of_channels_is_reported(tmp_path: Path) -> None:
    (problem,) = problems_of("dataset=image_folder", image_folder(tmp_path), "dataset.channels=2")
    assert "dataset.channels" in problem


def test_identity_and_folder_contain_several_known_classes() -> None:
    plan = plan_of("scenario.anomaly_class=[2,1]")
    assert plan.identity["scenario"]["known_classes"] == [1, 2]
    assert "known_1+2" in plan.run_dir.name
    assert plan == plan_of("scenario.anomaly_class=['1',2]", "scenario.k_l=2")


def test_a_missing_image_folder_is_reported(tmp_path: Path) -> None:
    (problem,) = problems_of("dataset=image_folder", f"dataset.root={tmp_path / 'no'}")
    assert str(tmp_path / "no") in problem


def test_a_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (problem,) = problems_of("trainer=gpu")
    assert "trainer.accelerator" in problem
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert plan_of("trainer=gpu").trainer["accelerator"] == "gpu"


def test_ddp_is_refused_in_a_multirun_only() -> None:
    assert plan_of("trainer=ddp").trainer["devices"] == 2
    (problem,) = problems_of("trainer=ddp", multirun=True)
    assert "ddp" in problem


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of(
        *("method.eta=0", "pretrain.batch_size=1", "scenario.gamma_l=2", "scenario.normal_class=x", "seed=-1"),
        *("trainer.precision=8", "logger.mode=cloud", "dataset.network.kernel_size=2"),
    )
    keys = ("method.eta", "pretrain.batch_size", "scenario.gamma_l", "scenario.normal_class", "seed")
    for key in (*keys, "trainer.precision", "logger.mode", "dataset.network.kernel_size"):
        assert len([problem for problem in problems if problem.startswith(key)]) == 1
    assert len(problems) == 8


def test_an_error_lists_its_problems_line_by_line() -> None:
    assert str(DeepSADError("a", "b")).splitlines()[1:] == ["  - a", "  - b"]
    assert str(DeepSADError("a")) == "a"


@pytest.mark.parametrize(
    "override",
    [
        "data_dir=elsewhere",
        "logger=csv",
        "logger.tags=[a]",
        "force=true",
        "trainer.threads=1",
        "trainer=cpu",
        "trainer=ddp",
        "trainer.checkpoint_seconds=0",
        "scenario.normal_class='0'",
        "scenario.normal_class=[0]",
        "recipe.name=mine",
    ],
)
def test_identity_and_folder_do_not_depend_on_irrelevant_settings(override: str) -> None:
    assert plan_of(override).identity == plan_of().identity
    assert plan_of(override).run_dir == plan_of().run_dir


def test_the_run_folder_does_not_depend_on_the_output_dir(tmp_path: Path) -> None:
    assert plan_of(f"output_dir={tmp_path}").run_dir == tmp_path / plan_of().run_dir.relative_to("runs")


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "scenario.gamma_l=0.1",
        "scenario.gamma_p=0.1",
        "scenario.gamma_n=0.1",
        "scenario.k_l=2",
        "scenario.normal_class=2",
        "scenario.normal_class=[0,2]",
        "scenario.anomaly_class=2",
        "method=autoencoder",
        "method.eta=2",
        "method.center_from=all",
        "method.lr=[0.1,0.1]",
        "method.epochs=[1,2]",
        "method.batch_size=33",
        "method.weight_decay=0",
        "pretrain=none",
        "pretrain.data=unlabeled",
        "pretrain.loss=cross_entropy",
        "pretrain.lr=[0.1,0.1]",
        "pretrain.epochs=[1,2]",
        "pretrain.batch_size=33",
        "pretrain.weight_decay=0",
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=3",
        "recipe=paper",
        "dataset=mnist",
        "dataset.network.dense=[16]",
        "dataset.network.kernel_size=5",
    ],
)
def test_identity_and_folder_depend_on_relevant_settings(override: str) -> None:
    assert plan_of(override).identity != plan_of().identity
    assert plan_of(override).run_dir.name != plan_of().run_dir.name


def test_scaling_of_a_table_is_part_of_the_identity() -> None:
    zscore, minmax = plan_of("dataset=cardio"), plan_of("dataset=cardio", "dataset.scaling=minmax")
    assert zscore.identity != minmax.identity


def test_a_cap_above_the_number_of_epochs_changes_nothing() -> None:
    assert plan_of("trainer.max_epochs=150").identity == plan_of().identity


@pytest.mark.parametrize(("cap", "epochs"), [(1, [1, 0]), (50, [50, 0]), (60, [50, 10]), (200, [50, 100])])
def test_max_epochs_caps_each_training(cap: int, epochs: list[int]) -> None:
    plan = plan_of(f"trainer.max_epochs={cap}")
    assert plan.pretrain is not None
    assert (plan.method.epochs, plan.pretrain.epochs) == (epochs, epochs)


@pytest.mark.parametrize("nothing_labeled", ["scenario.gamma_l=0", "scenario.k_l=0"])
@pytest.mark.parametrize("wish", ["5", "0", "no such class", "null"])
def test_without_labels_the_anomaly_class_does_not_matter(nothing_labeled: str, wish: str) -> None:
    plan = plan_of(nothing_labeled, f"scenario.anomaly_class={wish}")
    assert plan.identity == plan_of("scenario.gamma_l=0").identity
    assert plan.run_dir == plan_of("scenario.gamma_l=0").run_dir
    assert plan.scenario.known_classes == ()


def test_null_draws_the_anomaly_class_by_the_seed() -> None:
    drawn = [plan_of("scenario.anomaly_class=null", f"seed={seed}").scenario.known_classes for seed in range(12)]
    again = [plan_of("scenario.anomaly_class=null", f"seed={seed}").scenario.known_classes for seed in range(12)]
    assert drawn == again
    assert len(set(drawn)) > 3
    assert all(len(known) == 1 and known != (0,) for known in drawn)


def test_a_drawn_class_gives_the_same_run_as_that_class_given() -> None:
    (drawn,) = plan_of("scenario.anomaly_class=null").scenario.known_classes
    assert plan_of("scenario.anomaly_class=null").run_dir == plan_of(f"scenario.anomaly_class={drawn}").run_dir


@pytest.mark.parametrize("override", ["scenario.anomaly_class=7", "scenario.gamma_l=0.2", "scenario.k_l=3"])
def test_an_unsupervised_method_has_one_run_for_all_labels(override: str) -> None:
    assert plan_of("method=autoencoder", override).run_dir == plan_of("method=autoencoder").run_dir


def test_an_autoencoder_that_sees_labeled_anomalies_makes_another_run() -> None:
    seeing = ("method=autoencoder", "method.sees_labeled_anomalies=true")
    assert plan_of(*seeing).scenario.known_classes == (1,)
    assert plan_of(*seeing).run_dir != plan_of("method=autoencoder").run_dir


@pytest.mark.parametrize(
    ("dataset", "index", "name"), [("cifar10", 8, "ship"), ("fmnist", 9, "'Ankle boot'"), ("fmnist", 0, "t-shirt-top")]
)
def test_a_class_by_name_equals_the_class_by_index(dataset: str, index: int, name: str) -> None:
    by_index = plan_of(f"dataset={dataset}", f"scenario.normal_class={index}")
    assert plan_of(f"dataset={dataset}", f"scenario.normal_class={name}").run_dir == by_index.run_dir


def test_an_image_folder_is_the_same_run_wherever_it_lies(tmp_path: Path) -> None:
    def planned(where: str, **files: bytes) -> Plan:
        classes = ("scenario.normal_class=dog", "scenario.anomaly_class=cat")
        return plan_of(
            "dataset=image_folder", image_folder(tmp_path / where, **files), f"data_dir={tmp_path / 'cache'}", *classes
        )

    here, there, other = planned("here"), planned("there"), planned("other", cat=b"xx")
    assert here.run_dir == there.run_dir != other.run_dir
    assert here.classes == ("cat", "dog")


@pytest.mark.parametrize("dataset", DATASETS)
def test_paper_recipe_is_the_printed_schedule(dataset: str) -> None:
    plan = plan_of(f"dataset={dataset}", "recipe=paper")
    for phase in (plan.method, plan.pretrain):
        assert phase is not None
        assert (phase.arguments["lr"], phase.epochs, phase.batch_size) == ([1e-4, 1e-5], [50, 100], 200)


@pytest.mark.parametrize("dataset", ["digits", "cardio", "mnist"])
def test_default_recipe_is_what_the_data_set_recommends(dataset: str) -> None:
    plan = plan_of(f"dataset={dataset}")
    for phase in (plan.method, plan.pretrain):
        assert phase is not None
        for key in ("lr", "epochs", "batch_size"):
            assert phase.settings()[key] == getattr(plan.dataset, key)


@pytest.mark.parametrize(("changed", "other"), [("method", "pretrain"), ("pretrain", "method")])
def test_the_schedule_of_one_phase_can_be_changed_alone(changed: str, other: str) -> None:
    plan = plan_of(f"{changed}.lr=[0.5]", f"{changed}.epochs=[7]", f"{changed}.batch_size=9")
    assert plan.pretrain is not None
    phases = {"method": plan.method, "pretrain": plan.pretrain}
    assert [phases[changed].settings()[key] for key in ("lr", "epochs", "batch_size")] == [[0.5], [7], 9]
    assert phases[other] == {"method": plan_of().method, "pretrain": plan_of().pretrain}[other]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("dataset=fmnist", "scenario.normal_class=[0,'Ankle boot']", "scenario.gamma_p=0.1", "scenario.gamma_n=0.05"),
        ("scenario.gamma_l=0",),
        ("scenario.k_l=9",),
    ],
)
def test_run_folder_is_dataset_method_slug_and_hash(overrides: tuple[str, ...]) -> None:
    plan = plan_of(*overrides, "output_dir=out")
    top, dataset, method, name = plan.run_dir.parts
    assert (top, dataset, method) == ("out", plan.dataset.name, "deep_sad")
    assert re.fullmatch(r"[\w.+-]+-[0-9a-f]{8}", name)


def test_run_folder_says_what_the_scenario_is() -> None:
    name = plan_of("scenario.normal_class=8", "scenario.gamma_l=0.1", "scenario.gamma_p=0.2", "seed=3").run_dir.name
    for part in ("normal_8", "known_1", "gamma_l_0.1", "gamma_p_0.2", "seed_3"):
        assert part in name


def test_seed_zero_is_a_seed() -> None:
    assert plan_of("seed=0").seed == plan_of("seed=0").scenario.seed == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("scenario.gamma_l=0", "method.eta=1"), ("scenario.gamma_l=0", "method.eta=10")),
        (
            ("scenario.gamma_l=0", "method.center_from=all"),
            ("scenario.gamma_l=0", "method.center_from=unlabeled_and_normal"),
        ),
        (
            ("scenario.gamma_l=0", "scenario.gamma_n=0.1", "method.eta_scale=initial"),
            ("scenario.gamma_l=0", "scenario.gamma_n=0.1", "method.eta_scale=fixed"),
        ),
        (("scenario.gamma_l=0", "pretrain.data=all"), ("scenario.k_l=0", "pretrain.data=unlabeled")),
        (
            ("method=autoencoder", "scenario.gamma_l=0", "method.sees_labeled_anomalies=true"),
            ("method=autoencoder", "scenario.gamma_l=0"),
        ),
        (("method.lr=[1e-3]", "method.epochs=[5]"), ("method.lr=[1e-3,1e-3]", "method.epochs=[2,3]")),
        (("trainer.max_epochs=5", "method.lr=[1e-3,1e-4]"), ("trainer.max_epochs=5", "method.lr=[1e-3,1e-5]")),
    ],
)
def test_irrelevant_settings_are_not_part_of_the_identity(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert plan_of(*one).run_dir == plan_of(*other).run_dir


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            ("scenario.gamma_l=0", "scenario.gamma_n=0.1"),
            ("scenario.gamma_l=0", "scenario.gamma_n=0.1", "method.eta=2"),
        ),
        (("method.center_from=all",), ("method.center_from=unlabeled_and_normal",)),
        (("method.eta_scale=initial",), ("method.eta_scale=fixed",)),
        (("pretrain.data=all",), ("pretrain.data=unlabeled",)),
        (("method=autoencoder", "method.sees_labeled_anomalies=true"), ("method=autoencoder",)),
    ],
)
def test_relevant_settings_are_part_of_the_identity(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert plan_of(*one).run_dir != plan_of(*other).run_dir


def test_equal_identities_have_equal_states() -> None:
    plans = [plan_of("scenario.gamma_l=0", f"method.eta_scale={one}") for one in ("initial", "fixed")]
    assert plans[0].run_dir == plans[1].run_dir
    one, other = (phases_of(plan, load_data(plan))[-1].module.state_dict().keys() for plan in plans)
    assert one == other


def test_numbers_are_checked_although_the_classes_are_unknown() -> None:
    with pytest.raises(DeepSADError) as caught:
        plan_of("dataset=image_folder", "dataset.root=/nowhere", "scenario.gamma_l=2", "seed=-1")
    assert len(caught.value.problems) == 3


def test_ddp_on_too_few_gpus_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(DeepSADError, match=r"torch sees 1 GPU"):
        plan_of("trainer=ddp")
    assert plan_of("trainer=ddp", "trainer.accelerator=cpu").ranks == 2
