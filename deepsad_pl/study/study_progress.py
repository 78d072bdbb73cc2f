"""A progress bar over the experiments of a study; it watches their run folders, so it works with any launcher."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepsad_pl.stacked.stack_notes import forget_stacks, stacks_folder, stacks_in_training
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.state import is_blank, is_finished
from deepsad_pl.sweep.failures import STOPPED, Failures


class StudyProgress:
    """Shows the number of finished experiments, the remaining time, and each failure as it happens.

    Args:
        jobs: jobs that are to be finished.
        failures: notes of the jobs about failures.
        every_s: seconds between two checks of the run folders.
        on_finished: called with the jobs that were finished since the last check, if any.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        failures: Failures,
        every_s: float = 2.0,
        on_finished: Callable[[Sequence[Job]], None] = lambda _: None,
    ) -> None:
        self._open, self._on_finished = list(jobs), on_finished
        self._failures, self._every_s = failures, every_s
        self._stacks = stacks_folder(failures.folder)
        self._by_note = {failures.name_of(job.overrides): job for job in jobs}
        # Notes of earlier attempts are not reported again.
        self._seen = failures.versions()
        self._failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="study-progress", daemon=True)
        # The shared console may be silenced by jobs in this process.
        self._progress = Progress(
            TextColumn("experiments"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[stacks]}"),
            console=Console(highlight=False, force_jupyter=False),
            # With hundreds of short experiments, the rate over minutes is more reliable than over seconds.
            speed_estimate_period=600,
        )
        self._task = self._progress.add_task("", total=len(jobs), failed="", stacks="")

    def __enter__(self) -> "StudyProgress":
        """Show the bar."""
        forget_stacks(self._stacks)
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Update the bar a last time and leave it on the screen."""
        self._stop.set()
        self._thread.join()
        self._look()
        self._progress.stop()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        finished = [job for job in self._open if is_finished(job)]
        still = [job for job in self._open if job not in finished and not is_blank(job, self._failures)]
        done, self._open = len(self._open) - len(still), still
        if finished:
            self._on_finished(finished)
        for name, version in self._failures.versions().items():
            job = self._by_note.get(name)
            error = None if job is None or self._seen.get(name) == version else self._failures.error(job.overrides)
            self._seen[name] = version
            if job is None or error in (None, STOPPED) or is_blank(job, self._failures):
                continue
            line = f"failed: {' '.join(job.overrides)}: {error}"
            self._progress.console.print(line, style="red", markup=False, soft_wrap=True)
            self._failed += 1
        failed = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=done, failed=failed, stacks=stacks_in_training(self._stacks))
