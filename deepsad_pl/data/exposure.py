"""Outlier exposure: training images of a second data set, added as known anomalies (Hendrycks et al. 2019)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError

# The data sets whose images may be added.
EXPOSURES = ("mnist", "fmnist", "cifar10")
# The random stream of the draw, independent of all other draws.
_STREAM = 130


@dataclass(frozen=True)
class Exposure:
    """A second data set whose training images count as known anomalies in training.

    Attributes:
        kind: its name, one of :data:`EXPOSURES`.
        data_digest: a hash of its files if they are not the published ones; None if they are.
    """

    kind: str
    data_digest: str | None = None

    def as_dict(self) -> dict[str, str]:
        """What identifies it, for identities and records."""
        return {"kind": self.kind, **({} if self.data_digest is None else {"data_digest": self.data_digest})}


def exposure_problems(exposure: str, dataset: Mapping[str, Any], *, are_images: bool) -> Iterator[str]:
    """Yield a sentence for each problem with ``scenario.exposure``, as far as the settings show it.

    Args:
        exposure: the setting.
        dataset: settings of the data set that is trained on.
        are_images: whether its samples are images.
    """
    choices = ", ".join(EXPOSURES)
    if exposure not in EXPOSURES:
        yield f"scenario.exposure is {exposure!r}; choose one of {choices}, or null for none"
    elif exposure == dataset.get("kind"):
        yield (
            f"scenario.exposure is {exposure}, which is also the data set; choose another one of {choices}, or null: "
            "its own anomalies are labeled by scenario.gamma_l"
        )
    elif not are_images:
        yield (
            f"scenario.exposure is {exposure}, but dataset={dataset['name']} has rows of a table; use exposure with "
            "images, or null"
        )


def exposed_images(
    images: npt.NDArray[Any], exposure: Exposure, shape: tuple[int, ...], count: int, *, seed: int
) -> npt.NDArray[Any]:
    """Draw the images that are added to a training set.

    There are as many as training samples, so that both halves of the training data have about the same size, as in the
    batches of Ruff et al. 2020; or all of them, if the second data set has fewer.

    Args:
        images: training images of the second data set, uint8, shape (N, C, H, W).
        exposure: that data set, for messages.
        shape: (C, H, W) of the images that are trained on.
        count: number of training samples without them, T.
        seed: determines the draw.

    Returns:
        uint8, shape (min(N, T), C, H, W), in their original order.

    Raises:
        DeepSADError: if the images have another shape.
    """
    if images.shape[1:] != shape:
        theirs, ours = ("x".join(map(str, one)) for one in (images.shape[1:], shape))
        raise DeepSADError(
            f"scenario.exposure={exposure.kind} has images of {theirs} (channels, height, width), but the data set has "
            f"{ours}; choose one of the same shape, or null"
        )
    rows = np.arange(len(images))
    if len(rows) > count:
        rows = np.sort(np.random.default_rng([seed, _STREAM]).permutation(rows)[:count])
    chosen: npt.NDArray[Any] = images[rows]
    return chosen
