"""The record of an experiment: identity, atomic writes, exact scores."""

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_records import made_record
from planned import plan_of

from deepsad_pl.common.records import (
    RECORD,
    SCORES,
    identity_hash,
    read_record,
    read_scores,
    write_atomic,
    write_record,
    write_scores,
)

KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from deepsad_pl.common.records import write_atomic

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path(sys.argv[1]), "new")
"""


def test_hash_is_eight_hex_digits_whatever_the_order_of_keys() -> None:
    one = identity_hash({"seed": 0, "method": {"eta": 1.0, "lr": [1e-3, 1e-4]}})
    other = identity_hash({"method": {"lr": [1e-3, 1e-4], "eta": 1.0}, "seed": 0})
    assert one == other
    assert len(one) == 8
    assert int(one, 16) >= 0


@pytest.mark.parametrize("identity", [{"seed": 1}, {"seed": None}, {"seeds": 0}, {"seed": [0]}, {}])
def test_different_values_have_different_hashes(identity: dict[str, object]) -> None:
    assert identity_hash(identity) != identity_hash({"seed": 0})


def test_order_within_a_list_matters_for_the_hash() -> None:
    assert identity_hash({"epochs": [50, 100]}) != identity_hash({"epochs": [100, 50]})


def test_a_written_file_is_complete_and_the_only_one(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "ä\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\r\n\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("function", ["fsync", "umask"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail(_: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            write_atomic(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_while_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / RECORD
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(path)], check=False)
    assert done.returncode == -9
    assert not path.exists()
    assert read_record(tmp_path, "00000000") is None


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_file_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a.txt", "")
        unchanged = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert unchanged == umask


def test_written_scores_read_back_to_the_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    score = bits.view(np.float32)
    score = np.concatenate([score[np.isfinite(score)], np.float32([0.0, 1e-45, 3.4028235e38, 1 / 3])])
    y = np.arange(len(score)) % 2
    write_scores(tmp_path, np.arange(len(score)), y, score)

    header, *rows = (tmp_path / SCORES).read_text().splitlines()
    assert header == "index,y,score,class"
    columns = list(zip(*(row.split(",") for row in rows), strict=True))
    assert [int(i) for i in columns[0]] == list(range(len(score)))
    assert [int(label) for label in columns[1]] == y.tolist()
    assert np.array_equal(np.array(columns[2], dtype=np.float32).view(np.uint32), score.view(np.uint32))


def test_class_names_of_any_text_read_back(tmp_path: Path) -> None:
    names = ["a,b", 'say "so"', "007", "two\nlines", ""]
    write_scores(tmp_path, [4, 2, 0, 1, 3], [0, 1, 0, 1, -1], np.float32([1, 2, 3, 4, 5]), classes=names, ids=range(5))
    with (tmp_path / SCORES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [names[i] for i in (4, 2, 0, 1, 3)]
    assert [row["id"] for row in rows] == list("42013")
    y, score = read_scores(tmp_path)
    assert (y.tolist(), score.tolist()) == ([0, 1, 0, 1, -1], [1, 2, 3, 4, 5])


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_scores(tmp_path, [0, 1], [0], [0.5, 0.5])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_record_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path, {"auroc": value})
    assert not any(tmp_path.iterdir())


def test_a_written_record_reads_back_equal(tmp_path: Path) -> None:
    plan = plan_of()
    record = made_record(plan, auroc=0.1 + 0.2, scenario={"normal_class": ["0"]})
    assert read_record(tmp_path, record["hash"]) is None
    write_record(tmp_path, record)
    assert read_record(tmp_path, record["hash"]) == record
    kept = json.loads((tmp_path / RECORD).read_text())
    assert len(kept.pop("sha256")) == 64 and kept == record
    # A record of an earlier release has no checksum.
    (tmp_path / RECORD).write_text(json.dumps(kept))
    assert read_record(tmp_path, record["hash"]) == record


def test_a_record_that_has_changed_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = made_record(plan_of(), auroc=0.25, scenario={"normal_class": ["0"]})
    write_record(tmp_path, record)
    path = tmp_path / RECORD
    path.write_text(path.read_text().replace('"auroc": 0.25', '"auroc": 0.75'))
    assert read_record(tmp_path, record["hash"]) is None
    assert "its SHA-256 differs" in caplog.text
