"""The short form of make torture: a few trials of each kind, and that a trial can go wrong."""

import io
import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from torture.driver import Tally, Workshop, torture
from torture.flips import DAMAGE, damage
from torture.hostile_files import as_array, as_checkpoint, plain
from torture.kinds import KINDS, Kind
from torture.oracles import require_same_tree
from torture.page import BEGIN, END, table_of, write_page
from torture.trial import Bench, Ended, Outcome, WrongError, require_sentences
from torture.workloads import WORKLOADS, References

# Turns that score new rows or need one short run on a table, so that two undisturbed runs are enough for all of them.
SHORT = (
    ("kills", 6),
    ("kills", 8),
    ("file events", 6),
    ("flips", 1),
    ("full disks", 6),
    ("concurrency", 6),
    ("settings", 1),
    ("odd inputs", 0),
    ("odd inputs", 1),
    ("hostile files", 6),
    ("hostile files", 11),
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("torture")
    yield Workshop(0, folder / "trials", folder / "evidence")


@pytest.mark.parametrize(("kind", "turn"), SHORT, ids=[f"{kind}-{turn}" for kind, turn in SHORT])
def test_a_trial_does_not_go_wrong(workshop: Workshop, kind: str, turn: int) -> None:
    outcome = workshop.try_once(kind, turn)
    assert outcome.verdict in ("right", "refused"), outcome.sentence


def _tree(folder: Path, score: float = 0.5) -> Path:
    (folder / "run" / "detector").mkdir(parents=True)
    (folder / "run" / "metrics.json").write_text(json.dumps({"auroc": score, "seconds": random.random()}))
    (folder / "run" / "scores.csv").write_text(f"index,score\n0,{score}\n")
    np.savez(folder / "run" / "detector" / "model.npz", x=np.array([score]))
    (folder / "run" / "train.log").write_text(str(folder))
    return folder


def test_the_oracle_sees_another_result_a_lost_file_and_one_left_behind(tmp_path: Path) -> None:
    expected = _tree(tmp_path / "expected")
    require_same_tree(expected, _tree(tmp_path / "same"), exact=True)
    require_same_tree(expected, _tree(tmp_path / "near", 0.5001), exact=False)
    with pytest.raises(WrongError, match="differs"):
        require_same_tree(expected, tmp_path / "near", exact=True)
    with pytest.raises(WrongError, match="differs"):
        require_same_tree(expected, _tree(tmp_path / "far", 0.7), exact=False)
    lost, left = _tree(tmp_path / "lost"), _tree(tmp_path / "left")
    (lost / "run" / "scores.csv").unlink()
    (left / "run" / ".metrics.json.abc").touch()
    with pytest.raises(WrongError, match=r"lost: run/scores\.csv"):
        require_same_tree(expected, lost, exact=True)
    with pytest.raises(WrongError, match=r"left behind: run/\.metrics\.json\.abc"):
        require_same_tree(expected, left, exact=True)


@pytest.mark.parametrize(
    ("code", "err"),
    [(0, "Traceback (most recent call last)"), (-11, ""), (1, ""), (1, "line\n" * 100)],
    ids=["traceback", "crash", "silence", "dump"],
)
def test_the_oracle_sees_a_crash(code: int, err: str) -> None:
    with pytest.raises(WrongError):
        require_sentences(Ended("train.py", code, "", err, 0.0))
    require_sentences(Ended("train.py", 1, "", "seed is -1; it must be a number >= 0\n", 0.0))


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_changes_the_file(tmp_path: Path, how: str) -> None:
    content = bytearray(range(1, 201))
    DAMAGE[how](content, random.Random(0))
    assert content != bytes(range(1, 201))
    empty = tmp_path / "empty"
    empty.touch()
    assert damage(empty, random.Random(0))


def test_what_goes_wrong_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(bench: Bench, references: References) -> Outcome:
        del references
        (bench.folder / "seen.txt").write_text(str(bench.rng.random()))
        if bench.turn == 1:
            raise WrongError("scores differ")
        if bench.turn == 2:
            raise ZeroDivisionError
        return Outcome("refused", "no") if bench.turn == 3 else Outcome("right", "yes")

    monkeypatch.setattr("torture.driver.KINDS", {"flips": Kind("flipped", trial)})
    told: list[Outcome] = []

    def tell(kind: str, turn: int, outcome: Outcome, seconds: float) -> None:
        assert (kind, turn) == ("flips", len(told)) and seconds >= 0
        told.append(outcome)
        if len(told) == 5:
            raise KeyboardInterrupt

    workshop = Workshop(7, tmp_path / "trials", tmp_path / "evidence")
    tallies, whole = torture(workshop, minutes=5, jobs=1, kinds=["flips"], tell=tell)
    tally = tallies["flips"]
    assert not whole and (tally.tried, tally.right, tally.refused, tally.wrong) == (5, 2, 1, 2)
    kept = {path.name for path in (tmp_path / "evidence").iterdir()}
    assert kept == {"seed_7-flips-1", "seed_7-flips-2"}
    report = (tmp_path / "evidence" / "seed_7-flips-1" / "report.txt").read_text()
    assert "scores differ" in report
    drawn = (tmp_path / "evidence" / "seed_7-flips-1" / "files" / "seen.txt").read_text()
    assert drawn == str(random.Random("7/flips/1").random())
    assert not any((tmp_path / "trials").glob("flips-*"))
    assert "| **all** | | 5 | 2 | 1 | 2 |" in table_of(tallies)


def test_the_page_keeps_what_is_not_of_the_last_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nformer\n{END}\nafter\n")
    write_page(page, "a sentence", dict.fromkeys(KINDS, Tally(right=1)))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "former" not in text
    assert text.count("| 1 | 1 | 0 | 0 |") == len(KINDS) and "a sentence" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_page(page, "", {})


def test_every_workload_that_is_needed_exists() -> None:
    assert {workload.after for workload in WORKLOADS.values()} - {None} <= {*WORKLOADS}


@pytest.mark.parametrize("made", [plain, as_checkpoint, as_array], ids=["pickle", "checkpoint", "array"])
def test_hostile_content_is_hostile(tmp_path: Path, made: Callable[[str], bytes]) -> None:
    canary = tmp_path / "canary"
    content = io.BytesIO(made(str(canary)))
    assert not canary.exists()
    if made is plain:
        pickle.load(content)
    elif made is as_checkpoint:
        torch.load(content, weights_only=False)
    else:
        np.load(content, allow_pickle=True)
    assert canary.is_dir()
