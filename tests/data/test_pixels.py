"""From an image file to pixels, checked by arithmetic on the values that were written."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.pixels import decode, differs_from_format_1

ANYWHERE = Path("photos") / "x"
HEIGHT, WIDTH = 4, 8
RAMP = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
TWELVE_BITS, EIGHT_BITS = RAMP >> 4, RAMP >> 8


def grey(content: bytes, size: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[np.uint8]:
    (image,) = decode(ANYWHERE, content, (1, *size))
    return image


def saved(image: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def tiff(values: bytes, *, bits: int, white_is_zero: bool = False, sample: int = 1, order: str = "<") -> bytes:
    """An uncompressed grey TIFF file; ``sample`` is 1 for unsigned, 2 for signed, 3 for float."""
    entries = [(256, 3, WIDTH), (257, 3, HEIGHT), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1)]
    start = 8 + 2 + 12 * 10 + 4
    entries += [(273, 4, start), (277, 3, 1), (278, 3, HEIGHT), (279, 4, len(values)), (339, 3, sample)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, value in entries:
        padded = struct.pack(f"{order}I", value) if kind == 4 else struct.pack(f"{order}HH", value, 0)
        head += struct.pack(f"{order}HHI", tag, kind, 1) + padded
    return head + struct.pack(f"{order}I", 0) + values


def packed(values: npt.NDArray[Any]) -> bytes:
    """12-bit values without gaps."""
    bits = "".join(f"{value:012b}" for value in values.ravel().tolist())
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def png(values: bytes, *, depth: int, colour: int) -> bytes:
    """A PNG file written by hand, since Pillow cannot write 16-bit color."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    line = len(values) // HEIGHT
    lines = b"".join(b"\0" + values[i * line : (i + 1) * line] for i in range(HEIGHT))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def big_endian(values: npt.NDArray[Any]) -> bytes:
    return values.astype(">u2").tobytes()


DEEP = {
    "png": png(big_endian(RAMP), depth=16, colour=0),
    "png by Pillow": saved(RAMP, "PNG"),
    "tiff": saved(RAMP, "TIFF"),
    "tiff, big-endian": saved(RAMP.astype(">u2"), "TIFF"),
    "tiff, compressed": saved(RAMP, "TIFF", compression="tiff_lzw"),
    "tiff, white is 0": tiff((65535 - RAMP).astype("<u2").tobytes(), bits=16, white_is_zero=True),
    "tiff, 12 bits": tiff(packed(TWELVE_BITS), bits=12),
    "jpeg 2000": saved(RAMP, "JPEG2000"),
    "im": saved(RAMP, "IM"),
    "pgm": b"P5 8 4 65535\n" + big_endian(RAMP),
    "pgm with a comment": b"P5\n# a comment\n8 4\n65535\n" + big_endian(RAMP),
    "pgm as text": b"P2 8 4 65535\n" + " ".join(map(str, RAMP.ravel())).encode(),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_grey_keeps_its_upper_eight_bits(name: str) -> None:
    assert np.array_equal(grey(DEEP[name]), EIGHT_BITS)
    colour = decode(ANYWHERE, DEEP[name], (3, HEIGHT, WIDTH))
    assert np.array_equal(colour, np.stack([EIGHT_BITS] * 3))


@pytest.mark.parametrize("maxval", [1, 100, 255, 256, 1000, 4095, 65534])
@pytest.mark.parametrize("plain", [False, True])
def test_a_pgm_is_scaled_by_the_highest_value_that_it_declares(maxval: int, plain: bool) -> None:
    values = np.linspace(0, maxval, HEIGHT * WIDTH).astype(int).reshape(HEIGHT, WIDTH)
    raw = values.astype(np.uint8 if maxval < 256 else ">u2").tobytes()
    body = " ".join(map(str, values.ravel())).encode() if plain else raw
    image = grey(f"P{2 if plain else 5} 8 4 {maxval}\n".encode() + body)
    assert np.abs(image - values * 255 / maxval).max() <= 1
    assert (image[0, 0], image[-1, -1]) == (0, 255)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_deep_color_keeps_its_upper_eight_bits(colour: int, channels: int) -> None:
    values = np.stack([np.roll(RAMP, i) for i in range(channels)], axis=-1)
    image = decode(ANYWHERE, png(big_endian(values), depth=16, colour=colour), (3, HEIGHT, WIDTH))
    expected = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, axis=-1)
    assert np.array_equal(image, (expected >> 8).transpose(2, 0, 1))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255])
def test_equal_grey_values_are_equal_in_every_file_format(value: int) -> None:
    pixels = np.full((HEIGHT, WIDTH), value, np.uint8)
    deep = pixels.astype(np.uint16) * 257
    files = [saved(pixels, "PNG"), saved(deep, "PNG"), saved(deep, "TIFF"), saved(pixels, "PPM")]
    files += [b"P5 8 4 65535\n" + big_endian(deep), tiff(packed(deep >> 4), bits=12)]
    assert [np.unique(grey(file)).tolist() for file in files] == [[value]] * len(files)


UNKNOWN_RANGE = {
    "F": saved(RAMP.astype(np.float32), "TIFF"),
    "F, pfm": saved((RAMP / 65535).astype(np.float32), "PPM"),
    "I": saved(RAMP.astype(np.int32), "TIFF"),
    "I, unsigned": tiff(RAMP.astype("<u4").tobytes(), bits=32),
    "I, 16 bits with a sign": tiff((RAMP // 2).astype("<i2").tobytes(), bits=16, sample=2),
    "I, im": saved(RAMP.astype(np.int32), "IM"),
}


@pytest.mark.parametrize("name", UNKNOWN_RANGE)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_without_a_known_range_are_refused_by_file_and_mode(name: str, channels: int) -> None:
    with pytest.raises(DeepSADError) as caught:
        decode(ANYWHERE, UNKNOWN_RANGE[name], (channels, HEIGHT, WIDTH))
    assert str(caught.value).startswith(f"{ANYWHERE} is a ")
    assert f" image with Pillow's mode {name[0]}, which does not say which values" in str(caught.value)
    assert "save it as 8-bit or 16-bit grayscale" in str(caught.value)


# Where the stored corners (upper left, upper right, lower left) are displayed, by orientation.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored[::-1].T,
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: stored.T[::-1],
}


def with_orientation(pixels: npt.NDArray[Any], kind: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(pixels, kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_an_image_is_turned_upright(kind: str, orientation: int) -> None:
    stored = np.kron(np.arange(1, 7, dtype=np.uint8).reshape(2, 3) * 40, np.ones((8, 8), np.uint8))
    expected = UPRIGHT[orientation](stored)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    content = with_orientation(stored, kind, orientation, **options)
    assert np.abs(grey(content, expected.shape).astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_grey_is_turned_upright_too(kind: str, orientation: int) -> None:
    expected = UPRIGHT[orientation](EIGHT_BITS)
    assert np.array_equal(grey(with_orientation(RAMP, kind, orientation), expected.shape), expected)


def test_an_image_is_turned_before_it_is_resized() -> None:
    stored = np.zeros((10, 40), np.uint8)
    stored[:, 20:] = 200  # the right half, which orientation 6 puts below
    image = grey(with_orientation(stored, "PNG", 6), (20, 5))
    assert image[0].tolist() == [0] * 5
    assert image[-1].tolist() == [200] * 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    assert np.array_equal(grey(with_orientation(EIGHT_BITS.astype(np.uint8), "PNG", orientation)), EIGHT_BITS)


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_data_do_not_keep_an_image_from_being_read() -> None:
    """Every byte is damaged in turn; this sometimes changes orientation 1 to another one."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make], exif[ExifTags.Base.XResolution] = 1, "maker", 72.0
    content = saved(np.full((HEIGHT, WIDTH), 77, np.uint8), "WEBP", lossless=True, exif=exif)
    start = content.index(b"EXIF") + 8
    for i in range(start, len(content)):
        for byte in (0, 6, 255):
            damaged = content[:i] + bytes([byte]) + content[i + 1 :]
            assert np.unique(grey(damaged)).tolist() == [77]
            differs_from_format_1(damaged)


RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def colour_of(content: bytes) -> npt.NDArray[np.uint8]:
    return decode(ANYWHERE, content, (3, HEIGHT, WIDTH)).transpose(1, 2, 0)


@pytest.mark.parametrize("alpha", [0, 1, 128, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_transparent_pixels_keep_their_color(kind: str, alpha: int) -> None:
    with_alpha = np.concatenate([RGB, np.full((HEIGHT, WIDTH, 1), alpha, np.uint8)], axis=-1)
    assert np.array_equal(colour_of(saved(with_alpha, kind)), RGB)
    assert np.array_equal(colour_of(saved(with_alpha[..., [0, 3]], kind)), np.repeat(RGB[..., :1], 3, axis=-1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [None, 3, b"\x00\x80\xff"])
def test_a_palette_is_applied_whatever_is_transparent(transparency: Any) -> None:
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(RGB.reshape(-1, 3).tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    assert np.array_equal(colour_of(saved(image, "PNG", **options)), RGB)


def test_black_and_white_is_0_and_255() -> None:
    white = RAMP > 30_000
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.array_equal(grey(saved(white, kind)), np.where(white, 255, 0))


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_is_converted_to_rgb(kind: str) -> None:
    """(255 - C) (255 - K) / 255, and likewise M and Y."""
    ink = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 255, 51
    image = colour_of(saved(Image.fromarray(ink, "CMYK"), kind))
    assert np.abs(image.astype(int) - [0, 204, 204]).max() <= 2


@pytest.mark.parametrize("kind", [OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error])
def test_decoder_errors_name_the_image(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    def broken(self: Image.Image, mode: str) -> Image.Image:
        raise kind("damaged")

    content = saved(RGB, "PNG")
    monkeypatch.setattr(Image.Image, "convert", broken)
    with pytest.raises(DeepSADError, match=f"{ANYWHERE} cannot be read as an image .*; repair or remove it"):
        colour_of(content)


def test_upper_left_pixel_is_first() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[0, 2] = (1, 2, 3)
    image = decode(ANYWHERE, saved(pixels, "PNG"), (3, HEIGHT, WIDTH))
    assert image[:, 0, 2].tolist() == [1, 2, 3]
    assert image.sum() == 6


def in_format_1(content: bytes) -> npt.NDArray[Any]:
    """The pixels of format 1, computed independently."""
    with Image.open(io.BytesIO(content)) as opened:
        image: Image.Image = opened
        if opened.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
        image = image.convert("L")
        return np.asarray(
            image if image.size == (WIDTH, HEIGHT) else image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        )


TURNED = {
    f"{kind} turned by {orientation}": with_orientation(EIGHT_BITS.astype(np.uint8), kind, orientation)
    for kind in ("PNG", "TIFF", "WEBP", "JPEG")
    for orientation in UPRIGHT
}
PLAIN = {f"plain {kind}": saved(RGB, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")}


@pytest.mark.parametrize("name", DEEP | TURNED | PLAIN)
def test_images_that_format_1_read_differently_are_known(name: str) -> None:
    content = (DEEP | TURNED | PLAIN)[name]
    assert differs_from_format_1(content) == (not np.array_equal(in_format_1(content), grey(content)))


@pytest.mark.parametrize("name", UNKNOWN_RANGE)
def test_images_that_only_format_1_accepted_are_known(name: str) -> None:
    assert differs_from_format_1(UNKNOWN_RANGE[name])


def test_metadata_after_the_pixels_are_found() -> None:
    """In a PNG file, the EXIF data may come last."""
    content = with_orientation(EIGHT_BITS.astype(np.uint8), "PNG", 6)
    start = content.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", content[start : start + 4])[0]
    end = content.index(b"IEND") - 4
    moved = content[:start] + content[start + length : end] + content[start : start + length] + content[end:]
    assert differs_from_format_1(moved)
    assert np.array_equal(grey(moved, (WIDTH, HEIGHT)), UPRIGHT[6](EIGHT_BITS))


@pytest.mark.parametrize("content", [b"", b"no image", saved(RGB, "PNG")[:40]])
def test_unreadable_files_do_not_count_as_different(content: bytes) -> None:
    assert not differs_from_format_1(content)


def test_a_file_that_is_no_image_is_described_without_the_object_in_memory() -> None:
    with pytest.raises(DeepSADError) as caught:
        decode(ANYWHERE, b"no image", (1, 8, 8))
    reason = "UnidentifiedImageError: cannot identify image file"
    assert str(caught.value) == f"{ANYWHERE} cannot be read as an image ({reason}); repair or remove it"
