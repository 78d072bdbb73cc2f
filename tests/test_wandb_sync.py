"""Offline runs are uploaded in parallel; a stand-in for ``wandb`` keeps a diary of its calls."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.tracking.wandb_sync import OfflineRun, main, offline_runs, sync

# Calls that are to meet wait for one another, so that no time decides.
FAKE = """
import json, os, pathlib, sys, time
diary = pathlib.Path(sys.argv[1])
plan = json.loads((diary / "plan.json").read_text())
arguments = sys.argv[3:]
if "--help" in arguments:
    print(plan["help"])
    sys.exit(0)
folder = pathlib.Path(arguments[-1])
run_id = folder.name.rsplit("-", 1)[1]
def write(event):
    with (diary / "calls.jsonl").open("a") as file:
        row = {"event": event, "folder": folder.name, "id": run_id, "flags": arguments[:-1], "cwd": os.getcwd()}
        file.write(json.dumps(row) + chr(10))
write("begin")
meet = diary / "meet"
(meet / f"{run_id}.{folder.name}").touch()
end = time.monotonic() + 30
while len(list(meet.iterdir())) < plan["meet"]:
    if time.monotonic() > end:
        sys.exit("the others did not come")
    time.sleep(0.01)
time.sleep(0.05)
write("end")
if run_id in plan["fail"]:
    print("wandb: Syncing 1 run(s):")
    print("wandb: ERROR Find detailed error logs at: /logs/debug-cli.log", file=sys.stderr)
    print(plan["fail"][run_id], file=sys.stderr)
    sys.exit(plan["rc"])
(folder / f"run-{run_id}.wandb.synced").touch()
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "meet").mkdir(parents=True)
        (folder / "fake.py").write_text(FAKE)
        self.command = [sys.executable, "-I", str(folder / "fake.py"), str(folder)]
        self.plan()

    def plan(self, *, meet: int = 0, rc: int = 1, help: str = "--yes", **fail: str) -> None:
        plan = {"meet": meet, "fail": fail, "help": help, "rc": rc}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    @property
    def calls(self) -> list[dict[str, str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def begun(self) -> list[str]:
        return [call["folder"] for call in self.calls if call["event"] == "begin"]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "fake")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def offline(root: Path, run_id: str, *, where: str = "digits/deep_sad", time: str = "20260101_000000") -> Path:
    """The folder that an offline run leaves."""
    folder = root / where / f"run_{run_id}" / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").write_bytes(b"x")
    return folder


def test_runs_of_experiments_and_of_reports_are_found(root: Path) -> None:
    ids = [offline(root, "aa").name, offline(root, "bb", where="cardio/ssad_raw").name]
    report = root / "studies" / "classic" / "wandb" / "offline-run-20260101_000000-cc"
    report.mkdir(parents=True)
    (report / "run-cc.wandb").touch()
    found = offline_runs(root)
    assert {folder.name for run in found for folder in run.folders} == {*ids, report.name}
    assert {run.run_id: run.run_dir.name for run in found} == {"aa": "run_aa", "bb": "run_bb", "cc": "classic"}


def test_parts_of_one_run_are_one_run_in_the_order_of_time(root: Path) -> None:
    later = offline(root, "aa", time="20260102_000000")
    earlier = later.with_name("offline-run-20260101_235959-aa")
    earlier.mkdir()
    (earlier / "run-aa.wandb").touch()
    assert [run.folders for run in offline_runs(root)] == [(earlier, later)]


def test_what_is_uploaded_online_or_empty_is_left_alone(root: Path) -> None:
    (offline(root, "aa") / "run-aa.wandb.synced").touch()
    (offline(root, "bb") / "run-bb.wandb").unlink()
    online = offline(root, "cc")
    online.rename(online.with_name("run-20260101_000000-cc"))
    assert offline_runs(root) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"nowhere is no folder; give the output_dir"):
        offline_runs(tmp_path / "nowhere")


def test_different_runs_are_uploaded_side_by_side(root: Path, fake: Fake) -> None:
    for run_id in ("aa", "bb", "cc"):
        offline(root, run_id)
    fake.plan(meet=3)  # nobody ends before all three have begun
    results = sync(offline_runs(root), fake.command, jobs=3)
    assert [result.error for result in results] == [None] * 3
    assert offline_runs(root) == []


def most_at_once(calls: list[dict[str, str]]) -> int:
    now = most = 0
    for call in calls:
        now += 1 if call["event"] == "begin" else -1
        most = max(most, now)
    return most


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_than_jobs_at_a_time(root: Path, fake: Fake, jobs: int) -> None:
    for i in range(5):
        offline(root, f"a{i}")
    fake.plan(meet=jobs)
    sync(offline_runs(root), fake.command, jobs=jobs)
    assert most_at_once(fake.calls) == jobs


def resumed(root: Path, parts: int = 3) -> list[Path]:
    folders = [offline(root, "aa", time="20260101_000000")]
    for i in range(1, parts):
        folders.append(folders[0].with_name(f"offline-run-2026010{i + 1}_000000-aa"))
        folders[-1].mkdir()
        (folders[-1] / "run-aa.wandb").touch()
    return folders


def test_parts_of_one_run_are_uploaded_one_after_the_other(root: Path, fake: Fake) -> None:
    folders = resumed(root)
    sync(offline_runs(root), fake.command, jobs=8)
    assert fake.begun == [folder.name for folder in folders]
    assert most_at_once(fake.calls) == 1


@pytest.mark.parametrize(("help", "flag"), [("--yes", []), ("--append  Append to run", ["--append"])])
def test_later_parts_get_the_flag_of_an_older_wandb(root: Path, fake: Fake, help: str, flag: list[str]) -> None:
    resumed(root, 2)
    offline(root, "bb")
    fake.plan(help=help)
    sync(offline_runs(root), fake.command, jobs=1)
    flags = {call["folder"]: call["flags"] for call in fake.calls}
    assert flags == {
        "offline-run-20260101_000000-aa": [],
        "offline-run-20260102_000000-aa": flag,
        "offline-run-20260101_000000-bb": [],
    }


def test_a_later_part_continues_one_that_was_uploaded_before(root: Path, fake: Fake) -> None:
    first, second = resumed(root, 2)
    (first / "run-aa.wandb.synced").touch()
    fake.plan(help="--append")
    sync(offline_runs(root), fake.command)
    assert [(call["folder"], call["flags"]) for call in fake.calls] == [(second.name, ["--append"])] * 2


def test_after_a_failed_part_no_later_one_is_uploaded(root: Path, fake: Fake) -> None:
    folders = resumed(root)
    fake.plan(aa="Error: the disk is full")
    (result,) = sync(offline_runs(root), fake.command)
    assert result.error == "Error: the disk is full"
    assert fake.begun == [folders[0].name]


@pytest.mark.parametrize("rc", [0, 1])
def test_a_failure_is_told_whatever_the_exit_code_and_stops_nobody_else(
    root: Path, fake: Fake, rc: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("aa", "bb", "cc"):
        offline(root, run_id)
    fake.plan(rc=rc, bb="wandb: ERROR the server is on fire\nmore about it")
    assert main([str(root), "--jobs", "1"], fake.command) == 1
    assert len(fake.begun) == 3
    told = capsys.readouterr().out
    assert "2 of 3 W&B runs are uploaded" in told
    assert f"failed: {root / 'digits/deep_sad/run_bb'}: ERROR the server is on fire\n" in told
    assert "more about it" not in told

    fake.plan()
    assert main([str(root)], fake.command) == 0
    assert fake.begun[3:] == ["offline-run-20260101_000000-bb"]
    assert "1 of 1 W&B runs are uploaded" in capsys.readouterr().out


def test_without_a_key_it_stops_at_once_and_names_the_way_out(
    root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(9):
        offline(root, f"a{i}")
    fake.plan(**{f"a{i}": "Error: No API key configured. Use `wandb login` to log in." for i in range(9)})
    assert main([str(root), "--jobs", "1"], fake.command) == 1
    assert "No API key configured" in (told := capsys.readouterr().out)
    assert "run `wandb login`, then make wandb-sync again" in told
    assert len(fake.begun) < 9


def test_a_run_whose_experiment_is_running_is_left_for_later(
    root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = offline(root, "aa").parent.parent
    offline(root, "bb")
    with FileLock(run_dir / ".lock"):
        assert main([str(root)], fake.command) == 0
    assert fake.begun == ["offline-run-20260101_000000-bb"]
    assert f"left for later, its experiment is running: {run_dir}" in capsys.readouterr().out
    assert main([str(root)], fake.command) == 0
    assert offline_runs(root) == []


def test_logs_of_wandb_go_into_the_run_folder(root: Path, fake: Fake) -> None:
    folder = offline(root, "aa")
    sync(offline_runs(root), fake.command)
    assert {call["cwd"] for call in fake.calls} == {str(folder.parent.parent)}


def test_nothing_to_upload_is_no_failure(root: Path, fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root)], fake.command) == 0
    assert "nothing to upload" in capsys.readouterr().out
    assert fake.calls == []


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_a_number_of_jobs_that_is_none_is_told(
    root: Path, fake: Fake, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offline(root, "aa")
    assert main([str(root), "--jobs", jobs], fake.command) == 1
    assert f"jobs is {jobs}; give a number of at least 1" in capsys.readouterr().out


def test_wandb_itself_refuses_without_a_key(
    root: Path, no_account: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    run_dir = root / "digits" / "deep_sad" / "run_aa"
    run_dir.mkdir(parents=True)
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    wandb.init(project="p", dir=run_dir, id="aa", mode="offline", reinit="create_new", settings=settings).finish()
    assert [type(run) for run in offline_runs(root)] == [OfflineRun]
    assert main([str(root)]) == 1
    assert "run `wandb login`" in capsys.readouterr().out
    assert len(offline_runs(root)) == 1


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of whoever runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def test_the_module_is_a_command(root: Path) -> None:
    call = [sys.executable, "-m", "deepsad_pl.tracking.wandb_sync", str(root)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"nothing to upload below {root}" in done.stdout
