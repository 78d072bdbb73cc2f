"""Which methods a stack trains by handwritten objectives, which by their own terms, and which are trained alone."""

import copy
import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from planned import settings_of, slow_but
from stacks import alone, assigned, outcomes, scores, together
from torch import Tensor, nn

from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
from deepsad_pl.methods.devnet import DevNetModule
from deepsad_pl.methods.feawad import FeaWADModule
from deepsad_pl.methods.hsc import HSCModule
from deepsad_pl.methods.loe import LOEModule
from deepsad_pl.methods.prenet import PReNetModule
from deepsad_pl.methods.rosas import RoSASModule
from deepsad_pl.methods.ss_dgm import SSDGMModule
from deepsad_pl.methods.vae import VAEModule
from deepsad_pl.networks import description as networks
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.lenet import LeNetEncoder
from deepsad_pl.networks.mlp import MLP
from deepsad_pl.stacked.experiments import Assignment, run_together
from deepsad_pl.stacked.forms import _FORMS, kind_of
from deepsad_pl.stacked.grouping import stack_key

# The method, what trains it, and its pre-training if it needs one.
DEEP: dict[str, tuple[tuple[type[TrainedMethod], ...], str]] = {
    "deep_sad": ((DeepSADModule,), "pretrain=none"),
    "deep_svdd": ((DeepSVDDModule,), "pretrain=none"),
    "soft_boundary_svdd": ((SoftBoundarySVDDModule,), "pretrain=none"),
    "classifier": ((ClassifierModule,), "pretrain=none"),
    "hsc": ((HSCModule,), "pretrain=none"),
    "devnet": ((DevNetModule,), "pretrain=none"),
    "loe": ((LOEModule,), "pretrain=none"),
    "prenet": ((PReNetModule,), "pretrain=none"),
    "feawad": ((FeaWADModule,), "pretrain=none"),
    "rosas": ((RoSASModule,), "pretrain=none"),
    "autoencoder": ((AutoencoderModule,), "pretrain=none"),
    "ss_dgm_m2": ((SSDGMModule,), "pretrain=none"),
    "ss_dgm_m1m2": ((VAEModule, SSDGMModule), "pretrain=vae"),
}
WORDS = ("dataset=toy", "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=none", "pretrain.cache=false")
CELLS = (("scenario.gamma_l=0.1", "seed=0"), ("scenario.gamma_l=0.05", "seed=1", "dataset.batch_size=60"))


def with_other_terms(parent: type[TrainedMethod]) -> type[TrainedMethod]:
    class OtherTerms(parent):  # type: ignore[misc, valid-type]
        def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
            terms: Tensor = super().terms(x, semi_y)
            return terms + 0.5 * terms.square()

    return OtherTerms


def with_another_score(parent: type[TrainedMethod]) -> type[TrainedMethod]:
    class AnotherScore(parent):  # type: ignore[misc, valid-type]
        def score(self, x: Tensor) -> Tensor:
            return -super().score(x)  # type: ignore[no-any-return]

    return AnotherScore


@pytest.fixture(autouse=True)
def at_info_level(caplog: pytest.LogCaptureFixture) -> None:
    """Seed as the command line does."""
    caplog.set_level(logging.INFO)


def lines_on(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "trained alone" in record.getMessage()]


def bits(outcome: Outcome) -> bytes:
    return (outcome.run_dir / "scores.csv").read_bytes()


@pytest.mark.parametrize("method", slow_but(("deep_sad", "ss_dgm_m2"), DEEP))
def test_a_stack_gives_the_results_of_each_experiment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    classes, pretrain = DEEP[method]
    cells = [(*WORDS, f"method={method}", pretrain, *cell) for cell in CELLS]
    singles = [alone(tmp_path / "alone", *cell) for cell in cells]
    stacked = outcomes(together(tmp_path / "stacked", *cells))
    assert lines_on(caplog) == []
    for single, replica in zip(singles, stacked, strict=True):
        assert replica.record["trainer"]["replicas"] == 2
        assert replica.record["auroc"] == pytest.approx(single.record["auroc"], abs=2e-3)
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)

    for change in (with_other_terms, with_another_score):
        caplog.clear()
        with monkeypatch.context() as patch:
            for parent in classes:
                patch.setattr(import_module(parent.__module__), parent.__name__, change(parent))
            name = change(classes[0]).__name__
            own = [alone(tmp_path / f"{name} alone", *cell) for cell in cells]
            packed = outcomes(together(tmp_path / name, *cells))
        for parents, single, replica in zip(singles, own, packed, strict=True):
            assert bits(single) != bits(parents)
            assert replica.record["trainer"]["replicas"] == 2
            np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
        assert lines_on(caplog) == []


class RobustSADModule(DeepSADModule):
    """Deep SAD that minimizes the distances instead of their squares."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y).sqrt()


class BranchingModule(RobustSADModule):
    """Deep SAD with a step that a stack of unequal eta cannot take."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return super().terms(x, semi_y) if self.eta > 1 else self.distance2(x)


class DroppingModule(RobustSADModule):
    """Deep SAD that draws from torch's global generator."""

    def distance2(self, x: Tensor) -> Tensor:
        return (torch.dropout(self.encoder(x), 0.3, self.training) - self.center).square().sum(dim=1)


def robust(where: Path, *overrides: str, kind: type[DeepSADModule] = RobustSADModule) -> Assignment:
    """An experiment with an outside class, as a YAML would name it."""
    chosen = copy.deepcopy(settings_of(f"output_dir={where}", *overrides))
    chosen["method"] |= {"name": "robust_sad", "_target_": f"{__name__}.{kind.__name__}"}
    return Assignment(make_plan(chosen, multirun=True), chosen, OmegaConf.to_yaml(chosen), "a test")


def test_a_vectorized_subclass_has_a_unit_of_distances_for_each_replica(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [(*WORDS, *cell, "method.eta_scale=initial") for cell in CELLS]
    packed = outcomes(run_together([robust(tmp_path / "packed", *cell) for cell in cells]))
    assert lines_on(caplog) == []
    units = []
    for cell, replica in zip(cells, packed, strict=True):
        one = robust(tmp_path / "alone", *cell)
        single = run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)
        states = [
            torch.load(of.run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for of in (replica, single)
        ]
        assert float(states[0]["eta_unit"]) == pytest.approx(float(states[1]["eta_unit"]), rel=1e-3)
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
        units.append(float(states[0]["eta_unit"]))
    assert len(set(units)) == len(units)


def test_a_registered_subclass_has_a_stack_besides_its_parents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [(*WORDS, *cell) for cell in CELLS]

    def assignments(where: Path) -> list[Assignment]:
        made = [one for cell in cells for one in (assigned(where, *cell), robust(where, *cell))]
        return [*made, assigned(where, *cells[0], "method=deep_svdd")]

    keys = [stack_key(one.plan) for one in assignments(tmp_path)]
    assert keys[0] == keys[2] == keys[4] != keys[1] == keys[3] is not None
    packed = outcomes(run_together(assignments(tmp_path / "packed")))
    of_robust = [outcome for outcome in packed if outcome.record["method"] == "robust_sad"]
    others = [outcome for outcome in packed if outcome not in of_robust]
    assert lines_on(caplog) == []
    assert [outcome.record["trainer"]["replicas"] for outcome in of_robust] == [2, 2]
    assert [outcome.record["trainer"]["replicas"] for outcome in others] == [3, 3, 3]

    singles = [
        run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)
        for one in assignments(tmp_path / "alone")
    ]
    for single, replica in zip(singles, packed, strict=True):
        # All autoencoders are one stack, which rounds differently.
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
        assert replica.record["auroc"] == pytest.approx(single.record["auroc"], abs=2e-3)
    for robust_one, parent in zip(of_robust, packed[::2], strict=False):
        assert np.abs(np.subtract(scores(robust_one.run_dir), scores(parent.run_dir))).max() > 1e-2


@pytest.mark.parametrize(
    ("kind", "etas", "sizes", "why"),
    [
        (BranchingModule, (0.5, 2, 0.5, 2), [2, 2, 2, 2], None),
        (
            DroppingModule,
            (0.5, 2),
            [1, 1],
            "the terms of DroppingModule cannot be vectorized: vmap: called random operation while in randomness error "
            "mode",
        ),
        (
            BranchingModule,
            (0.5, 2),
            [1, 1],
            "the terms of BranchingModule cannot be vectorized: vmap: It looks like you're attempting to use a Tensor "
            "in some data-dependent control flow",
        ),
    ],
)
def test_what_cannot_be_vectorized_is_split_by_floats_or_trained_alone(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: type[DeepSADModule],
    etas: Sequence[float],
    sizes: Sequence[int],
    why: str | None,
) -> None:
    cells = [(*WORDS, "pretrain=none", *CELLS[0], f"method.eta={eta}", f"seed={i}") for i, eta in enumerate(etas)]
    packed = outcomes(run_together([robust(tmp_path / "packed", *cell, kind=kind) for cell in cells]))
    assert [outcome.record["trainer"]["replicas"] for outcome in packed] == sizes
    assert lines_on(caplog) == ([f"fit: {why}, so it is trained alone"] if why else [])
    for outcome in packed:
        assert ("so it is trained alone" in (outcome.run_dir / "train.log").read_text()) == (why is not None)
    if kind is BranchingModule:
        for cell, replica in zip(cells, packed, strict=True):
            one = robust(tmp_path / "alone", *cell, kind=kind)
            single = run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)
            np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
            assert why is None or bits(replica) == bits(single)


def test_a_network_that_only_resembles_ours_is_vectorized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Shifted(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    assert str(Shifted(2, [3])).replace("Shifted", "MLP") == str(MLP(2, [3]))
    monkeypatch.setattr(networks, "MLP", Shifted)
    cells = [(*WORDS, "pretrain=none", *cell) for cell in CELLS]
    packed = outcomes(together(tmp_path / "packed", *cells))
    assert lines_on(caplog) == []
    for cell, replica in zip(cells, packed, strict=True):
        assert replica.record["trainer"]["replicas"] == 2
        single = alone(tmp_path / "alone", *cell)
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)


class OwnLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class OwnLeakyReLU(nn.LeakyReLU):
    def forward(self, input: Tensor) -> Tensor:
        return input


MLP_WORDS = {"name": "mlp", "in_features": 4, "units": [8, 6, 2]}
LENET = {"name": "lenet", "in_shape": [1, 8, 8], "filters": [4, 2], "dense": [6, 3], "kernel_size": 3}


@pytest.mark.parametrize(
    ("place", "layer"),
    [
        (0, nn.Linear(4, 8, bias=False)),
        (0, OwnLinear(4, 8, bias=False)),
        (0, nn.utils.parametrizations.weight_norm(nn.Linear(4, 8, bias=False))),
        (1, nn.BatchNorm1d(8, affine=False)),
        (1, BatchNorm(8)),
        (2, OwnLeakyReLU(0.1)),
        (2, nn.ReLU()),
        (3, nn.Dropout()),
    ],
)
def test_a_foreign_layer_is_vectorized(place: int, layer: nn.Module) -> None:
    module = DeepSADModule(MLP_WORDS)
    module.encoder.layers[place] = layer  # type: ignore[index, operator]
    assert kind_of(module).is_vectorized == (type(layer) not in (nn.Linear, BatchNorm))


@pytest.mark.parametrize(
    "change",
    [
        {"dilation": (2, 2)}, {"padding_mode": "circular"}, {"stride": (2, 2)}, {"padding": "same"},
        {"bias": nn.Parameter(torch.zeros(4))}, {"groups": 2},
    ],
)  # fmt: skip
def test_an_unusual_convolution_is_vectorized(change: dict[str, Any]) -> None:
    module = DeepSADModule(LENET)
    assert not kind_of(module).is_vectorized
    for name, value in change.items():
        setattr(module.encoder.layers[0], name, value)  # type: ignore[index]
    assert kind_of(module).is_vectorized


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (1, {"momentum": 0.2}),
        (1, {"affine": True}),
        (2, {"stride": 1}),
        (2, {"ceil_mode": True}),
        (8, {"start_dim": 2}),
    ],
)
def test_a_layer_with_other_settings_is_vectorized(place: int, change: dict[str, Any]) -> None:
    module = DeepSADModule(LENET)
    for name, value in change.items():
        setattr(module.encoder.layers[place], name, value)  # type: ignore[index]
    assert kind_of(module).is_vectorized


def test_a_method_with_a_frozen_part_is_vectorized() -> None:
    module = DeepSADModule(MLP_WORDS)
    next(module.parameters()).requires_grad_(False)
    assert kind_of(module).is_vectorized


def test_four_methods_have_handwritten_objectives() -> None:
    assert set(_FORMS) == {DeepSADModule, DeepSVDDModule, SoftBoundarySVDDModule, AutoencoderModule}
    assert type(DeepSADModule(LENET).encoder) is LeNetEncoder
    for name, value in (("agree", "encoder"), ("differ", "dense")):
        other = {**LENET, "dense": [6, 3]} if value == "encoder" else {**LENET, "dense": [7, 3]}
        same = kind_of(DeepSADModule(LENET)) == kind_of(DeepSADModule(other))
        assert same == (name == "agree")
