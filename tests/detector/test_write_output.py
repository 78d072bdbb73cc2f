"""An output file is complete or as it was before, whenever the writing process is killed."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from processes import ROOT

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector import append_rows
from deepsad_pl.detector.append_rows import note_of
from deepsad_pl.detector.write_output import Output

# Writes three chunks; kills itself before the n-th, or while it appends, or just after that.
WRITER = """
import os, shutil, signal, stat, sys
from pathlib import Path
from deepsad_pl.detector import append_rows
from deepsad_pl.detector.write_output import Output

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(source, target):
    content = source.read()
    target.write(content[: len(content) // 2])
    target.flush()
    die()

path, when, append = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
if when == "appending":
    shutil.copyfileobj = half
if when == "appended":
    def is_output(file):
        found = os.fstat(file)
        return stat.S_ISREG(found.st_mode) and found.st_size > 1000

    os.fsync, sync = (lambda file: die() if is_output(file) else sync(file)), os.fsync
with Output(path, "id", append=append) as output:
    for chunk in range(3):
        if when == str(chunk):
            die()
        output.write([f"chunk{chunk}-{row}" for row in range(200)], [0.5] * 200, [0.1] * 200, [0] * 200)
"""
FIRST = "id,score,p_value,anomaly\nold,1,1,0\n"


def killed(path: Path, when: str, *, append: bool) -> None:
    words = [sys.executable, "-c", WRITER, str(path), when, str(append)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL


def written(path: Path, *, append: bool) -> Output:
    with Output(path, "id", append=append) as output:
        output.write(["new"], np.array([2.0]), np.array([1.0]), [0])
    return output


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_killed_process_leaves_the_previous_output_or_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    killed(path, "2", append=False)
    assert not path.exists()
    written(path, append=False)
    before = path.read_bytes()
    killed(path, "2", append=False)
    assert path.read_bytes() == before
    # Any other file is a hidden one, named as the page says.
    assert all(other.name.startswith(f".{name}.") for other in tmp_path.iterdir() if other != path)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("when", ["0", "2", "appending", "appended"])
def test_a_killed_append_is_undone_by_the_next_one(when: str, ends: bool, tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(FIRST if ends else FIRST.rstrip())
    before = path.read_text()
    killed(path, when, append=True)
    meanwhile = path.read_text()
    assert (meanwhile == before) == (when in "02")
    assert {*tmp_path.iterdir()} == {path} | ({note_of(path)} if when not in "02" else set())
    output = written(path, append=True)
    assert output.undone == (None if when in "02" else len(meanwhile) - len(before))
    assert path.read_text() == f"{FIRST}new,2,1,0\n"
    assert {*tmp_path.iterdir()} == {path}


def test_rows_appended_to_another_file_of_that_name_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(FIRST)
    killed(path, "appending", append=True)
    noted = note_of(path).read_text()
    others = [FIRST.replace("old", "own"), FIRST + "more,1,1,0\n" * 9999, FIRST[:-9] + "\n"]
    for other in others:
        path.write_text(other)
        note_of(path).write_text(noted)
        assert written(path, append=True).undone is None
        assert path.read_text() == f"{other}new,2,1,0\n"
        assert not note_of(path).exists()


@pytest.mark.parametrize("ends", [True, False])
def test_a_full_disk_leaves_the_file_unchanged(ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(FIRST if ends else FIRST.rstrip())
    before = path.read_bytes()

    def full(source: object, target: object) -> None:
        target.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(append_rows.shutil, "copyfileobj", full)
    with pytest.raises(
        DeepSADError, match=r"daily.csv cannot be appended to \(No space left on device\), and is as it"
    ):
        written(path, append=True)
    assert path.read_bytes() == before
    assert {*tmp_path.iterdir()} == {path}
    monkeypatch.undo()
    assert shutil.copyfileobj is append_rows.shutil.copyfileobj
    written(path, append=True)
    assert path.read_text() == f"{FIRST}new,2,1,0\n"


# Writes until a file may not grow further, which the system reports as it reports a full disk.
FULL = """
import resource, sys
from pathlib import Path
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector.write_output import Output

path, append, rows, chunks = Path(sys.argv[1]), sys.argv[2] == "True", int(sys.argv[3]), int(sys.argv[4])
try:
    with Output(path, "id", append=append) as output:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for _ in range(chunks):
            output.write([f"name-{row}" for row in range(rows)], [0.5] * rows, [0.1] * rows, [0] * rows)
except DeepSADError as error:
    print(error)
"""


@pytest.mark.parametrize("chunks", [1, 9])
@pytest.mark.parametrize(
    ("name", "append"), [("out.csv", False), ("out.jsonl", False), ("out.parquet", False), ("out.csv", True)]
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_is_reported_in_one_sentence_and_leaves_the_previous_output(
    name: str, append: bool, exists: bool, chunks: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    if exists:
        written(path, append=False)
    before = {one: one.read_bytes() for one in tmp_path.iterdir()}
    # A single small chunk is in the buffer until the file is complete.
    rows = 300 if chunks == 1 else 5000
    words = [sys.executable, "-c", FULL, str(path), str(append), str(rows), str(chunks)]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    verb = "appended to" if append and exists else "written"
    left = ", and is as it was" if exists else ""
    assert done.stdout == (
        f"output: {path} cannot be {verb} (File too large){left}; make room, or choose another file\n"
    ), done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_appending_from_two_processes_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(FIRST)
    words = [sys.executable, "-c", WRITER, str(path), "never", "True"]
    both = [subprocess.Popen(words, cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    lines = path.read_text().splitlines()
    assert len(lines) == 2 + 2 * 600
    rows = [f"chunk{chunk}-{row},0.5,0.1,0" for chunk in range(3) for row in range(200)]
    assert lines[2:602] == lines[602:] == rows


def test_csv_equals_that_of_pandas(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    score = np.exp(draw.normal(size=500) * 20).astype(np.float32).astype(float)
    score[::7] = np.nan
    p_value = draw.integers(1, 900, 500) / 900
    p_value[::7] = np.nan
    anomaly = np.where(np.isnan(score), pd.NA, (p_value <= 0.05).astype(int))
    odd = ["a,b", 'say "x"', "two\nlines", "", " spaced ", "größe", "007", "NA", "-1", "a\tb"]
    for ids in ([*range(500)], [f"P{i}" for i in range(500)], odd * 50):
        for p_values in (p_value, np.full(500, np.nan)):
            path = tmp_path / "out.csv"
            with Output(path, "id") as output:
                output.write(ids, score, p_values, anomaly)
            frame = pd.DataFrame({"id": ids, "score": score, "p_value": p_values, "anomaly": anomaly})
            frame["anomaly"] = frame["anomaly"].astype("Int8")
            expected = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
            assert path.read_bytes().decode() == expected


def test_names_are_read_back_unchanged(tmp_path: Path) -> None:
    names = ["a,b", 'say "x"', "two\nlines", "car\rriage", "car\r\nriage", "", " spaced "]
    path = tmp_path / "out.csv"
    with Output(path, "path") as output:
        output.write(names, [1.0] * 7, [1.0] * 7, [0] * 7)
    with path.open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["path", *names]
