"""A report as a W&B run, read back from the offline run file and the files beside it."""

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb_file
from PIL import Image
from wandb.proto import wandb_internal_pb2 as pb

from deepsad_pl.tracking.wandb_report import log_report, report_key
from deepsad_pl.tracking.wandb_run import Destination
from deepsad_pl.tracking.wandb_sync import offline_folders

TABLE = pd.DataFrame(
    {
        "dataset": ["cardio", "cardio", float("nan")],
        "gamma_l": ["all", 0.05, 1],
        "experiments": [10, 9, 10],
        "auroc": [0.9, float("nan"), 0.5],
    }
)
TESTS = pd.DataFrame({"best": ["deep_sad"], "p": [0.01]})


@pytest.fixture(autouse=True, scope="module")
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the W&B key and settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("CONFIG", "DATA", "CACHE"):
            patch.setenv(f"WANDB_{name}_DIR", str(tmp_path_factory.mktemp(name)))
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("netrc") / "none"))
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("runs") / "studies" / "classic"
    folder.mkdir(parents=True)
    for name in ("table.md", "table.csv", "table.tex", "tests.csv", "figure.svg"):
        (folder / name).write_text(f"{name} as it was")
    for name in ("figure", "scatter"):
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
    return folder


def logged(report: Path, **changed: Any) -> bool:
    destination = Destination(
        mode=changed.pop("mode", "offline"), project="mine", entity=None, group="classic", tags=("a", "b")
    )
    settings: dict[str, Any] = {
        "tables": {"table": TABLE, "tests": TESTS},
        "files": sorted(path for path in report.iterdir() if path.is_file()),
        "config": {"study.name": "classic", "study.seeds": [0, 1]},
    }
    return log_report(report, destination, **{**settings, **changed})


@pytest.fixture(scope="module")
def run_dir(report: Path) -> Path:
    """The folder of the offline run."""
    assert logged(report)
    (path,) = wandb_file.run_files(report)
    return path.parent


@pytest.fixture(scope="module")
def run(run_dir: Path) -> wandb_file.OfflineRun:
    (path,) = run_dir.glob("*.wandb")
    return wandb_file.read(path)


def records(path: Path) -> Iterator[pb.Record]:
    for payload in wandb_file.payloads(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(payload)
        yield record


def entry(run: wandb_file.OfflineRun, name: str) -> dict[str, Any]:
    prefix = f"{report_key(name)}."
    return {key.removeprefix(prefix): value for key, value in run.summary.items() if key.startswith(prefix)}


def test_the_report_is_one_closed_run_of_job_type_report_in_the_group(run: wandb_file.OfflineRun) -> None:
    assert (run.project, run.group, run.job_type, run.tags) == ("mine", "classic", "report", ["a", "b"])
    assert (len(run.ids), run.exit_codes, len(run.history)) == (1, [0], 1)


def test_config_has_flat_keys(run: wandb_file.OfflineRun) -> None:
    assert {"study.name": "classic", "study.seeds": [0, 1]}.items() <= run.config.items()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "table",
            {
                "columns": ["dataset", "gamma_l", "experiments", "auroc"],
                "data": [["cardio", "all", 10, 0.9], ["cardio", 0.05, 9, None], [None, 1, 10, 0.5]],
            },
        ),
        ("tests", {"columns": ["best", "p"], "data": [["deep_sad", 0.01]]}),
    ],
)
def test_each_frame_is_a_table(run: wandb_file.OfflineRun, run_dir: Path, name: str, expected: dict[str, Any]) -> None:
    found = entry(run, name)
    assert found["_type"] == "table-file"
    assert json.loads((run_dir / "files" / found["path"]).read_text()) == expected


@pytest.mark.parametrize("name", ["figure", "scatter"])
def test_each_picture_is_an_image(run: wandb_file.OfflineRun, run_dir: Path, name: str) -> None:
    found = entry(run, name)
    assert (found["_type"], found["width"], found["height"]) == ("image-file", 8, 6)
    assert (run_dir / "files" / found["path"]).is_file()


def test_the_other_files_are_uploaded_unchanged(report: Path, run_dir: Path, run: wandb_file.OfflineRun) -> None:
    assert run.exit_codes == [0]  # the file is complete
    # A later report overwrites them before the run is uploaded.
    (report / "table.md").write_text("another")
    (path,) = run_dir.glob("*.wandb")
    uploaded = {item.path for record in records(path) for item in record.files.files}
    for name in ("table.md", "table.csv", "table.tex", "tests.csv", "figure.svg"):
        assert name in uploaded
        kept = run_dir / "files" / name
        assert not kept.is_symlink()
        assert kept.read_text() == f"{name} as it was"


def test_wandb_sync_finds_the_report(report: Path, run_dir: Path) -> None:
    assert offline_folders(report.parents[1]) == {report: [run_dir]}


def test_the_next_report_is_a_separate_run(report: Path, run: wandb_file.OfflineRun, tmp_path: Path) -> None:
    for _ in range(2):
        assert logged(tmp_path, tables={}, files=[report / "figure.png"])
    ids = [wandb_file.read(path).ids for path in wandb_file.run_files(tmp_path)]
    assert len({*ids[0], *ids[1], *run.ids}) == 3


def test_a_failure_loses_the_run_but_not_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deepsad_pl"):
        assert not logged(tmp_path, tables={}, files=[tmp_path / "nowhere.csv"])
    (told,) = [record.getMessage() for record in caplog.records if record.name == "deepsad_pl.tracking.wandb_report"]
    assert "W&B has no run of this report (FileNotFoundError" in told
    assert str(tmp_path) in told
    (path,) = wandb_file.run_files(tmp_path)
    assert wandb_file.read(path).exit_codes == [1]


def test_online_without_an_account_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deepsad_pl"):
        assert not logged(tmp_path, mode="online", tables={}, files=[])
    # Up to version 0.19: api_key not configured (no-tty).
    assert re.search("no api.key configured|api.key not configured", caplog.text, re.IGNORECASE)


def test_an_interrupt_does_not_count_as_a_failure_of_wandb(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "Image", stop)
    with pytest.raises(KeyboardInterrupt):
        logged(tmp_path, tables={}, files=[report / "figure.png"])
    (path,) = wandb_file.run_files(tmp_path)
    assert [code != 0 for code in wandb_file.read(path).exit_codes] == [True]
