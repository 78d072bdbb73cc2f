"""Decode an image file to an array of 8-bit pixels."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from deepsad_pl.common.errors import DeepSADError

# (mode, file format) pairs for which Pillow's deep grey values span 16 bits, whatever the bit depth of the file.
_FULL_RANGE = {("I;16", "PNG"), ("I;16", "JPEG2000"), ("I;16", "IM"), ("I", "PPM")}

# The operation that undoes each EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Every PNG file that states an orientation contains one of these.
_PNG_METADATA = (b"eXIf", b"exif", b"xmp")


def is_image(path: Path) -> bool:
    """Whether Pillow recognizes a file, by its beginning, as an image that it can decode."""
    try:
        with Image.open(path) as image:
            return not isinstance(image, ImageFile.StubImageFile)
    except Image.DecompressionBombError:
        return True
    except Exception:  # some of Pillow's readers raise their own exception types on foreign files
        return False


def decode(path: Path, content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Decode an image, turn it upright by its EXIF data, and resize it (antialiased bilinear) if its size differs.

    Grey values of more than 8 bits keep their highest 8. Transparency is ignored.

    Args:
        path: path of the file, for error messages.
        content: the bytes of the file.
        shape: (C, H, W) of the result; C is 1 (grey) or 3 (RGB).

    Raises:
        DeepSADError: if the image cannot be decoded, or the range of its values is unknown.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            turn = _turn(image)
            image.info.pop("transparency", None)  # otherwise Pillow warns that it is lost
            eight_bits = _eight_bits(path, image) if _is_deep(image) else image
            upright = eight_bits.convert("L" if channels == 1 else "RGB")
            if turn is not None:
                upright = upright.transpose(turn)
    except DeepSADError:
        raise
    except Exception as error:  # each decoder raises its own exception types on damaged files
        # Pillow names the object that it was given, here the bytes in memory.
        said = re.sub(r" ?<_io\.BytesIO object at \w+>", "", str(error))
        reason = f"{type(error).__name__}: {said}"
        raise DeepSADError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(height, width, channels).transpose(2, 0, 1)


def differs_from_format_1(content: bytes) -> bool:
    """Whether pixel format 1 decoded this image differently: clipped, inverted, or not turned upright."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if _is_deep(image):
                return not image.mode.startswith("I;16") or _bits(image) != 16 or _is_inverted(image)
            if image.format == "TIFF":  # Pillow turns these upright itself
                return False
            # Metadata may follow the pixels: without this check Pillow would decode them all to look for metadata.
            if image.format == "PNG" and not any(key in content for key in _PNG_METADATA):
                return False
            return _turn(image) is not None
    except Exception:  # neither format can read it
        return False


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The operation that turns an image upright by its EXIF data; None if none is needed or the data are damaged.

    ImageOps.exif_transpose is not used, as it fails if it cannot write the other EXIF data back.
    """
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata raise many exception types, and the pixels may still be intact
        return None


def _is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits, which Pillow would clip at 255."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _bits(image: Image.Image) -> int | None:
    """The number of bits that the values of a deep grey image span; None if it is unknown."""
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    if isinstance(image, TiffImagePlugin.TiffImageFile) and mode == "I;16":
        return int(image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0])
    return 16 if (mode, image.format) in _FULL_RANGE else None


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF image; Pillow handles this only up to 8 bits."""
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
