"""Explain scores in an output: the columns that contribute most, or heat maps of images."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.read_input import Chunk

Floats = npt.NDArray[np.float64]

# Further columns of the output.
REASONS = tuple(f"reason_{place}" for place in range(1, 6))
HEAT_MAP = "heat_map"
# Small images are enlarged until each side has at least this many pixels.
_SIDE = 160

# Returns texts for the samples of a chunk that have a score: one list for each further column of the output.
Explain = Callable[[Chunk, npt.NDArray[np.bool_]], list[list[str]]]


def reasons_of(names: Sequence[str], contributions: Floats) -> list[list[str]]:
    """The columns that raise each row's score most, the strongest first, as ``name +contribution``.

    >>> reasons_of(["a", "b", "c"], np.array([[0.25, -1.0, 2.0]]))
    [['c +2'], ['a +0.25'], [''], [''], ['']]

    Args:
        names: names of the table's columns.
        contributions: contributions of the columns to each row's score, shape (n, columns).

    Returns:
        Five lists of n texts, empty where no further column raises the score.
    """
    order = np.argsort(-contributions, axis=1, kind="stable")
    columns: list[list[str]] = []
    for rank in range(len(REASONS)):
        if rank >= contributions.shape[1]:
            columns.append([""] * len(contributions))
            continue
        places = order[:, rank]
        values = contributions[np.arange(len(contributions)), places]
        pairs = zip(places.tolist(), values.tolist(), strict=True)
        columns.append([f"{names[place]} {value:+.4g}" if value > 0 else "" for place, value in pairs])
    return columns


def heat_map(pixels: npt.NDArray[Any], contributions: Floats) -> Image.Image:
    """Draw an image and, to its right, its contributions: red pixels raise the score, blue pixels lower it.

    Args:
        pixels: values in [0, 1], shape (C, H, W) with C 1 or 3.
        contributions: shape (H, W); the color scale is symmetric and ends at the largest absolute value.
    """
    from matplotlib import colormaps

    shown = np.moveaxis(np.broadcast_to(pixels, (3, *pixels.shape[1:])), 0, 2)
    largest = np.abs(contributions).max() or 1.0
    colors = colormaps["coolwarm"](contributions / largest / 2 + 0.5)[..., :3]
    both = np.concatenate([shown, np.ones((len(shown), 1, 3)), colors], axis=1)
    image = Image.fromarray(np.round(both * 255).astype(np.uint8))
    factor = max(1, -(-_SIDE // min(pixels.shape[1:])))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def explain_rows(detector: Detector) -> Explain:
    """Make a function that returns the columns that raise each row's score."""

    def explain(chunk: Chunk, known: npt.NDArray[np.bool_]) -> list[list[str]]:
        return reasons_of(detector.facts.inputs.feature_names, detector.explained(chunk.prepared.x[known]))

    return explain


def explain_images(detector: Detector, folder: Path) -> Explain:
    """Make a function that writes a heat map of each image into a folder and returns its path.

    The folder is created if needed. A file is named after the image and a hash of its path and pixels.
    """
    scale = detector.facts.inputs.scale
    assert scale is not None

    def explain(chunk: Chunk, known: npt.NDArray[np.bool_]) -> list[list[str]]:
        x = chunk.prepared.x[known]
        ids = [str(one) for one, scored in zip(chunk.ids, known, strict=True) if scored]
        paths = []
        for name, image, contributions in zip(ids, x, detector.explained(x), strict=True):
            # Not of the name alone, which another image may have later, such as the first one of another array.
            digest = hashlib.sha256(name.encode("utf-8", "surrogateescape") + image.tobytes()).hexdigest()[:8]
            path = folder / f"{Path(name).stem}-{digest}.png"
            content = io.BytesIO()
            heat_map(image / scale, contributions).save(content, "PNG")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(path, content.getvalue())
            except OSError as error:
                raise DeepSADError(
                    f"heat_maps: {path} cannot be written ({error.strerror}); choose another folder"
                ) from error
            paths.append(str(path))
        return [paths]

    return explain
