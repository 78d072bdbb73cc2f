"""Squared distances and the Gaussian kernel, in double precision, on as many threads as torch may use."""

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]


def squared_distances(a: Rows, b: Rows | None = None) -> FloatArray:
    """Squared Euclidean distances between all rows of a and all rows of b, by one matrix product.

    Args:
        a: shape (n, D).
        b: shape (m, D); None: the same as a, with exact zeros on the diagonal.

    Returns:
        Shape (n, m), >= 0.
    """
    left = torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64))
    right = left if b is None else torch.from_numpy(np.ascontiguousarray(b, dtype=np.float64))
    norms_left, norms_right = left.square().sum(dim=1), right.square().sum(dim=1)
    distance2 = torch.addmm(norms_right[None, :], left, right.T, alpha=-2).add_(norms_left[:, None]).clamp_(min=0)
    if b is None:
        distance2.fill_diagonal_(0)
    return distance2.numpy()


def gaussian_kernel(distance2: FloatArray, gamma: float, out: FloatArray | None = None) -> FloatArray:
    """The Gaussian kernel exp(-gamma distance2), elementwise.

    Args:
        distance2: squared distances, any shape.
        gamma: scale, > 0.
        out: array for the result, which may be ``distance2`` itself; None: a new array.
    """
    target = torch.empty(distance2.shape, dtype=torch.float64) if out is None else torch.from_numpy(out)
    return torch.mul(torch.from_numpy(distance2), -gamma, out=target).exp_().numpy()
