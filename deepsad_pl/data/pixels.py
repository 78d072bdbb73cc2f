"""One image file to an array of 8-bit pixels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from deepsad_pl.common.errors import DeepSADError

# Where Pillow's deep grey modes fill 16 bits, whatever depth the file has: mode, format.
_FULL_RANGE = {("I;16", "PNG"), ("I;16", "JPEG2000"), ("I;16", "IM"), ("I", "PPM")}

# What undoes each EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# One of these is in every PNG file that says how it is to be turned.
_PNG_METADATA = (b"eXIf", b"exif", b"xmp")


def is_image(path: Path) -> bool:
    """Whether Pillow takes the beginning of a file for that of an image which it can decode."""
    try:
        with Image.open(path) as image:
            return not isinstance(image, ImageFile.StubImageFile)
    except Image.DecompressionBombError:
        return True
    except Exception:  # some of Pillow's readers raise kinds of their own on what is not theirs
        return False


def decode(path: Path, content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The pixels of an image, upright as its EXIF data have it, resized (antialiased bilinear) if it has another size.

    Grey values of more than 8 bits lose the lowest ones. What is transparent keeps its colour.

    Args:
        path: of the file, for messages.
        content: of the file.
        shape: (C, H, W) wanted; C is 1 (grey) or 3 (RGB).

    Raises:
        DeepSADError: if it cannot be decoded, or the range of its values is not known.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            turn = _turn(image)
            image.info.pop("transparency", None)  # of which Pillow would warn that it is lost
            eight_bits = _eight_bits(path, image) if _is_deep(image) else image
            upright = eight_bits.convert("L" if channels == 1 else "RGB")
            if turn is not None:
                upright = upright.transpose(turn)
    except DeepSADError:
        raise
    except Exception as error:  # each decoder raises kinds of its own on damaged files
        reason = f"{type(error).__name__}: {error}"
        raise DeepSADError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(height, width, channels).transpose(2, 0, 1)


def differs_from_format_1(content: bytes) -> bool:
    """Whether pixel format 1 read this image otherwise: clipped, inverted, or not turned upright."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if _is_deep(image):
                return not image.mode.startswith("I;16") or _bits(image) != 16 or _is_inverted(image)
            if image.format == "TIFF":  # Pillow itself turns these
                return False
            # Metadata may stand behind the pixels, so that Pillow decodes these to look for it.
            if image.format == "PNG" and not any(key in content for key in _PNG_METADATA):
                return False
            return _turn(image) is not None
    except Exception:  # of what cannot be read no format has pixels
        return False


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright by its EXIF data; None if it is, or if they cannot be read.

    Not ImageOps.exif_transpose, which fails where it cannot write the rest of the EXIF data back.
    """
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata raise kinds of their own, and the pixels may still be whole
        return None


def _is_deep(image: Image.Image) -> bool:
    """Whether it has one channel of more than 8 bits, which Pillow would clip at 255."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _bits(image: Image.Image) -> int | None:
    """How many bits the values of a deep grey image fill; None if that is not known."""
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    if isinstance(image, TiffImagePlugin.TiffImageFile) and mode == "I;16":
        return int(image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0])
    return 16 if (mode, image.format) in _FULL_RANGE else None


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white, which Pillow heeds up to 8 bits only."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def _eight_bits(path: Path, image: Image.Image) -> Image.Image:
    bits = _bits(image)
    if bits is None:
        raise DeepSADError(
            f"{path} is a {image.format} image with Pillow's mode {image.mode}, which does not say which values are "
            "black and white; save it as 8-bit or 16-bit grayscale, or remove it"
        )
    values: npt.NDArray[Any] = np.asarray(image) >> (bits - 8)
    return Image.fromarray((255 - values if _is_inverted(image) else values).astype(np.uint8))
