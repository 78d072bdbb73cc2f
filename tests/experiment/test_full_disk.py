"""A disk that is full, or a folder that is removed, ends a run with a sentence; afterwards it goes on."""

import errno
import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import ROOT
from pytorch_lightning import Trainer

from deepsad_pl.common import files
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.experiment.run_log import RunLog

Experiment = Callable[..., Outcome]
SHORT = ("dataset=toy", "pretrain.epochs=[1,0]", "method.epochs=[1,0]")


@pytest.fixture
def full() -> Iterator[pytest.MonkeyPatch]:
    """Every atomic write fails, until the patch is undone."""

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        yield patch


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    experiment: Experiment, full: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeepSADError) as caught:
        experiment(*SHORT)
    (told,) = caught.value.problems
    assert told.endswith(
        "config.yaml cannot be written, since its disk is full; make room; the same command goes on from there"
    )
    full.undo()
    assert experiment(*SHORT).record["auroc"] > 0.5


def test_a_run_folder_that_is_removed_is_told(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Trainer.save_checkpoint

    def remove_first(self: Trainer, path: Path) -> None:
        shutil.rmtree(tmp_path / "runs" / "toy")
        kept(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", remove_first)
        try:
            done = experiment(*SHORT)
        except DeepSADError as error:
            assert "does not exist, or no longer; put it in place" in str(error)
        else:
            assert (done.run_dir / "metrics.json").exists()
    again = experiment(*SHORT, "force=true")
    assert (again.run_dir / "metrics.json").exists()


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.slow
def test_a_limit_of_the_file_size_is_one_sentence_and_an_exit_code(tmp_path: Path) -> None:
    words = [
        sys.executable,
        str(ROOT / "train.py"),
        *SHORT,
        "logger=csv",
        f"output_dir={tmp_path}",
        "trainer.threads=1",
    ]
    done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True, preexec_fn=limited)
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in told
    assert told.count("cannot be written, since it is larger than files may be here; raise the limit (ulimit -f)") == 1
    assert not [*tmp_path.rglob("metrics.json")]


def test_a_log_that_cannot_be_written_ends_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            self.write("")

        close = flush

    handler = RunLog(tmp_path / "train.log")
    handler.stream.close()
    handler.stream = Full()  # type: ignore[assignment]
    record = logging.LogRecord("a", logging.INFO, "f", 1, "told", None, None)
    for _ in range(3):
        handler.emit(record)
    handler.close()
    told = [one.message for one in caplog.records]
    assert told == [f"the log {tmp_path / 'train.log'} ends here, since it cannot be written (No space left on device)"]
    assert capsys.readouterr().err == ""
