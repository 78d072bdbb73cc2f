"""The variational terms against torch.distributions, quadrature and models that can be solved."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from deepsad_pl.methods.variational import (
    alpha_weight,
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    labeled_bound,
    reparameterized,
    ss_dgm_terms,
    unlabeled_bound,
)

SEMI_Y = torch.tensor([0, 1, -1, 0])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rows(low: float, high: float, width: int = 3) -> st.SearchStrategy[Tensor]:
    numbers = st.lists(st.floats(low, high), min_size=width, max_size=width)
    return st.lists(numbers, min_size=1, max_size=4).map(lambda x: torch.tensor(x, dtype=torch.float64))


@given(rows(-20, 20), rows(-20, 20))
def test_kl_agrees_with_torch(mean: Tensor, log_var: Tensor) -> None:
    mean, log_var = mean[: len(log_var)], log_var[: len(mean)]
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    kl = gaussian_kl(mean, log_var)
    assert torch.allclose(kl, expected, rtol=1e-9, atol=1e-9)
    assert (kl >= -1e-12).all()


def test_kl_is_exactly_zero_at_the_prior_and_exact_near_it() -> None:
    assert gaussian_kl(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0.0, 0.0]
    # log_var^2 / 4, which float32 would compute as 0 from exp(log_var) - 1.
    assert gaussian_kl(torch.zeros(1, 1), torch.tensor([[1e-3]])).item() == pytest.approx(2.5e-7, rel=0.1)


def test_kl_and_samples_agree_with_monte_carlo() -> None:
    mean, log_var, draws = normal(1, 2), normal(1, 2, seed=1), 200_000
    z = reparameterized(mean, log_var, normal(draws, 2, seed=2))
    assert torch.allclose(z.mean(dim=0), mean[0], atol=0.02)
    assert torch.allclose(z.var(dim=0).log(), log_var[0], atol=0.02)
    q, p = Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)
    estimate = (q.log_prob(z) - p.log_prob(z)).sum(dim=1).mean()
    assert gaussian_kl(mean, log_var).item() == pytest.approx(estimate.item(), abs=0.02)


def test_bernoulli_agrees_with_torch_and_sums_to_one() -> None:
    logits = 3 * normal(5, 1, 2, 3)
    x = (normal(5, 1, 2, 3, seed=1) > 0).double()
    expected = Bernoulli(logits=logits).log_prob(x).sum(dim=(1, 2, 3))
    assert torch.allclose(bernoulli_log_likelihood(logits, x), expected)
    every = torch.tensor(list(product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    total = bernoulli_log_likelihood(logits[:1].flatten(1).expand(64, 6), every).exp().sum()
    assert total.item() == pytest.approx(1)


def test_bernoulli_of_a_grey_pixel_is_the_expectation_over_binary_ones() -> None:
    logits, x = torch.tensor([[0.7]]), torch.tensor([[0.3]])
    of_one, of_zero = (bernoulli_log_likelihood(logits, torch.full_like(x, v)) for v in (1.0, 0.0))
    assert torch.allclose(bernoulli_log_likelihood(logits, x), 0.3 * of_one + 0.7 * of_zero)


def test_bernoulli_is_finite_for_confident_logits() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert bernoulli_log_likelihood(logits, torch.tensor([[1.0, 0.0]])).item() == 0
    assert bernoulli_log_likelihood(logits, torch.tensor([[0.0, 1.0]])).item() == -2e4


@given(rows(-50, 50), rows(-50, 50))
def test_gaussian_agrees_with_torch(mean: Tensor, x: Tensor) -> None:
    mean, x = mean[: len(x)], x[: len(mean)]
    assert torch.allclose(gaussian_log_likelihood(mean, x), Normal(mean, 1.0).log_prob(x).sum(dim=1))


def test_gaussian_sums_over_all_but_the_first_dimension() -> None:
    mean, x = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    expected = -0.5 * ((mean - x) ** 2).sum(dim=(1, 2)) - 6 * math.log(2 * math.pi)
    assert torch.allclose(gaussian_log_likelihood(mean, x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    a, b = normal(3, 700).to(dtype), normal(3, 700, seed=1).to(dtype)
    for function in (gaussian_kl, gaussian_log_likelihood, lambda m, x: bernoulli_log_likelihood(m, x.sigmoid())):
        value = function(a, b)
        assert value.dtype == torch.float32
        assert torch.allclose(value, function(a.float(), b.float()), rtol=1e-2)
    assert reparameterized(a, b, torch.zeros(3, 700)).dtype == torch.float32
    assert unlabeled_bound(a[:, :2], b[:, :2]).dtype == torch.float32


def test_gradients_pass_gradcheck() -> None:
    a, b, c = (normal(4, 2, seed=seed).requires_grad_() for seed in range(3))
    x = torch.rand(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    functions: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
        (gaussian_kl, (a, b)),
        (reparameterized, (a, b, c)),
        (lambda a: bernoulli_log_likelihood(a, x), (a,)),
        (gaussian_log_likelihood, (a, b)),
        (labeled_bound, (a, b)),
        (unlabeled_bound, (a, b)),
        (lambda a, b: ss_dgm_terms(a, b, SEMI_Y, 0.7), (a, b)),
    ]
    for function, arguments in functions:
        assert torch.autograd.gradcheck(function, arguments)


class LinearGaussian:
    """z ~ N(0, I), x | y, z ~ N(W z + b_y, I), whose posterior has a diagonal covariance as W's columns are orthogonal.

    Expectations over the two-dimensional z use Gauss-Hermite quadrature, which is exact for squares.
    """

    def __init__(self) -> None:
        self.w = torch.linalg.qr(normal(4, 2))[0] * torch.tensor([2.0, 0.5], dtype=torch.float64)
        self.b = normal(2, 4, seed=1)
        nodes, weights = np.polynomial.hermite_e.hermegauss(3)
        self.noise = torch.tensor(list(product(nodes, repeat=2)))
        self.weights = torch.tensor([a * b for a, b in product(weights, repeat=2)]) / (2 * math.pi)

    def evidence(self, x: Tensor, y: int) -> Tensor:
        """log p(x, y)."""
        covariance = self.w @ self.w.T + torch.eye(4, dtype=torch.float64)
        return MultivariateNormal(self.b[y], covariance).log_prob(x) - math.log(2)

    def posterior(self, x: Tensor, y: int) -> tuple[Tensor, Tensor]:
        precision = 1 + (self.w**2).sum(dim=0)
        mean = (x - self.b[y]) @ self.w / precision
        return mean, -precision.log().expand_as(mean)

    def bound(self, x: Tensor, y: int, mean: Tensor, log_var: Tensor) -> Tensor:
        kl = gaussian_kl(mean, log_var)
        of_node = [
            labeled_bound(gaussian_log_likelihood(reparameterized(mean, log_var, noise) @ self.w.T + self.b[y], x), kl)
            for noise in self.noise
        ]
        return self.weights @ torch.stack(of_node)


MODEL = LinearGaussian()
X = 2 * normal(6, 4, seed=2)


@pytest.mark.parametrize("y", [0, 1])
def test_the_labeled_bound_of_the_exact_posterior_is_the_evidence(y: int) -> None:
    assert torch.allclose(MODEL.bound(X, y, *MODEL.posterior(X, y)), MODEL.evidence(X, y), rtol=1e-10)


@given(rows(-3, 3, 2), rows(-4, 3, 2), st.integers(0, 1))
def test_the_labeled_bound_is_below_by_the_divergence_from_the_posterior(mean: Tensor, log_var: Tensor, y: int) -> None:
    mean, log_var = mean[:1].expand(6, 2), log_var[:1].expand(6, 2)
    exact_mean, exact_log_var = MODEL.posterior(X, y)
    q, posterior = Normal(mean, (log_var / 2).exp()), Normal(exact_mean, (exact_log_var / 2).exp())
    gap = kl_divergence(q, posterior).sum(dim=1)
    bound = MODEL.bound(X, y, mean, log_var)
    assert torch.allclose(MODEL.evidence(X, y) - bound, gap, rtol=1e-8, atol=1e-8)


def test_the_labeled_bound_agrees_with_monte_carlo() -> None:
    mean, log_var = normal(1, 2, seed=4), normal(1, 2, seed=5)
    z = reparameterized(mean, log_var, normal(200_000, 2, seed=6))
    draws = Normal(z @ MODEL.w.T + MODEL.b[0], 1.0).log_prob(X[:1]).sum(dim=1) + Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    draws = draws - Normal(mean, (log_var / 2).exp()).log_prob(z).sum(dim=1) - math.log(2)
    error = 5 * draws.std().item() / math.sqrt(len(draws))
    assert MODEL.bound(X[:1], 0, mean, log_var).item() == pytest.approx(draws.mean().item(), abs=error)


def test_the_unlabeled_bound_of_exact_posteriors_is_the_evidence() -> None:
    bounds = torch.stack([MODEL.bound(X, y, *MODEL.posterior(X, y)) for y in (0, 1)], dim=1)
    evidence = torch.stack([MODEL.evidence(X, y) for y in (0, 1)], dim=1)
    assert torch.allclose(unlabeled_bound(bounds, evidence), evidence.logsumexp(dim=1), rtol=1e-10)
    assert (unlabeled_bound(bounds, normal(6, 2)) < evidence.logsumexp(dim=1)).all()


@given(rows(-300, 300, 2), rows(-15, 15, 2))
def test_the_unlabeled_bound_enumerates_the_labels(bounds: Tensor, logits: Tensor) -> None:
    bounds, logits = bounds[: len(logits)], logits[: len(bounds)]
    expected = []
    for bound, logit in zip(bounds.tolist(), logits.tolist(), strict=True):
        weights = [math.exp(value) for value in logit]
        q = [weight / sum(weights) for weight in weights]
        expected.append(sum(p * (value - math.log(p)) for p, value in zip(q, bound, strict=True)))
    value = unlabeled_bound(bounds, logits)
    assert value.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (value <= bounds.logsumexp(dim=1) + 1e-9).all()
    assert torch.allclose(unlabeled_bound(bounds, bounds), bounds.logsumexp(dim=1))


def test_the_unlabeled_bound_of_a_certain_classifier_is_that_of_its_label() -> None:
    logits = torch.tensor([[2e3, -2e3], [-2e3, 2e3]], requires_grad=True)
    value = unlabeled_bound(torch.tensor([[-7.0, -1e5], [-1e5, -9.0]]), logits)
    value.sum().backward()
    assert value.tolist() == [-7.0, -9.0]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_alpha_is_a_tenth_of_unlabeled_over_labeled() -> None:
    assert alpha_weight(0.05) == pytest.approx(1.9)
    assert alpha_weight(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"labeled_share is {share}, .*label some"):
        alpha_weight(share)


def test_terms_agree_with_values_by_hand() -> None:
    bounds = torch.tensor([[-1.0, -3.0]] * 3, requires_grad=True)
    logits = torch.tensor([[math.log(3), 0.0]] * 3, requires_grad=True)
    terms = ss_dgm_terms(bounds, logits, torch.tensor([0, 1, -1]), 2.0)
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert terms.tolist() == pytest.approx([1.5 - entropy, 1 + 2 * math.log(4 / 3), 3 + 2 * math.log(4)])
    terms.sum().backward()
    assert bounds.grad is not None
    expected = torch.tensor([[-0.75, -0.25], [-1.0, 0.0], [0.0, -1.0]])
    assert torch.allclose(bounds.grad, expected)
