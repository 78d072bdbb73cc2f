"""The parts of an experiment are built from the configuration: each setting arrives where it belongs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import METHODS, about, is_shallow, plan_of
from tiny_data import write_odds

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.experiment import fit_shallow as estimation
from deepsad_pl.experiment.build import SHALLOW_STREAM, Parts, build, load_data, stream
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.settings.about import own
from deepsad_pl.shallow import ocsvm
from deepsad_pl.shallow.task import Fitted, Task

UNSUPERVISED = [name for name in METHODS if about(name).labels == "hidden"]


def parts_of(*overrides: str) -> Parts:
    plan = plan_of(*overrides)
    return build(plan, load_data(plan))


@pytest.fixture
def cardio(tmp_path: Path) -> tuple[str, ...]:
    write_odds(tmp_path, "cardio", rows=200, outliers=50)
    return ("dataset=cardio", f"data_dir={tmp_path}", "scenario.gamma_l=0.1")


@pytest.mark.parametrize("method", ["ss_dgm_m2", "ss_dgm_m1m2"])
def test_alpha_follows_from_the_number_of_labeled_rows(method: str) -> None:
    parts = parts_of(f"method={method}", "scenario.gamma_n=0.1", "scenario.gamma_p=0.1")
    r = float((parts.data.semi_y != 0).mean())
    assert parts.phases[-1].module.alpha == pytest.approx(0.1 * (1 - r) / r)


def test_the_likelihood_is_gaussian_for_zscore_and_bernoulli_in_the_unit_interval(
    cardio: tuple[str, ...],
) -> None:
    for method in ("ss_dgm_m2", "ss_dgm_m1m2"):
        for overrides, likelihood in (
            (cardio, "gaussian"),
            ((*cardio, "dataset.scaling=minmax"), "bernoulli"),
            ((), "bernoulli"),
        ):
            for phase in parts_of(*overrides, f"method={method}").phases:
                assert phase.module.hparams["likelihood"] == likelihood


def test_the_autoencoder_has_a_sigmoid_only_for_the_unit_interval(cardio: tuple[str, ...]) -> None:
    for overrides, sigmoid in ((cardio, False), ((*cardio, "dataset.scaling=minmax"), True), ((), True)):
        assert parts_of(*overrides).phases[0].module.hparams["sigmoid"] == sigmoid


def test_each_phase_and_run_has_its_own_noise_seed() -> None:
    seeds = {
        phase.module.hparams["seed"]
        for seed in (0, 1)
        for phase in parts_of("method=ss_dgm_m1m2", f"seed={seed}").phases
    }
    assert len(seeds) == 4


def test_settings_reach_the_modules() -> None:
    (_, fit) = parts_of("method=soft_boundary_svdd", "method.nu=0.03", "method.weight_decay=0.5").phases
    assert (fit.module.hparams["nu"], fit.module.weight_decay) == (0.03, 0.5)
    (m1, m2) = parts_of("method=ss_dgm_m1m2", "method.latent=5", "method.hidden=[7]", "pretrain.latent=6").phases
    assert m1.module.hparams["latent"] == 6
    assert (m2.module.hparams["latent"], m2.module.hparams["hidden"]) == (5, [7])
    assert m2.module.hparams["m1"] == {"hidden": [24, 12], "latent": 6}


@pytest.mark.parametrize("extra", [(), ("scenario.gamma_p=0.2",), ("scenario.gamma_p=0.2", "scenario.gamma_n=0.3")])
@pytest.mark.parametrize("method", UNSUPERVISED)
def test_an_unsupervised_method_and_its_autoencoder_see_the_cell_without_labeled_anomalies(
    method: str, extra: tuple[str, ...]
) -> None:
    cell = parts_of(*extra).data
    expected = cell.training_set.index[cell.training_set.semi_y != -1]
    parts = parts_of(f"method={method}", *extra)
    for data in (parts.data, *(phase.data for phase in parts.phases)):
        assert data._rows.tolist() == expected.tolist()
        assert not (data.semi_y == -1).any()
        assert data.counts.labeled_anomalies == 0
        assert data.counts.total == len(expected)
    assert (parts.phases == []) == (own("method")[method].get("features") == "raw")


@pytest.mark.parametrize("method", UNSUPERVISED)
def test_an_unsupervised_method_sees_labeled_anomalies_on_demand(method: str) -> None:
    parts = parts_of(f"method={method}", "method.sees_labeled_anomalies=true")
    for data in (parts.data, *(phase.data for phase in parts.phases)):
        assert (data.semi_y == -1).sum() == data.counts.labeled_anomalies == 5


def test_deep_svdd_and_deep_sad_on_unlabeled_data_share_an_autoencoder_in_every_scenario() -> None:
    extra = ("scenario.gamma_p=0.2", "scenario.gamma_n=0.3")
    shared = [
        parts_of(*extra, *choice).phases[0].determined_by
        for choice in (
            ("pretrain.data=unlabeled",),
            ("method=deep_svdd",),
            ("method=ocsvm_hybrid",),
            ("method=autoencoder",),
        )
    ]
    assert shared[0] is not None
    assert all(one == shared[0] for one in shared)


def test_labeled_anomalies_on_demand_count_in_the_center_of_deep_svdd() -> None:
    (_, fit) = parts_of("method=deep_svdd", "method.sees_labeled_anomalies=true").phases
    assert fit.module.center_from == "all"


def test_the_digest_depends_only_on_values_and_positions_of_training_rows() -> None:
    plan = plan_of()
    source = load_data(plan)
    data = AnomalyDataModule(source, plan.scenario)
    digest = data.digest()
    unused = next(i for i in range(len(source.x_train)) if i not in set(data._rows.tolist()))
    source.x_train[unused] += 1
    assert data.digest() == digest
    source.x_train[data._rows[3], 0, 4, 4] += 1
    assert data.digest() != digest
    assert AnomalyDataModule(source, plan.scenario, labeled_anomalies=False).digest() != data.digest()


@pytest.mark.parametrize("method", [method for method in METHODS if is_shallow(method)])
def test_a_shallow_method_gets_the_training_data(
    experiment: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    module_path, _, function = str(own("method")[method]["_target_"]).rpartition(".")
    module, name = import_module(module_path), function.removeprefix("fit_")
    fit, seen = getattr(module, f"fit_{name}"), []
    shares: list[float] = []

    def spy(task: Task, **arguments: Any) -> Fitted:
        seen.append(task)
        advance = task.advance
        object.__setattr__(task, "advance", lambda share: (shares.append(share), advance(share)))
        return fit(task, **arguments)

    monkeypatch.setattr(module, f"fit_{name}", spy)
    experiment(f"method={method}", "seed=3", "trainer.max_epochs=1", "trainer.threads=2")
    (task,) = seen
    assert task.seed == stream(3, SHALLOW_STREAM)
    assert task.threads == 2
    assert task.grid_dir is not None
    assert task.grid_dir.parent.name == "checkpoints"
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # Before the fit, only the paper's protocol gets the test set.
    peeks = name in ("ocsvm", "ssad")
    assert (task.x_test is not None) == (task.y_test is not None) == peeks
    sees = about(method).labels != "hidden"
    assert (task.semi_y == -1).any() == sees
    assert task.x.shape == ((112 if sees else 107), 32 if method.endswith("hybrid") else 64)


@pytest.mark.parametrize("selection", ["holdout", "none"])
def test_honest_protocols_are_given_no_test_set(
    experiment: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    order: list[str] = []
    fit, loader = ocsvm.fit_ocsvm, AnomalyDataModule.test_dataloader
    monkeypatch.setattr(ocsvm, "fit_ocsvm", lambda *a, **k: order.append("fit") or fit(*a, **k))
    monkeypatch.setattr(AnomalyDataModule, "test_dataloader", lambda self: order.append("test") or loader(self))
    experiment("method=ocsvm_raw", f"method.selection={selection}")
    assert order == ["fit", "test"]


def test_the_bottleneck_is_that_of_evaluation_mode() -> None:
    parts = parts_of("method=kde_hybrid")
    module = parts.phases[0].module.train()
    found = estimation.features(parts.data.ordered_dataloader(), module)
    x = torch.from_numpy(parts.data.source.x_train[parts.data._rows]).float() / 16
    with torch.no_grad():
        expected = module.encoder.eval()(x).numpy()
        training = module.encoder.train()(x).numpy()
    assert np.array_equal(found, expected)
    assert not np.allclose(found, training)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=kde_hybrid", "method.folds=200"), "folds is 200, but there are 107 training rows"),
        (("method=ssad_hybrid", "method.kappa=100"), "kappa is 100"),
    ],
)
def test_settings_that_the_rows_do_not_allow_are_refused_before_training(
    experiment: Callable[..., Outcome], tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DeepSADError, match=message):
        experiment(*overrides)
    assert not (tmp_path / "runs").exists()


def test_the_seconds_of_a_killed_grid_count(
    experiment: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from deepsad_pl.shallow.ocsvm import OCSVM

    solve = OCSVM.solve
    calls = 0

    def broken(self: OCSVM, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise RuntimeError("the power is out")
        return solve(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(OCSVM, "solve", broken)
        with pytest.raises(RuntimeError, match="power"):
            experiment("method=ocsvm_raw", "trainer.threads=1")
    (path,) = tmp_path.rglob("grid/seconds")
    path.write_text("1000.0")
    assert experiment("method=ocsvm_raw", "trainer.threads=1").record["seconds"]["fit"] > 1000


@pytest.mark.parametrize("words", [(), ("threshold=conformal", "threshold.alpha=0.2")])
def test_raw_rows_are_let_go_once_everything_is_built(words: tuple[str, ...], cardio: tuple[str, ...]) -> None:
    plan = plan_of(*cardio, *words)
    source = load_data(plan)
    assert source.refit is not None
    assert build(plan, source).data.source.refit is None
