"""Losses against closed forms and gradcheck."""

import math

import pytest
import torch

from deepsad_pl.methods.losses import cross_entropy, deep_sad_terms, squared_distance, squared_error

Z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [1.0, 1.0]])
CENTER = torch.tensor([1.0, 1.0])


def test_squared_distance_by_hand() -> None:
    assert squared_distance(Z, CENTER).tolist() == [2.0, 13.0, 0.0, 0.0]


@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0])
def test_deep_sad_equals_equation_9(eta: float) -> None:
    # unlabeled, known normal, known anomaly, known anomaly on the center
    distance2 = torch.tensor([2.0, 13.0, 4.0, 0.0], dtype=torch.float64)
    semi_y = torch.tensor([0, 1, -1, -1])
    expected = [2.0, eta * 13.0, eta / (4.0 + 1e-6), eta / 1e-6]
    assert deep_sad_terms(distance2, semi_y, eta).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [0.01, 46.0])
def test_measured_in_their_unit_the_scale_of_distances_does_not_change_the_weights(k: float) -> None:
    distance2 = torch.tensor([2.0, 13.0, 4.0, 0.5], dtype=torch.float64)
    semi_y = torch.tensor([0, 1, -1, -1])
    terms = deep_sad_terms(distance2, semi_y, 3.0, eps=0, unit=2.5)
    scaled = deep_sad_terms(k * distance2, semi_y, 3.0, eps=0, unit=k * 2.5)
    assert (scaled / k).tolist() == pytest.approx(terms.tolist(), rel=1e-12)
    # d² = unit: a known anomaly counts as much as a known normal sample.
    assert deep_sad_terms(torch.tensor([2.5, 2.5]), torch.tensor([1, -1]), 3.0, eps=0, unit=2.5).tolist() == [7.5, 7.5]


def test_eps_is_added_only_in_the_inverse() -> None:
    distance2 = torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64)
    semi_y = torch.tensor([0, 1, -1])
    with_eps = deep_sad_terms(distance2, semi_y, 1.0, eps=0.5)
    assert with_eps.tolist() == [2.0, 2.0, 1 / 2.5]


def test_without_labels_deep_sad_is_one_class_deep_svdd() -> None:
    distance2 = torch.rand(50, dtype=torch.float64)
    assert torch.equal(deep_sad_terms(distance2, torch.zeros(50), eta=7.0), distance2)


def test_gradients_pass_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    center = torch.randn(3, dtype=torch.float64, generator=generator)
    semi_y = torch.tensor([0, 0, 1, 1, -1, -1])
    x = torch.rand(6, 3, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda z: deep_sad_terms(squared_distance(z, center), semi_y, 0.7), z)
    assert torch.autograd.gradcheck(lambda z: squared_error(z, x), z)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, x), z)


def test_gradient_of_an_anomaly_on_the_center_is_finite() -> None:
    z = CENTER.clone().expand(1, 2).requires_grad_()
    deep_sad_terms(squared_distance(z, CENTER), torch.tensor([-1]), 1.0).sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_squared_error_is_the_mean_over_features() -> None:
    x = torch.zeros(2, 1, 2, 2)
    reconstruction = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2).expand(2, 1, 2, 2)
    assert squared_error(reconstruction, x).tolist() == [7.5, 7.5]


def test_cross_entropy_by_hand() -> None:
    logits, x = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[1.0, 0.0]])
    assert cross_entropy(logits, x).item() == pytest.approx((math.log(2.0) + math.log(4.0)) / 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    distance2 = squared_distance(CENTER.to(dtype)[None], CENTER.to(dtype))
    loss = deep_sad_terms(distance2, torch.tensor([-1]), 1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e6)
    # The square of this unit is not a number of half precision.
    squared = deep_sad_terms(torch.ones(1), torch.tensor([-1]), 1.0, eps=0, unit=torch.tensor(512.0, dtype=dtype))
    assert squared.item() == 512.0**2
