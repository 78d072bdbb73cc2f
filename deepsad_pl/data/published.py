"""The published files of the data sets, and a check whether the files in a data folder are the published ones."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.adbench import adbench_file, published_sum
from deepsad_pl.data.adbench_tables import ADBENCH_FOLDER, table_named
from deepsad_pl.data.digests import file_digests
from deepsad_pl.data.odds import ODDS_FILES, ODDS_FOLDER, odds_file


@dataclass(frozen=True)
class Published:
    """The unpacked files of a torchvision data set.

    Attributes:
        folder: name of the set's folder in the data folder.
        sha256: SHA-256 of each file in hex, by file name relative to ``folder``.
    """

    folder: str
    sha256: Mapping[str, str]


PUBLISHED = {
    "mnist": Published(
        "MNIST",
        {
            "raw/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "raw/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "raw/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "raw/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fmnist": Published(
        "FashionMNIST",
        {
            "raw/train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "raw/train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "raw/t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "raw/t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "cifar10": Published(
        "cifar-10-batches-py",
        {
            "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        },
    ),
}


def data_digest(kind: str, data_dir: Path, table: str | None = None) -> str | None:
    """A hash of a data set's files if they differ from the published ones; independent of the folder they are in.

    Args:
        kind: name of the data set.
        data_dir: the data folder; nothing is downloaded.
        table: which of its tables, for a data set that has several.

    Returns:
        A hash of the files' names and contents; None if they are the published files, if files are missing (they will
        be downloaded), or if the data set has no files of its own.

    Raises:
        DeepSADError: if a file cannot be read.
    """
    try:
        if kind in ODDS_FILES:
            path = odds_file(kind, data_dir)
            names = [path.name] if path is not None else []
            known, folder = {ODDS_FILES[kind].file: ODDS_FILES[kind].sha256}, data_dir / ODDS_FOLDER
        elif kind == ADBENCH_FOLDER and (of_adbench := table_named(table)) is not None:
            path = adbench_file(of_adbench, data_dir)
            names, folder = [path.name] if path.exists() else [], path.parent
            known = {path.name: published_sum(of_adbench, data_dir) or ""}
        elif kind in PUBLISHED:
            known, folder = dict(PUBLISHED[kind].sha256), data_dir / PUBLISHED[kind].folder
            names = list(known) if all((folder / name).exists() for name in known) else []
        else:
            return None
        found = dict(zip(names, file_digests(folder, names, data_dir / "cache"), strict=True))
    except OSError as error:
        raise DeepSADError(
            f"{kind} in {data_dir} cannot be read ({error}); make it readable or choose another data_dir"
        ) from error
    if not found or found == known:
        return None
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
