"""Show the progress of stacks that other processes train, by way of progress files."""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deepsad_pl.common.console import console, progress_columns
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.lightning_api import Callback, LightningModule, Trainer
from deepsad_pl.stacked.stack_notes import stacks_in_training


class StackWatch(Callback):
    """Writes the progress of this process's stack to a file at the end of an epoch, at most once per second.

    Args:
        folder: folder of the progress files, one per process.
        phase: name of the training.
        replicas: number of replicas in the stack.
    """

    _EVERY_S = 1.0

    def __init__(self, folder: Path, phase: str, replicas: int) -> None:
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}.txt"
        self._phase, self._replicas = phase, replicas
        self._written = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch."""
        if time.monotonic() - self._written < self._EVERY_S:
            return
        self._written = time.monotonic()
        told = f"{self._phase} {trainer.current_epoch + 1}/{trainer.max_epochs} of {self._replicas}"
        # A full disk must not stop the training.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, told)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the progress file."""
        self._path.unlink(missing_ok=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the progress file."""
        self._path.unlink(missing_ok=True)


class StackProgress:
    """A progress bar over the experiments of a sweep whose stacks other processes train.

    Args:
        total: number of experiments.
        folder: folder of the progress files.
        every_s: seconds between two checks of the folder.
    """

    def __init__(self, total: int, folder: Path, every_s: float = 1.0) -> None:
        self._folder, self._every_s = folder, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stack-progress", daemon=True)
        columns = progress_columns(
            console,
            TextColumn("experiments"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stacks]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=total, stacks="")

    def __enter__(self) -> "StackProgress":
        """Show the bar."""
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar and leave it on the screen."""
        self._stop.set()
        self._thread.join()
        self._progress.update(self._task, stacks="")
        self._progress.stop()

    def advance(self) -> None:
        """Count an experiment that has ended."""
        self._progress.advance(self._task)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._progress.update(self._task, stacks=stacks_in_training(self._folder))
