"""Draw by a seed which images of known defects are labeled, about equally many of each defect. Pure numpy."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import counted

IntArray = npt.NDArray[np.int64]

# Number of this draw's own random stream, so that it changes no other draw; calibration and scenario use lower numbers.
_STREAM = 300


def even_shares(defects: Collection[str], total: int) -> dict[str, int]:
    """The number of images to draw of each defect; the first defects in alphabetical order may get one more.

    >>> even_shares(["hole", "crack"], 5)
    {'crack': 3, 'hole': 2}

    Args:
        defects: names of the defects, each once, at least one.
        total: total number of images, >= 0.
    """
    each, more = divmod(total, len(defects))
    return {name: each + (place < more) for place, name in enumerate(sorted(defects))}


def draw_defects(counts: Mapping[str, int], total: int, seed: int) -> dict[str, IntArray]:
    """Draw images of each defect; a larger total includes the images of a smaller one.

    The order in which a defect's images are drawn depends only on the seed, its name and its number of images.

    Args:
        counts: number of images of each defect, which must be at least its share (:func:`even_shares`); at least one
            defect.
        total: total number of images.
        seed: determines the draw.

    Returns:
        For each defect, the positions of the drawn images among its images, ascending.
    """
    drawn: dict[str, IntArray] = {}
    for name, share in even_shares(counts, total).items():
        order = np.random.default_rng([seed, _STREAM, *name.encode()]).permutation(counts[name])
        drawn[name] = np.sort(order[:share]).astype(np.int64)
    return drawn


def draw_problems(counts: Mapping[str, int], total: int, others: int) -> Iterator[str]:
    """Yield a sentence for each reason why ``total`` images cannot be drawn.

    Args:
        counts: number of images of each defect from which images are to be labeled.
        total: total number of images to label.
        others: number of images of all other defects.
    """
    # If the k defects take turns, defect i (from 0) with c images has none left for draw c * k + i + 1.
    most = min(counts[name] * len(counts) + place for place, name in enumerate(sorted(counts)))
    most = min(most, sum(counts.values()) + others - 1)
    way_out = f"use at most dataset.labeled_images={most}" if most > 0 else "use dataset.labeled_defects=[]"
    short = {name: share for name, share in even_shares(counts, total).items() if share > counts[name]}
    for name, share in short.items():
        yield (
            f"dataset.labeled_images={total} labels {counted(share, 'image')} of the defect {name!r}, but it has "
            f"{counts[name]}; {way_out}"
        )
    if not short and total == sum(counts.values()) + others:
        yield (
            f"dataset.labeled_images={total} labels all images with a defect, so that no anomaly is left in the test "
            f"set; {way_out}"
        )
