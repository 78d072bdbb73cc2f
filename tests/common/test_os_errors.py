"""Errors of the operating system are sentences that name the file; other errors stay what they are."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deepsad_pl.common.components import instantiate
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.os_errors import as_sentence, in_sentences, naming


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "its disk is full; make room; the same command goes on"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, r"larger than files may be here; raise the limit \(ulimit -f\)"),
        (errno.EROFS, "its disk is read-only"),
        (errno.EMFILE, "too many open files; raise ulimit -n"),
        (errno.EIO, "its disk reports an error"),
        (errno.EACCES, r"cannot be read or written \(Permission denied\)"),
    ],
    ids=errno.errorcode.get,
)
def test_a_sentence_says_what_is_wrong_and_names_the_file(number: int, told: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(DeepSADError, match=told) as caught, in_sentences(), naming(path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("allocate", "amount"),
    [
        (lambda: np.empty(1 << 60, dtype=np.uint8), " (1.00 EiB at once)"),
        (lambda: torch.empty(1 << 60, dtype=torch.uint8), f" ({1 << 60} bytes at once)"),
        (lambda: instantiate({"_target_": "torch.empty", "size": [1 << 58]}, key="a"), f" ({1 << 60} bytes at once)"),
        (lambda: bytearray(1 << 60), ""),
    ],
    ids=["NumPy", "torch", "a component", "Python"],
)
def test_too_little_memory_is_a_sentence(allocate: Callable[[], object], amount: str) -> None:
    told = rf"^there is not enough memory{re.escape(amount)}; free some, .* or lower method\.batch_size"
    with pytest.raises(DeepSADError, match=told), in_sentences():
        allocate()


def test_too_little_memory_is_not_told_as_damage() -> None:
    with pytest.raises(DeepSADError, match=r"^there is not enough memory; free some"), in_sentences():
        try:
            raise MemoryError
        except MemoryError as error:
            raise DeepSADError("the data are damaged; remove them") from error


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError) as caught, in_sentences():
        write_atomic(tmp_path / "gone" / "run" / "metrics.json", "{}")
    assert str(caught.value).startswith(f"{tmp_path / 'gone'} does not exist, or no longer; put it in place")


def test_an_error_that_follows_from_a_full_disk_is_told_as_that() -> None:
    with pytest.raises(DeepSADError, match=r"a\.bin cannot be written, since its disk is full"), in_sentences():
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "a.bin")
        except OSError:
            raise RuntimeError("unexpected position")  # noqa: B904 (as torch raises it)


@pytest.mark.parametrize("cause", [FileNotFoundError(errno.ENOENT, "No such file", "a"), OSError("no number"), None])
def test_other_errors_stay_what_they_are(cause: Exception | None) -> None:
    with pytest.raises(KeyError) as caught, in_sentences():
        raise KeyError("a bug") from cause
    assert as_sentence(caught.value) is None
    with pytest.raises(BrokenPipeError), in_sentences():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_sentence_is_not_replaced_by_its_cause() -> None:
    told = DeepSADError("cache cannot be written; choose another data_dir")
    told.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DeepSADError, match="choose another data_dir"), in_sentences():
        raise told


def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(path, "after")
    assert caught.value.filename == str(path)
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_text() == "before"


def test_an_error_that_is_its_own_cause_is_passed_on() -> None:
    error = RuntimeError("shape mismatch")
    error.__cause__ = error
    assert as_sentence(error) is None
