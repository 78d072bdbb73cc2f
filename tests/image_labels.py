"""Image folders like a user's: unlabeled images, a few that an expert has sorted, and a test part with truth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

# Number of images in each folder of a part; the empty name stands for those straight below the part.
PARTS = {"train": {"": 20, "unlabeled": 120, "normal": 12, "anomaly": 8}, "test": {"": 5, "normal": 20, "anomaly": 6}}


def write_labeled(root: Path, counts: Mapping[str, Mapping[str, int]] = PARTS, *, seed: int = 0) -> Path:
    """Write images of grey noise, 16 x 16 pixels, with a bright square in folders called ``anomaly...``."""
    rng = np.random.default_rng(seed)
    for part, folders in counts.items():
        for folder, images in folders.items():
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            for i in range(images):
                pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
                if folder.startswith("anomaly"):
                    pixels[4:12, 4:12] = 250
                Image.fromarray(pixels).save(root / part / folder / f"{i:03}.png")
    return root


def touch(root: Path, *names: str) -> Path:
    """Create files that count as images by their suffix but cannot be decoded. A name that ends with / is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    return root
