"""Thumbnails: the pixels of small images, small files of large ones, heat maps whose signs have different colors."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deepsad_pl.pages.thumbnails import heat_map, thumbnail


def opened(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


def test_a_small_image_keeps_its_pixels() -> None:
    grey = np.arange(64).reshape(1, 8, 8) / 255
    assert np.array_equal(np.asarray(opened(thumbnail(grey))), np.arange(64).reshape(8, 8))
    color = np.random.default_rng(0).integers(256, size=(3, 9, 5))
    assert np.array_equal(np.moveaxis(np.asarray(opened(thumbnail(color / 255))), 2, 0), color)


def test_values_outside_and_other_channels_are_shown() -> None:
    assert np.asarray(opened(thumbnail(np.array([[[-1.0, 2.0]]])))).tolist() == [[0, 255]]
    assert opened(thumbnail(np.zeros((2, 8, 8)))).mode == "L"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_is_a_small_file(channels: int) -> None:
    noise = np.random.default_rng(0).random((channels, 600, 400))
    assert len(thumbnail(noise)) < 30_000
    assert max(opened(thumbnail(noise)).size) == 128
    assert len(heat_map(noise[0] - 0.5)) < 60_000


def test_a_heat_map_tells_signs_apart_and_leaves_zero_transparent() -> None:
    found = np.asarray(opened(heat_map(np.array([[-2.0, 0.0, 2.0, 1.0]]))).convert("RGBA"))[0]
    lowers, nothing, raises, half = found.tolist()
    assert lowers == [0, 114, 178, 255]
    assert raises == [213, 94, 0, 255]
    assert half == [213, 94, 0, 128]
    assert nothing[3] == 0
    assert not np.asarray(opened(heat_map(np.zeros((4, 4)))).convert("RGBA"))[..., 3].any()
