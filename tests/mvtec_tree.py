"""A tiny data set in the layout of MVTec AD: grey textures, images with a hole or a scratch, masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN = 60
TEST: Mapping[str, int] = {"good": 9, "hole": 8, "scratch": 5}


def write_mvtec(
    root: Path, *categories: str, train: int = TRAIN, test: Mapping[str, int] = TEST, side: int = 18
) -> Path:
    """Write categories that differ in brightness; returns the root."""
    for number, category in enumerate(categories):
        rng = np.random.default_rng([number, *category.encode()])
        folder = root / category
        for part, kind, count in [("train", "good", train), *(("test", *item) for item in test.items())]:
            where = folder / part / kind
            where.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(100, 140, (side, side, 3), dtype=np.uint8)
                mask = np.zeros((side, side), np.uint8)
                if kind != "good":
                    row, column = rng.integers(0, side - 6, 2)
                    if kind == "scratch":
                        mask[row : row + 2] = 255
                    else:
                        mask[row : row + 6, column : column + 6] = 255
                    pixels[mask > 0] = 255 if kind == "scratch" else 0
                    masks = folder / "ground_truth" / kind
                    masks.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(masks / f"{i:03}_mask.png")
                Image.fromarray(pixels).save(where / f"{i:03}.png")
    return root
