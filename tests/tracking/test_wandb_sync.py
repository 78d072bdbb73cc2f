"""Offline runs are uploaded by W&B's own command, replaced here by a stand-in that records its calls."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.tracking import wandb_sync
from deepsad_pl.tracking.wandb_sync import main, offline_folders

FAKE = """
import json, os, pathlib, sys
diary = pathlib.Path(sys.argv[1])
command, flag, jobs, *folders = sys.argv[2:]
with (diary / "calls.jsonl").open("a") as file:
    names = [pathlib.Path(folder).name for folder in folders]
    file.write(json.dumps({"command": [command, flag, jobs], "folders": names, "cwd": os.getcwd()}) + chr(10))
for folder in map(pathlib.Path, folders):
    if folder.name.rsplit("-", 1)[1] not in json.loads((diary / "fail.json").read_text()):
        next(folder.glob("*.wandb")).with_suffix(".wandb.synced").touch()
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "fake.py").write_text(FAKE)
        self.folder, self.command = folder, [sys.executable, "-I", str(folder / "fake.py"), str(folder)]
        self.fail()

    def fail(self, *run_ids: str) -> None:
        (self.folder / "fail.json").write_text(json.dumps(run_ids))

    @property
    def calls(self) -> list[dict[str, list[str]]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "fake")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def offline(root: Path, run_id: str, *, where: str = "digits/deep_sad", time: str = "20260101_000000") -> Path:
    """Write the folder that an offline run leaves."""
    folder = root / where / f"run_{run_id}" / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").write_bytes(b"x")
    return folder


def test_runs_of_experiments_and_of_reports_are_found(root: Path) -> None:
    run = offline(root, "aa")
    report = offline(root, "bb", where="studies/classic")
    again = offline(root, "aa", time="20260102_000000")
    assert offline_folders(root) == {run.parent.parent: [run, again], report.parent.parent: [report]}


def test_uploaded_online_and_empty_runs_are_skipped(root: Path) -> None:
    done = offline(root, "aa")
    (done / "run-aa.wandb.synced").touch()
    online = offline(root, "bb")
    online.rename(online.with_name("run-20260101_000000-bb"))
    (offline(root, "cc") / "run-cc.wandb").unlink()
    assert offline_folders(root) == {}


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="is not a folder; name the output_dir"):
        offline_folders(tmp_path / "nowhere")


def test_all_runs_are_uploaded_by_one_command(root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    for run_id in ("aa", "bb"):
        offline(root, run_id)
    offline(root, "aa", time="20260102_000000")
    assert main([str(root), "--jobs", "3"], fake.command) == 0
    names = ["offline-run-20260101_000000-aa", "offline-run-20260102_000000-aa", "offline-run-20260101_000000-bb"]
    assert fake.calls == [{"command": ["sync", "-n", "3"], "folders": names, "cwd": str(root)}]
    assert "3 of 3 W&B runs are uploaded" in capsys.readouterr().out
    assert offline_folders(root) == {}


def test_many_runs_are_uploaded_in_batches(root: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_sync, "_AT_ONCE", 2)
    for i in range(5):
        offline(root, f"a{i}")
    assert main([str(root)], fake.command) == 0
    assert [len(call["folders"]) for call in fake.calls] == [2, 2, 1]


def test_a_failed_run_is_named_and_uploaded_by_the_next_call(
    root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("aa", "bb", "cc"):
        offline(root, run_id)
    fake.fail("bb")
    assert main([str(root)], fake.command) == 1
    told = capsys.readouterr().out
    assert "2 of 3 W&B runs are uploaded" in told
    assert f"failed: {root / 'digits/deep_sad/run_bb'}" in told

    fake.fail()
    assert main([str(root)], fake.command) == 0
    assert fake.calls[1]["folders"] == ["offline-run-20260101_000000-bb"]
    assert "1 of 1 W&B runs is uploaded" in capsys.readouterr().out


def test_after_a_batch_without_success_no_further_one_is_tried(
    root: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_sync, "_AT_ONCE", 2)
    for i in range(5):
        offline(root, f"a{i}")
    fake.fail(*(f"a{i}" for i in range(5)))
    assert main([str(root)], fake.command) == 1
    assert len(fake.calls) == 1


def test_a_run_whose_experiment_is_running_is_left_for_later(
    root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = offline(root, "aa").parent.parent
    offline(root, "bb")
    with FileLock(run_dir / ".lock"):
        assert main([str(root)], fake.command) == 0
    assert fake.calls[0]["folders"] == ["offline-run-20260101_000000-bb"]
    assert f"left for later, since its experiment is running: {run_dir}" in capsys.readouterr().out
    assert main([str(root)], fake.command) == 0
    assert offline_folders(root) == {}


def test_having_nothing_to_upload_is_not_a_failure(root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root)], fake.command) == 0
    assert "nothing to upload" in capsys.readouterr().out
    assert fake.calls == []


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_an_impossible_number_of_jobs_is_refused(
    root: Path, fake: Fake, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offline(root, "aa")
    assert main([str(root), "--jobs", jobs], fake.command) == 1
    assert f"jobs is {jobs}; it must be a number >= 1" in capsys.readouterr().out


def test_wandb_itself_refuses_without_a_key(
    root: Path, no_account: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    for run_id in ("aa", "bb"):
        run_dir = root / "digits" / "deep_sad" / f"run_{run_id}"
        run_dir.mkdir(parents=True)
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
        wandb.init(project="p", dir=run_dir, id=run_id, mode="offline", reinit="create_new", settings=settings).finish()
    assert main([str(root)]) == 1
    told = capfd.readouterr()
    assert "Syncing 2 run(s)" in told.err
    assert "No API key configured" in told.err
    assert "0 of 2 W&B runs are uploaded" in told.out
    assert len(offline_folders(root)) == 2


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the account of whoever runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def test_the_module_works_as_a_command(root: Path) -> None:
    call = [sys.executable, "-m", "deepsad_pl.tracking.wandb_sync", str(root)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"nothing to upload below {root}" in done.stdout
