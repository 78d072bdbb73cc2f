"""The hypersphere classifier against closed forms in arbitrary precision, gradcheck, and a plain loop of steps."""

import doctest
import math
from decimal import Decimal, getcontext
from pathlib import Path

import pytest
import torch
from plain_loops import SHORT, fit, phases_of, plain_loop
from planned import plan_of
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.methods import hsc
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.hsc import HSCModule, focal_terms, hsc_terms, log1mexp, pseudo_huber

UNTRAINED = [setting for setting in SHORT if "pretrain" not in setting]
NETWORK = {"name": "mlp", "in_features": 4, "units": [3, 2]}
DISTANCES = (1e-12, 1e-7, 1e-3, 0.1, math.log(2), 0.6931472, 1.0, 7.5, 40.0, 300.0)
getcontext().prec = 400


def minus_log1mexp(h: float) -> float:
    return float(-(1 - (-Decimal(h)).exp()).ln())


def test_the_examples_of_the_docstrings_hold() -> None:
    found = doctest.testmod(hsc)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("length", [0.0, 1e-160, 1e-8, 1e-3, 1.0, 3.0, 1e6])
def test_the_distance_is_the_pseudo_huber_of_the_paper(length: float) -> None:
    z = torch.tensor([[0.6 * length, -0.8 * length]], dtype=torch.float64)
    expected = float((Decimal(0.6 * length) ** 2 + Decimal(-0.8 * length) ** 2 + 1).sqrt() - 1)
    assert pseudo_huber(z).item() == pytest.approx(expected, rel=1e-14, abs=0)


def test_near_and_far_the_distance_is_half_the_square_and_the_length() -> None:
    assert pseudo_huber(torch.tensor([[3e-5, 4e-5]])).item() == pytest.approx(25e-10 / 2, rel=1e-6)
    assert pseudo_huber(torch.tensor([[3e5, 4e5]])).item() == pytest.approx(5e5 - 1, rel=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("h", DISTANCES)
def test_the_logarithm_keeps_its_digits_at_every_distance(h: float, kind: torch.dtype) -> None:
    given = torch.tensor(h, dtype=kind)
    expected = minus_log1mexp(given.item())
    digits = 1e-6 if kind == torch.float32 else 1e-14
    # exp(-300) is 0 in float32.
    assert -log1mexp(given).item() == pytest.approx(expected, rel=digits, abs=torch.finfo(kind).tiny)


def test_the_terms_are_the_cross_entropy_of_the_probability_exp_minus_h() -> None:
    h = torch.tensor([0.3, 2.0, 0.3, 2.0], dtype=torch.float64)
    semi_y = torch.tensor([0, 1, -1, -1])
    normal = (-h).exp()
    expected = [-normal[0].log(), -normal[1].log(), -(1 - normal[2]).log(), -(1 - normal[3]).log()]
    assert hsc_terms(h, semi_y).tolist() == pytest.approx([float(one) for one in expected], rel=1e-8)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_an_anomaly_at_the_origin_has_a_finite_loss_and_gradient(kind: torch.dtype) -> None:
    z = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [1e-6, 0.0], [1e9, 0.0]], dtype=kind, requires_grad=True)
    terms = hsc_terms(pseudo_huber(z), torch.full((4,), -1))
    assert terms[0].item() == pytest.approx(-math.log(1e-9), rel=1e-6)
    assert (terms >= 0).all()
    (gradient,) = torch.autograd.grad(terms.sum(), z)
    assert gradient.isfinite().all()
    # It is pushed away, and where it is far away already, it is left alone.
    assert gradient[2, 0] < 0
    assert gradient[3, 0] == 0


def test_gradients_pass_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(9, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    logits = torch.randn(9, dtype=torch.float64, generator=generator, requires_grad=True)
    semi_y = torch.tensor([0, 1, -1] * 3)
    assert torch.autograd.gradcheck(lambda z: hsc_terms(pseudo_huber(z), semi_y), z)
    assert torch.autograd.gradcheck(lambda z: hsc_terms(pseudo_huber(1e-3 * z), semi_y), z)
    for gamma in (0.5, 2.0):
        assert torch.autograd.gradcheck(lambda logits, g=gamma: focal_terms(logits, semi_y, g), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_in_closed_form(gamma: float) -> None:
    logits = torch.tensor([-3.0, 0.5, 2.0, -3.0], dtype=torch.float64)
    semi_y = torch.tensor([0, 1, -1, -1])
    anomalous = logits.sigmoid()
    right = torch.where(semi_y == -1, anomalous, 1 - anomalous)
    assert torch.allclose(focal_terms(logits, semi_y, gamma), -((1 - right) ** gamma) * right.log(), rtol=1e-12)


def test_a_sample_that_is_certainly_right_has_a_finite_focal_gradient() -> None:
    logits = torch.tensor([-200.0, 200.0, 200.0, -200.0], requires_grad=True)
    terms = focal_terms(logits, torch.tensor([0, -1, 0, -1]), 0.5)
    terms.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert terms.tolist() == pytest.approx([0, 0, 200, 200], abs=1e-6)


@pytest.mark.parametrize("loss", ["hsc", "bce", "focal"])
def test_twenty_steps_equal_a_plain_loop(tmp_path: Path, loss: str) -> None:
    plan = plan_of("method=hsc", f"method.loss={loss}", "method.weight_decay=0.01", *UNTRAINED)
    source = load_data(plan)
    (ours,), (theirs,) = phases_of(plan, source), phases_of(plan, source)
    losses = fit(ours.module, ours.data, tmp_path)
    encoder, head = theirs.module.encoder, theirs.module.head
    counts = ours.data.counts
    # The same total weight for both kinds.
    anomalies = counts.labeled_anomalies
    weights = {True: counts.total / (2 * anomalies), False: counts.total / (2 * (counts.total - anomalies))}

    def mean(x: Tensor, semi_y: Tensor) -> Tensor:
        each = []
        for z, t in zip(encoder(x), semi_y.tolist(), strict=True):
            if loss == "hsc":
                normal = torch.exp(1 - ((z**2).sum() + 1).sqrt())
            else:
                normal = 1 - (z @ head.weight[0] + head.bias[0]).sigmoid()
            right = 1 - normal if t == -1 else normal
            factor = (1 - right) ** 2 if loss == "focal" else 1
            each.append(-weights[t == -1] * factor * right.log())
        return torch.stack(each).mean()

    expected = plain_loop(theirs.module, theirs.data, mean)
    assert len(losses) == 20
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for a, b in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_weights_of_both_kinds_add_up_to_half_each() -> None:
    module = HSCModule(NETWORK, anomaly_share=0.02)
    assert 0.02 * module.anomaly_weight == pytest.approx(0.5)
    assert 0.98 * module.normal_weight == pytest.approx(0.5)
    plain = HSCModule(NETWORK, anomaly_share=0.02, balance=False)
    assert plain.anomaly_weight == plain.normal_weight == 1
    # Batches that are half anomalous already need no weights.
    even = HSCModule(NETWORK)
    assert even.anomaly_weight == even.normal_weight == 1


def test_the_share_of_anomalies_is_that_of_the_training_data() -> None:
    plan = plan_of("method=hsc", "scenario.gamma_l=0.2")
    (phase,) = build(plan, load_data(plan)).phases
    counts = phase.data.counts
    assert (
        phase.module.hparams["anomaly_share"] == counts.labeled_anomalies / counts.total == pytest.approx(0.2, abs=0.01)
    )


def test_cross_entropy_without_balance_is_the_classifier(tmp_path: Path) -> None:
    words = ([], ["method.loss=bce", "method.balance=false"])
    phases = []
    for method, more in zip(("classifier", "hsc"), words, strict=True):
        plan = plan_of(f"method={method}", *more, *UNTRAINED)
        phases += phases_of(plan, load_data(plan))
    losses = [fit(phase.module, phase.data, tmp_path / str(i)) for i, phase in enumerate(phases)]
    assert losses[0] == losses[1]
    states = [phase.module.state_dict() for phase in phases]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_score_is_the_distance_or_the_logit() -> None:
    x = torch.randn(5, 4)
    module = HSCModule(NETWORK).eval()
    assert module.head is None
    distance = torch.linalg.vector_norm(module.encoder(x), dim=1)
    assert torch.allclose(module(x), (distance.square() + 1).sqrt() - 1, atol=1e-6)
    for loss in ("bce", "focal"):
        other = HSCModule(NETWORK, loss=loss).eval()  # type: ignore[arg-type]
        like = ClassifierModule(NETWORK).eval()
        like.load_state_dict(other.state_dict())
        assert torch.equal(other(x), like(x))


def test_it_can_start_from_the_autoencoder() -> None:
    plan = plan_of("method=hsc", "pretrain=autoencoder")
    pretrain, method = phases_of(plan, load_data(plan))
    method.module.start_from(pretrain.module)
    theirs = pretrain.module.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in method.module.encoder.state_dict().items())


def test_gamma_identifies_only_the_focal_loss() -> None:
    for loss in ("hsc", "bce"):
        one, other = (plan_of("method=hsc", f"method.loss={loss}", f"method.focal_gamma={g}") for g in (1, 2))
        assert one.run_dir == other.run_dir
    one, other = (plan_of("method=hsc", "method.loss=focal", f"method.focal_gamma={g}") for g in (1, 2))
    assert one.run_dir != other.run_dir


def test_rows_without_labeled_anomalies_are_an_error() -> None:
    plan = plan_of("method=hsc", "scenario.gamma_l=0.001")
    with pytest.raises(DeepSADError, match=r"gamma_l=0\.001 labels none of 107"):
        build(plan, load_data(plan))
