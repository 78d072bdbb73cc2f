"""Small images of samples and of their contributions, as data URIs."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

# The longest side of an image, in pixels; larger ones are shrunk.
_SIDE = 128
# Images with longer sides are likely photographs rather than digits, for which JPEG is smaller than PNG.
_LARGE = 64
# Colors of pixels that raise and that lower the score, safe for the color-blind; zero is transparent.
_RAISES, _LOWERS = (213, 94, 0), (0, 114, 178)
_LEVELS = 32


def thumbnail(pixels: npt.NDArray[np.floating]) -> str:
    """An image as a data URI.

    Args:
        pixels: values in [0, 1], shape (C, H, W); with any number of channels other than 3, only the first is shown.
    """
    values = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(np.moveaxis(values, 0, 2) if len(values) == 3 else values[0])
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    return _data_uri(image, "JPEG" if max(image.size) > _LARGE else "PNG")


def heat_map(contributions: npt.NDArray[np.floating]) -> str:
    """The contributions of pixels to a score as a data URI: orange raises it, blue lowers it, and zero is transparent.

    Args:
        contributions: shape (H, W); the largest absolute value has the full color.
    """
    largest = np.abs(contributions).max() or 1.0
    level = np.round(contributions / largest * _LEVELS).astype(np.int64) + _LEVELS
    image = Image.fromarray(level.astype(np.uint8))
    opacity = np.abs(np.arange(2 * _LEVELS + 1) - _LEVELS) / _LEVELS
    colors = [*[_LOWERS] * _LEVELS, (255, 255, 255), *[_RAISES] * _LEVELS]
    image.putpalette(np.array(colors, np.uint8).tobytes())
    image.info["transparency"] = np.round(opacity * 255).astype(np.uint8).tobytes()
    if max(image.size) > _SIDE:
        image = image.convert("RGBA")
        image.thumbnail((_SIDE, _SIDE))
    return _data_uri(image, "PNG")


def _data_uri(image: Image.Image, kind: str) -> str:
    content = io.BytesIO()
    image.save(content, kind, **({"quality": 80} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
