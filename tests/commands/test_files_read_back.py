"""Files that the package wrote and reads back: whatever is in them, they are rebuilt or refused, and nothing is run."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsad_pl.common.arrays import read_arrays
from deepsad_pl.common.calibration_scores import CALIBRATION, read_calibration
from deepsad_pl.common.checkpoints import DamagedError, from_bytes, to_bytes
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import RECORD, read_record
from deepsad_pl.data.decoded_cache import load_or_write
from deepsad_pl.data.digests import file_digests
from deepsad_pl.data.download import noted_sum
from deepsad_pl.detector.detector import Detector
from deepsad_pl.detector.detector_folder import FACTS, MODULE
from deepsad_pl.experiment.encoder_cache import Entry
from deepsad_pl.experiment.fit_shallow import _seconds_in
from deepsad_pl.experiment.warm_start import read_earlier
from deepsad_pl.networks.description import require_networks
from deepsad_pl.shallow.models import load_model
from deepsad_pl.stacked.stack_notes import stacks_in_training
from deepsad_pl.study.requests import Memory
from deepsad_pl.study.result_rows import COLUMNS, read_rows
from deepsad_pl.sweep.failures import Failures

MARK = "executed"


class Hostile:
    """An object whose pickle makes a file in the current folder."""

    def __reduce__(self) -> Any:
        return os.mkdir, (MARK,)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


CONTENTS = {
    "empty": b"",
    "half": to_bytes({"state_dict": {}})[:200],
    "noise": np.random.default_rng(0).bytes(300),
    "not_utf8": b"\xff\xfe{}",
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "nan": b"NaN",
    "object": b"{}",
    "wrong_types": b'{"format": 1, "files": 3, "inputs": [], "hash": [], "error": 3}',
    "deep": b"[" * 100_000,
    "pickle": pickle.dumps(Hostile()),
    "pickle_in_torch": saved(Hostile()),
    "pickle_in_numpy": npy(np.array([Hostile()])),
    "foreign_checkpoint": to_bytes({"state_dict": {"other": torch.zeros(2)}}),
    "foreign_arrays": npz(x=np.array(["a"]), score=np.array(["a", "b"]), y=np.array([1, 2])),
}


def _memory(path: Path) -> Any:
    return Memory(path.parent).all()


def _failure(path: Path) -> Any:
    return Failures(path.parent).error(["seed=0"])


def _note_name() -> str:
    return Failures(Path()).name_of(["seed=0"])


# The name of each file, its reader, and whether the reader may return something.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "record": (RECORD, lambda path: read_record(path.parent, "0" * 8)),
    "calibration": (str(CALIBRATION), lambda path: read_calibration(path.parents[1])),
    "arrays": ("a.npz", read_arrays),
    "model": ("model.npz", load_model),
    "detector": (f"detector/{FACTS}", lambda path: Detector.read(path.parent)),
    "warm_start": (f"detector/{FACTS}", lambda path: read_earlier(path.parents[1])),
    "checkpoint": ("last.ckpt", lambda path: from_bytes(path.read_bytes())),
    "encoder_cache": ("e.bin", lambda path: Entry(path).load()),
    "seconds": ("seconds", _seconds_in),
    "sum": (".a.sha256", lambda path: noted_sum(path.with_name(".a"))),
    "stacks": ("stacks/host-1.txt", lambda path: stacks_in_training(path.parent)),
    "requests": ("requests.json", _memory),
    "failures": (_note_name(), _failure),
    "results": ("results.csv", read_rows),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_that_is_not_ours_is_ignored_or_refused(
    reader: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, read = READERS[reader]
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENTS[content])
    # What the callers of these turn into a sentence, or take as a reason to write the file again.
    told = (DeepSADError, DamagedError, *((ValueError,) if reader in ("calibration", "arrays") else ()))
    try:
        read(path)
    except told as error:
        assert "\n" not in str(error)
        if reader not in ("checkpoint", "arrays", "calibration"):
            assert path.name in str(error) or path.parent.name in str(error)
    assert not Path(MARK).exists()


@pytest.mark.parametrize("content", CONTENTS)
def test_caches_are_built_again(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"

    def write(folder: Path) -> None:
        np.save(folder / "train.npy", np.arange(3, dtype=np.uint8))

    def load() -> list[int]:
        return load_or_write(cache, "k" * 64, ["train"], write)[0].tolist()

    load()
    (folder,) = (one for one in cache.iterdir() if one.is_dir())
    # An array of somebody else, with the right SHA-256 beside it.
    (folder / "train.npy").write_bytes(CONTENTS[content])
    sha256 = hashlib.sha256(CONTENTS[content]).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"key": "k" * 64, "sha256": {"train": sha256}}))
    assert load() == [0, 1, 2]
    (folder / "manifest.json").write_bytes(CONTENTS[content])
    assert load() == [0, 1, 2]

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"a")
    os.utime(tmp_path / "data" / "a", (0, 0))
    kept = cache / f"digests-{hashlib.sha256(os.fsencode((tmp_path / 'data').resolve())).hexdigest()[:16]}.json"
    for checksum in (b"", hashlib.sha256(CONTENTS[content]).hexdigest().encode() + b"\n"):
        kept.write_bytes(checksum + CONTENTS[content])
        assert file_digests(tmp_path / "data", ["a"], cache) == [hashlib.sha256(b"a").hexdigest()]
    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [("test_normal", "3.5"), ("auroc", "two"), ("classes", '{"a": "12"}'), ("classes", "[" * 9999), ("hash", "")],
)
def test_a_row_that_is_no_result_is_refused_with_its_line(column: str, value: str, tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"dataset": "d", "method": "m", "hash": "h", "auroc": "0.5", column: value}
    cells = ['"' + row[name].replace('"', '""') + '"' for name in COLUMNS]
    (tmp_path / "r.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(cells)}\n")
    with pytest.raises(DeepSADError, match=r"line 2 of the results .*r\.csv"):
        read_rows(tmp_path / "r.csv")


@pytest.mark.parametrize("target", ["os.mkdir", "subprocess.run", "builtins.exec", "torch.hub.load", "pathlib.Path"])
def test_a_network_in_a_file_must_be_a_network(target: str) -> None:
    inner = {"_target_": "torch.nn.Sequential", "layers": [{"_target_": target, "path": MARK}]}
    for network in ({"_target_": target, "path": MARK}, inner):
        with pytest.raises(DeepSADError, match=f"_target_ {target}, which is neither"):
            require_networks(network)
    require_networks({"_target_": "torch.nn.Linear", "decoder": {"_target_": "torchvision.models.resnet18"}})
    require_networks(None)


def test_the_network_of_a_hostile_detector_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepsad_pl.detector.detector import _module

    monkeypatch.chdir(tmp_path)
    target = "deepsad_pl.methods.deep_sad.DeepSADModule"
    for hyper_parameters in (
        {"network": {"_target_": "os.mkdir", "path": MARK, "in_features": 2}},
        {"_instantiator": "os.mkdir", "network": {}},
    ):
        (tmp_path / MODULE).write_bytes(to_bytes({"state_dict": {}, "hyper_parameters": hyper_parameters}))
        with pytest.raises(DeepSADError):
            _module(tmp_path / MODULE, target)
    with pytest.raises(DeepSADError, match="which is not a TrainedMethod"):
        _module(tmp_path / MODULE, "os.mkdir")
    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    "argument",
    [
        ({"_target_": "builtins.print"},),
        [({"_target_": "builtins.print"},)],
        "${oc.create:{_target_: builtins.print}}",
        "${oc.env:HOME}",
        {"${oc.env:HOME}": 1},
    ],
    ids=["tuple", "nested", "created", "environment", "key"],
)
def test_nothing_hides_in_an_argument_of_a_network(argument: object) -> None:
    with pytest.raises(
        DeepSADError, match=r"the network of the detector (has _target_ builtins\.print|holds the inter)"
    ):
        require_networks({"_target_": "torch.nn.Flatten", "start_dim": argument})
