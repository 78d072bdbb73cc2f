"""Contributions to a score: exact if the answer is known, equal to a plain loop, and complete."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepsad_pl.detector.contributions import integrated_gradients, occlusion, patch_occlusion, summed
from deepsad_pl.networks.mlp import MLP

WEIGHTS = torch.tensor([2.0, -1.0, 0.5])


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS.to(x.dtype) + 3


def samples(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_a_linear_score_is_explained_by_its_weights() -> None:
    x, references = samples(10, 3), samples(4, 3, seed=1)
    expected = (WEIGHTS * (x - references.mean(dim=0))).numpy()
    assert integrated_gradients(linear, x, references) == pytest.approx(expected)
    assert occlusion(linear, x, references, np.arange(3)) == pytest.approx(expected)


def test_integrated_gradients_of_a_product_are_correct() -> None:
    # s = x_0 x_1 with reference b = 0: each contributes half of the score.
    x = samples(10, 2)
    found = integrated_gradients(lambda x: x[:, 0] * x[:, 1], x, torch.zeros(1, 2, dtype=torch.float64))
    assert found == pytest.approx((x[:, :1] * x[:, 1:] / 2).expand(-1, 2).numpy())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_contributions_add_up_to_the_difference_of_scores(seed: int, rows: int, count: int) -> None:
    torch.manual_seed(seed)
    network = MLP(4, [8, 8, 3]).double().eval()

    def score(x: Tensor) -> Tensor:
        return network(x).square().sum(dim=1).sqrt()

    x, references = samples(rows, 4, seed=seed), samples(count, 4, seed=seed + 1)
    with torch.no_grad():
        expected = (score(x) - score(references).mean()).numpy()
    assert integrated_gradients(score, x, references).sum(axis=1) == pytest.approx(expected, abs=1e-9)


def test_a_sample_that_is_the_only_reference_has_no_contributions() -> None:
    x = samples(1, 3)
    assert integrated_gradients(linear, x, x).tolist() == [[0, 0, 0]]


def test_occlusion_agrees_with_a_plain_loop() -> None:
    torch.manual_seed(0)
    network = MLP(5, [8, 3]).double().eval()

    @torch.no_grad()
    def score(x: Tensor) -> Tensor:
        return network(x).square().sum(dim=1)

    x, references, groups = samples(6, 5), samples(3, 5, seed=1), np.array([1, 0, 1, 2, 2])
    expected = np.zeros((6, 3))
    for i, row in enumerate(x):
        for group in range(3):
            for reference in references:
                occluded = torch.where(torch.from_numpy(groups == group), reference, row)
                expected[i, group] += float(score(row[None]) - score(occluded[None])) / len(references)
    assert occlusion(score, x, references, groups) == pytest.approx(expected)


def test_patch_occlusion_agrees_with_a_plain_loop() -> None:
    weights = samples(2, 14, 14, seed=2)

    def score(x: Tensor) -> Tensor:
        return (x * weights).flatten(1).sum(dim=1).square()

    x, references = samples(2, 2, 14, 14), samples(2, 2, 14, 14, seed=1)
    # 14 / 7 pixels: patches of 2 x 2 in steps of 1.
    total, patches = np.zeros((2, 14, 14)), np.zeros((14, 14))
    for top in range(13):
        for left in range(13):
            place = np.s_[..., top : top + 2, left : left + 2]
            patches[place] += 1
            for reference in references:
                occluded = x.clone()
                occluded[place] = reference[place]
                fall = (score(x) - score(occluded)).numpy() / len(references)
                total[place] += fall[:, None, None]
    assert patch_occlusion(score, x, references) == pytest.approx(total / patches, rel=1e-5, abs=1e-6)


def test_a_sample_that_is_as_before_is_not_scored_again() -> None:
    scored = 0

    def score(x: Tensor) -> Tensor:
        nonlocal scored
        scored += len(x)
        return x.flatten(1).square().sum(dim=1)

    x, references = samples(1, 1, 14, 14), samples(1, 1, 14, 14, seed=1)
    references[..., 7:, :] = x[..., 7:, :]
    found = patch_occlusion(score, x, references)
    # Of the 13 rows of 13 patches, those from the seventh row of pixels on are the same; captum scores the sample, too.
    assert scored == 1 + 7 * 13
    assert (found[:, 8:] == 0).all() and (found[:, :7] != 0).all()


# 2^19 pixels are 8 images of 256 x 256: two points or patches of each of the three. The largest exceed it already.
@pytest.mark.parametrize(("side", "most"), [(256, 6), (512, 3)])
@pytest.mark.parametrize("contributions", [integrated_gradients, patch_occlusion])
def test_few_large_images_are_scored_at_once(contributions: Callable[..., np.ndarray], side: int, most: int) -> None:
    x, references = samples(3, 1, side, side), samples(1, 1, side, side, seed=1)
    weights, at_once = samples(1, side, side, seed=2), set()

    def score(x: Tensor) -> Tensor:
        at_once.add(len(x))
        return (x * weights).flatten(1).sum(dim=1)

    found = contributions(score, x, references)
    assert max(at_once) == most
    if contributions is integrated_gradients:
        assert found == pytest.approx(((x - references) * weights).numpy())


def test_contributions_are_summed_by_group() -> None:
    found = summed(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 1, 0, 2]))
    assert found.tolist() == [[4, 2, 4], [12, 6, 8]]
