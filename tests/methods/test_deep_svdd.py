"""One-class and soft-boundary Deep SVDD, and the supervised classifier, against independent computations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_loops import SHORT, fit, phases_of, plain_loop
from planned import plan_of
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule, radius
from deepsad_pl.methods.losses import classifier_terms, soft_boundary_terms

UNTRAINED = [setting for setting in SHORT if "pretrain" not in setting]
NETWORK = {"name": "mlp", "in_features": 4, "units": [3, 2]}


def test_without_labels_deep_sad_is_one_class_deep_svdd_step_for_step(tmp_path: Path) -> None:
    shared = ("pretrain=none", "scenario.gamma_l=0", "scenario.gamma_p=0.05", "method.epochs=[2,2]")
    losses, states = [], []
    for method in ("deep_sad", "deep_svdd"):
        plan = plan_of(f"method={method}", *shared)
        (phase,) = phases_of(plan, load_data(plan))
        losses.append(fit(phase.module, phase.data, tmp_path / method))
        states.append(phase.module.state_dict())
    assert losses[0] == losses[1]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_without_labels_both_experiments_have_the_same_scores(experiment: Any) -> None:
    one, other = (
        experiment(f"method={method}", "scenario.gamma_l=0", "trainer.max_epochs=2")
        for method in ("deep_sad", "deep_svdd")
    )
    assert one.run_dir != other.run_dir
    assert (one.run_dir / "scores.csv").read_bytes() == (other.run_dir / "scores.csv").read_bytes()


@pytest.mark.parametrize("nu", [0.01, 0.3])
def test_twenty_steps_of_soft_boundary_deep_svdd_equal_a_plain_loop(tmp_path: Path, nu: float) -> None:
    plan = plan_of("method=soft_boundary_svdd", "pretrain=none", f"method.nu={nu}", *UNTRAINED)
    source = load_data(plan)
    (ours,), (theirs,) = phases_of(plan, source), phases_of(plan, source)
    losses = fit(ours.module, ours.data, tmp_path)
    encoder, center = theirs.module.encoder, ours.module.center

    def loss(x: Tensor, _: Tensor) -> Tensor:
        distance2 = ((encoder(x) - center) ** 2).sum(dim=1)
        best = np.quantile(distance2.detach().sqrt().numpy(), 1 - nu)
        outside = torch.stack([torch.relu(d2 - float(best) ** 2) for d2 in distance2])
        return float(best) ** 2 + outside.sum() / (nu * len(x))

    expected = plain_loop(theirs.module, theirs.data, loss)
    assert len(losses) == 20
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for a, b in zip(ours.module.encoder.parameters(), encoder.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@given(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_the_radius_minimizes_the_objective_over_all_radii(values: list[float], nu: float) -> None:
    distance = torch.tensor(values, dtype=torch.float64)

    def objective(r: Tensor) -> float:
        return float(soft_boundary_terms(distance.square(), r, nu).mean())

    ours = objective(radius(distance, nu))
    # The objective is piecewise linear in R^2 with kinks at the distances; an interpolated R lies between two of these.
    best = min(objective(r) for r in [*distance, torch.tensor(0.0)])
    gap = torch.sort(distance.square())[0].diff().max()
    assert ours <= best + float(gap) / len(values) / nu + 1e-9
    assert ours >= best - 1e-9


def test_a_share_nu_of_the_samples_lies_outside() -> None:
    distance = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert (distance > radius(distance, 0.1)).sum() == 100


@pytest.mark.parametrize("nu", [0.01, 0.1, 0.3, 0.5, 0.97])
def test_the_radius_equals_torchs_quantile_to_the_last_bit(nu: float) -> None:
    for n in (1, 2, 11, 128, 201):
        distance = torch.rand(n, generator=torch.Generator().manual_seed(n))
        assert radius(distance, nu) == torch.quantile(distance.double(), 1 - nu).float()


def test_the_radius_is_a_quantile_of_distances_not_of_their_squares() -> None:
    assert radius(torch.tensor([1.0, 3.0]), 0.5) == 2.0


@pytest.mark.parametrize("nu", [0.0, 1.0, -1.0])
def test_nu_must_be_a_share(nu: float) -> None:
    with pytest.raises(ValueError, match=f"nu is {nu}"):
        SoftBoundarySVDDModule(NETWORK, nu=nu)


@pytest.mark.parametrize("module", [DeepSVDDModule(NETWORK), SoftBoundarySVDDModule(NETWORK)])
def test_the_network_has_no_bias_and_the_score_is_the_distance(module: DeepSVDDModule | SoftBoundarySVDDModule) -> None:
    assert not [name for name, _ in module.named_parameters() if "bias" in name]
    module.eval().center.copy_(torch.tensor([1.0, -1.0]))
    x = torch.randn(5, 4)
    assert torch.allclose(module(x), torch.linalg.vector_norm(module.encoder(x) - module.center, dim=1))


@pytest.mark.parametrize("method", ["deep_svdd", "soft_boundary_svdd", "autoencoder"])
def test_labeled_anomalies_are_seen_on_demand_only(method: str) -> None:
    for shown in (False, True):
        plan = plan_of(f"method={method}", f"method.sees_labeled_anomalies={str(shown).lower()}")
        for phase in phases_of(plan, load_data(plan)):
            assert bool((phase.data.semi_y == -1).any()) == shown


def test_twenty_steps_of_the_classifier_equal_a_plain_loop(tmp_path: Path) -> None:
    plan = plan_of("method=classifier", "method.weight_decay=0.01", *UNTRAINED)
    source = load_data(plan)
    (ours,), (theirs,) = phases_of(plan, source), phases_of(plan, source)
    losses = fit(ours.module, ours.data, tmp_path)
    encoder, head = theirs.module.encoder, theirs.module.head

    def loss(x: Tensor, semi_y: Tensor) -> Tensor:
        p = (encoder(x) @ head.weight[0] + head.bias).sigmoid()
        return torch.stack([-(p[i] if t == -1 else 1 - p[i]).log() for i, t in enumerate(semi_y.tolist())]).mean()

    expected = plain_loop(theirs.module, theirs.data, loss)
    assert len(losses) == 20
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for a, b in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_everything_but_labeled_anomalies_counts_as_normal() -> None:
    logits = torch.tensor([2.0, 2.0, 2.0])
    normal = float(torch.log1p(torch.exp(torch.tensor(2.0))))
    assert classifier_terms(logits, torch.tensor([0, 1, -1])).tolist() == pytest.approx([normal, normal, normal - 2])


def test_the_classifiers_score_is_the_logit_of_anomaly() -> None:
    module = ClassifierModule(NETWORK).eval()
    x = torch.randn(5, 4)
    assert torch.allclose(module(x), module.head(module.encoder(x))[:, 0])
    assert module.head.bias.item() == 0


def test_a_classifier_can_start_from_the_autoencoder() -> None:
    plan = plan_of("method=classifier", "pretrain=autoencoder")
    pretrain, method = phases_of(plan, load_data(plan))
    method.module.start_from(pretrain.module)
    theirs = pretrain.module.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in method.module.encoder.state_dict().items())


@pytest.mark.parametrize("method", ["classifier", "ss_dgm_m2", "ss_dgm_m1m2"])
def test_rows_without_labeled_anomalies_are_an_error(method: str) -> None:
    plan = plan_of(f"method={method}", "scenario.gamma_l=0.001")
    with pytest.raises(DeepSADError, match=r"gamma_l=0\.001 labels none of 107"):
        build(plan, load_data(plan))
