"""The configuration of each method: wrong values, pre-training, and which settings make another experiment."""

from pathlib import Path

import pytest
from planned import METHODS, plan_of, problems_of, settings_of
from processes import ROOT

WRONG_METHODS = [
    ("method=soft_boundary_svdd", "method.nu=0", "method.nu", "0.0"),
    ("method=soft_boundary_svdd", "method.nu=1", "method.nu", "1.0"),
    ("method=ocsvm_raw", "method.nus=[0.1,1.5]", "method.nus", "1.5"),
    ("method=ocsvm_raw", "method.nus=[]", "method.nus", "[]"),
    ("method=ocsvm_raw", "method.gammas=[1,-1]", "method.gammas", "-1"),
    ("method=ocsvm_hybrid", "method.gammas=[]", "method.gammas", "[]"),
    ("method=ocsvm_raw", "method.selection=best", "method.selection", "'best'"),
    ("method=ocsvm_raw", "method.features=bottleneck", "method.features", "'bottleneck'"),
    ("method=ssad_hybrid", "method.features=raw", "method.features", "'raw'"),
    ("method=ssad_raw", "method.kappa=-1", "method.kappa", "-1.0"),
    ("method=kde_raw", "method.bandwidths=[1e-200]", "method.bandwidths", "1e-200"),
    ("method=kde_raw", "method.bandwidths=[1,1e200]", "method.bandwidths", "1e+200"),
    ("method=ss_dgm_m2", "method.hidden=[]", "method.hidden", "[]"),
    ("method=ss_dgm_m1m2", "pretrain.hidden=[]", "pretrain.hidden", "[]"),
    ("method=ssad_raw", "method.eta_u=-1", "method.eta_u", "-1.0"),
    ("method=ssad_raw", "method.eta_l=inf", "method.eta_l", "inf"),
    ("method=kde_raw", "method.bandwidths=[0]", "method.bandwidths", "0"),
    ("method=kde_raw", "method.folds=1", "method.folds", "1"),
    ("method=iforest_raw", "method.trees=0", "method.trees", "0"),
    ("method=iforest_hybrid", "method.subsample=1", "method.subsample", "1"),
    ("method=ss_dgm_m2", "method.hidden=[0]", "method.hidden", "0"),
    ("method=ss_dgm_m1m2", "pretrain.latent=0", "pretrain.latent", "0"),
    ("method=ss_dgm_m1m2", "pretrain.lr=[0,1]", "pretrain.lr", "0"),
    ("method=classifier", "scenario.gamma_l=0", "scenario.gamma_l", "0.0"),
    ("method=classifier", "scenario.k_l=0", "scenario.k_l", "0"),
    ("method=hsc", "scenario.gamma_l=0", "scenario.gamma_l", "0.0"),
    ("method=hsc", "method.loss=hinge", "method.loss", "'hinge'"),
    ("method=hsc", "method.focal_gamma=-1", "method.focal_gamma", "-1.0"),
    ("method=ss_dgm_m2", "scenario.gamma_l=0", "scenario.gamma_l", "0.0"),
    ("method=ss_dgm_m1m2", "scenario.gamma_l=0", "scenario.gamma_l", "0.0"),
]


@pytest.mark.parametrize(("method", "override", "key", "value"), WRONG_METHODS)
def test_a_wrong_value_of_a_method_is_one_problem(method: str, override: str, key: str, value: str) -> None:
    (problem,) = problems_of(method, override)
    assert key in problem
    assert value in problem


@pytest.mark.parametrize(
    ("method", "pretrain", "allowed"),
    [
        ("deep_sad", "vae", "pretrain=autoencoder or none"),
        ("ss_dgm_m2", "autoencoder", "pretrain=none"),
        ("ss_dgm_m1m2", "none", "pretrain=vae"),
        ("ocsvm_raw", "autoencoder", "pretrain=none"),
        ("kde_hybrid", "none", "pretrain=autoencoder"),
        ("ssad_hybrid", "vae", "pretrain=autoencoder"),
    ],
)
def test_a_method_declares_what_it_can_start_from(method: str, pretrain: str, allowed: str) -> None:
    (problem,) = problems_of(f"method={method}", f"pretrain={pretrain}")
    assert problem.endswith(f"use {allowed}")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_plan_and_its_own_folder(method: str) -> None:
    plan = plan_of(f"method={method}")
    assert plan.method.name == plan.run_dir.parent.name == method


def test_every_method_is_an_option() -> None:
    options = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert options == {*METHODS, "tabicl"}


def test_the_yaml_of_a_hybrid_adds_a_few_lines_to_its_raw_twin() -> None:
    hybrids = list((ROOT / "conf" / "method").glob("*_hybrid.yaml"))
    assert len(hybrids) == 6
    for path in hybrids:
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert len(lines) <= 14
        assert f"  - {path.stem.replace('hybrid', 'raw')}" in lines
        raw, hybrid = (
            settings_of(f"method={name}")["method"] for name in (path.stem.replace("hybrid", "raw"), path.stem)
        )
        assert {key for key in raw if raw[key] != hybrid[key]} == {"name", "features", "about"}


UNSUPERVISED = [
    "deep_svdd",
    "soft_boundary_svdd",
    "autoencoder",
    *(f"{name}_{features}" for name in ("ocsvm", "iforest", "kde") for features in ("raw", "hybrid")),
]


@pytest.mark.parametrize("method", UNSUPERVISED)
def test_an_unsupervised_method_has_one_run_for_every_known_class_and_gamma_l(method: str) -> None:
    choice = f"method={method}"
    one, other = plan_of(choice), plan_of(choice, "scenario.anomaly_class=2", "scenario.gamma_l=0.2")
    assert one.run_dir == other.run_dir
    assert one.scenario.gamma_l == 0
    shown = plan_of(choice, "method.sees_labeled_anomalies=true")
    assert shown.run_dir != one.run_dir
    assert shown.scenario.gamma_l == 0.05


def test_labeled_normals_do_not_change_an_unsupervised_experiment() -> None:
    runs = {plan_of("method=deep_svdd", f"scenario.gamma_n={gamma}").run_dir for gamma in (0, 0.1, 0.3)}
    assert len(runs) == 1
    assert plan_of("method=deep_sad", "scenario.gamma_n=0.1").run_dir != plan_of("method=deep_sad").run_dir


def test_with_pollution_and_labeled_normals_an_unsupervised_method_keeps_its_cell() -> None:
    choice = ("method=deep_svdd", "scenario.gamma_n=0.3", "scenario.gamma_p=0.2")
    hidden, shown = plan_of(*choice), plan_of(*choice, "method.sees_labeled_anomalies=true")
    assert hidden.scenario == shown.scenario == plan_of(*choice[1:]).scenario
    assert hidden.run_dir != shown.run_dir


@pytest.mark.parametrize("method", ["deep_sad", "classifier", "ss_dgm_m2", "ssad_raw", "ssad_hybrid"])
def test_a_semi_supervised_method_has_a_run_for_each_known_class(method: str) -> None:
    assert plan_of(f"method={method}").run_dir != plan_of(f"method={method}", "scenario.anomaly_class=2").run_dir


def test_a_raw_method_does_not_depend_on_the_network() -> None:
    others = ("dataset.network.dense=[16]", "trainer.precision=bf16-mixed", "trainer.max_epochs=1")
    assert plan_of("method=kde_raw").run_dir == plan_of("method=kde_raw", *others).run_dir
    for other in others:
        assert plan_of("method=kde_hybrid").run_dir != plan_of("method=kde_hybrid", other).run_dir


def test_hyper_parameters_count_only_if_the_selection_uses_them() -> None:
    def same(*overrides: str, selection: str) -> bool:
        choice = ("method=ocsvm_raw", f"method.selection={selection}")
        return plan_of(*choice).run_dir == plan_of(*choice, *overrides).run_dir

    assert same("method.nu=0.2", selection="test_subset")
    assert not same("method.nu=0.2", selection="holdout")
    assert same("method.nus=[0.1]", selection="holdout")
    assert not same("method.gammas=[1]", selection="holdout")
    assert same("method.nus=[0.1]", "method.gammas=[1]", selection="none")
    assert not same("method.nu=0.2", selection="none")


def test_ssad_without_labels_does_not_depend_on_their_weights() -> None:
    choice = ("method=ssad_raw", "scenario.gamma_l=0")
    assert plan_of(*choice).run_dir == plan_of(*choice, "method.kappa=2", "method.eta_l=3").run_dir
    assert plan_of(*choice).run_dir != plan_of(*choice, "method.eta_u=3").run_dir


def test_the_cache_is_not_part_of_the_identity() -> None:
    plan = plan_of("pretrain.cache=false")
    assert plan.run_dir == plan_of().run_dir
    assert plan.cache_dir is None
    assert plan_of("output_dir=elsewhere").cache_dir == Path("elsewhere/cache")


def test_a_shallow_method_runs_in_one_process() -> None:
    (problem,) = problems_of("method=ocsvm_raw", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    assert "one process" in problem


def test_sizes_of_a_generative_model_follow_the_network() -> None:
    assert plan_of("method=ss_dgm_m2").method.arguments["hidden"] == [128, 64]
    assert plan_of("method=ss_dgm_m2", "dataset=cardio").method.arguments["hidden"] == [32, 16]
    assert plan_of("method=ss_dgm_m2", "dataset=cardio").method.arguments["latent"] == 8
    given = plan_of("method=ss_dgm_m1m2", "method.latent=5", "method.hidden=[7]", "pretrain.latent=6")
    assert (given.method.arguments["latent"], given.method.arguments["hidden"]) == (5, [7])
    assert given.pretrain is not None
    assert (given.pretrain.arguments["latent"], given.pretrain.arguments["hidden"]) == (6, [24, 12])
    assert plan_of("method=ss_dgm_m2").run_dir == plan_of("method=ss_dgm_m2", "method.hidden=[128,64]").run_dir
