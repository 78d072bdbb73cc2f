"""Compute how much each input value contributes to a score: integrated gradients and occlusion, by captum."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Score = Callable[[Tensor], Tensor]

# Points of the quadrature along each line.
_STEPS = 16
# The most inputs in a batch (perturbed samples, or points on the lines from the references), and the most pixels of all
# of them together: what a network keeps in memory grows with both.
_AT_ONCE = 2048
_PIXELS = 2**19
# Patches along each side of an image.
_PATCHES = 7


def _at_once(x: Tensor) -> int:
    """The number of inputs in a batch; never fewer than there are samples, which are explained together."""
    return max(len(x), min(_AT_ONCE, _PIXELS // x[0, 0].numel()))


def _captum() -> Any:
    """The attribution methods of captum, imported on demand."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets, about a progress bar that is not used.
        warnings.filterwarnings("ignore", "IProgress not found")
        from captum import attr
    return attr


def integrated_gradients(score: Score, x: Tensor, references: Tensor) -> Floats:
    r"""Integrated gradients of a differentiable score along straight lines, averaged over the references.

    .. math:: a_i = \frac1R \sum_{r=1}^R (x_i - b_{ri}) \int_0^1 \partial_i s(b_r + t (x - b_r)) \, dt

    The contributions of a sample add up to :math:`s(x) - \frac1R \sum_r s(b_r)`: the error of the quadrature, about
    1 % of a score, is spread over them in proportion to their absolute values. A single reference would be arbitrary:
    even the mean of all normal samples may have a high score.

    Source: M. Sundararajan, A. Taly, Q. Yan: Axiomatic attribution for deep networks, ICML 2017; the average follows
    G. Erion et al.: Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients, Nature Machine Intelligence 2021.

    Args:
        score: maps samples (B, ...) to scores (B,).
        x: samples, shape (B, ...).
        references: R samples to compare with, shape (R, ...).

    Returns:
        Contributions, in the shape of x.
    """
    gradients = _captum().IntegratedGradients(score)
    with torch.no_grad():
        scores, starts = score(x).double().cpu(), score(references).double().cpu()
    total = torch.zeros(len(x), x[0].numel(), dtype=torch.float64)
    for reference, start in zip(references, starts, strict=True):
        found = gradients.attribute(
            x, reference[None], n_steps=_STEPS, method="gausslegendre", internal_batch_size=_at_once(x)
        )
        contributions = found.detach().double().cpu().flatten(1)
        rest = scores - start - contributions.sum(dim=1)
        weight = contributions.abs() + torch.finfo(torch.float64).tiny
        total += contributions + rest[:, None] * weight / weight.sum(dim=1, keepdim=True)
    result: Floats = (total / len(references)).reshape(x.shape).numpy()
    return result


def occlusion(score: Score, x: Tensor, references: Tensor, groups: npt.NDArray[np.int64]) -> Floats:
    """The decrease of a score if the values of a group are replaced by a reference's, averaged over references.

    Args:
        score: maps samples (B, D) to scores (B,).
        x: samples, shape (B, D).
        references: R samples to compare with, shape (R, D).
        groups: group of each value, from 0, shape (D,).

    Returns:
        Contributions of the groups, shape (B, groups).
    """
    mask = torch.from_numpy(groups)[None]
    at_once = _at_once(x) // len(x)
    ablation = _captum().FeatureAblation(_of_changed(score, x))
    found = [
        ablation.attribute(x, reference[None], feature_mask=mask, perturbations_per_eval=at_once).double().cpu()
        for reference in references
    ]
    # captum gives each value the contribution of its group, so the first value of each group is enough.
    first = np.unique(groups, return_index=True)[1]
    result: Floats = torch.stack(found).mean(dim=0).numpy()[:, first]
    return result


def patch_occlusion(score: Score, x: Tensor, references: Tensor) -> Floats:
    """The decrease of a score if a patch of an image is replaced by a reference's, averaged over references.

    The sides of a patch are about a seventh of the image's; neighboring patches overlap by half.

    Args:
        score: maps images (B, C, H, W) to scores (B,).
        x: images, shape (B, C, H, W).
        references: R images to compare with, shape (R, C, H, W).

    Returns:
        For each pixel, the mean contribution of the patches that cover it, shape (B, H, W).
    """
    channels, *sides = x.shape[1:]
    window = [max(2, round(side / _PATCHES)) if side > 1 else 1 for side in sides]
    strides = [max(1, side // 2) for side in window]
    occluded = _captum().Occlusion(_of_changed(score, x))
    found = [
        occluded.attribute(
            x,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *strides),
            baselines=reference[None],
            perturbations_per_eval=_at_once(x) // len(x),
        )
        for reference in references
    ]
    result: Floats = torch.stack(found).double().mean(dim=0).cpu().numpy()[:, 0]
    return result


def _of_changed(score: Score, x: Tensor) -> Score:
    """Score samples of which some values were replaced, but none again that is as before.

    In a third of MNIST's patches, the sample and the reference are both blank.

    Args:
        score: maps samples (B, ...) to scores (B,).
        x: the samples before, shape (B, ...).

    Returns:
        Maps any number of copies of the samples, one after the other, to their scores.
    """
    before = score(x)

    def scored(replaced: Tensor) -> Tensor:
        found = before.repeat(len(replaced) // len(x))
        is_changed = (replaced.view(-1, *x.shape) != x).flatten(2).any(dim=2).flatten()
        if is_changed.any():
            found[is_changed] = score(replaced[is_changed])
        return found

    return scored


def summed(contributions: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Add up the contributions (B, D) within each group: (B, groups)."""
    return contributions @ np.eye(groups.max() + 1)[groups]
