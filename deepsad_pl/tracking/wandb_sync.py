"""``make wandb-sync``: upload offline W&B runs, several at a time, with W&B's own ``wandb sync``."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError

COMMAND = (sys.executable, "-m", "wandb")
JOBS = 8
_FOLDERS = "offline-run-*"  # offline-run-<date>_<time>-<id>
_NO_KEY = ("wandb login", "Not authenticated")
# A line with the location of the log, not an error.
_NO_ERROR = "Find detailed error logs at"


@dataclass(frozen=True)
class OfflineRun:
    """One W&B run; a resumed experiment has several folders.

    Attributes:
        run_id: W&B's ID of the run.
        folders: the run's parts, oldest first.
    """

    run_id: str
    folders: tuple[Path, ...]

    @property
    def run_dir(self) -> Path:
        """The run folder of the experiment; for a report, the study's folder."""
        return self.folders[0].parent.parent

    @property
    def pending(self) -> list[Path]:
        """The parts that are not uploaded yet."""
        return [folder for folder in self.folders if not _is_synced(folder)]


@dataclass(frozen=True)
class Result:
    """Outcome of uploading a run.

    Attributes:
        run: the run.
        error: first line of the error; None if there was none.
        at_work: whether the run was skipped because its experiment is still running.
    """

    run: OfflineRun
    error: str | None = None
    at_work: bool = False


def offline_runs(root: Path) -> list[OfflineRun]:
    """Find all runs below a folder that are not completely uploaded.

    Args:
        root: ``output_dir``, or any folder in it.

    Raises:
        DeepSADError: if there is no such folder.
    """
    if not root.is_dir():
        raise DeepSADError(f"{root} is no folder; give the output_dir of the runs, as in make wandb-sync RUNS=runs")
    runs: dict[tuple[Path, str], list[Path]] = {}
    folders = [path for path in root.resolve().glob(f"**/wandb/{_FOLDERS}") if any(path.glob("*.wandb"))]
    for folder in sorted(folders, key=lambda path: (path.parent, _started(path))):
        runs.setdefault((folder.parent, folder.name.rsplit("-", 1)[1]), []).append(folder)
    found = [OfflineRun(run_id, tuple(parts)) for (_, run_id), parts in runs.items()]
    return [run for run in found if run.pending]


def _started(folder: Path) -> tuple[str, int]:
    # Two parts may start within the same second.
    return folder.name.rsplit("-", 1)[0], min(path.stat().st_mtime_ns for path in folder.glob("*.wandb"))


def _is_synced(folder: Path) -> bool:
    return any(folder.glob("*.wandb.synced"))


def sync(
    runs: Sequence[OfflineRun],
    command: Sequence[str] = COMMAND,
    jobs: int = JOBS,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Upload runs in parallel; the parts of one run are uploaded one after the other, oldest first.

    Args:
        runs: runs to upload.
        command: command that calls W&B.
        jobs: number of simultaneous uploads, at least 1.
        tell: called with each result as soon as it is known.

    Returns:
        One result per run, in the order of completion.

    Raises:
        DeepSADError: if no user is logged in; the remaining uploads are cancelled.
    """
    if jobs < 1:
        raise DeepSADError(f"jobs is {jobs}; give a number of at least 1")
    flags = _continuation_flags(command) if any(len(run.folders) > 1 for run in runs) else []
    results: list[Result] = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_upload, run, command, flags) for run in runs]
        try:
            for future in as_completed(futures):
                result = future.result()
                if result.error and any(words in result.error for words in _NO_KEY):
                    raise DeepSADError(
                        f"W&B has no key of an account ({result.error}); run `wandb login`, then make wandb-sync again"
                    )
                results.append(result)
                tell(result)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return results


def _continuation_flags(command: Sequence[str]) -> list[str]:
    """The flags with which ``wandb sync`` continues a run instead of overwriting it.

    Up to version 0.29, W&B needs ``--append``; version 0.31 has no flag and reads it from the run file.
    """
    done = subprocess.run(
        [*command, "sync", "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return ["--append"] if "--append" in done.stdout else []


def _upload(run: OfflineRun, command: Sequence[str], flags: Sequence[str]) -> Result:
    try:
        with _at_rest(run.run_dir):
            for folder in run.pending:
                continues = flags if folder != run.folders[0] else []
                if error := _upload_part([*command, "sync", *continues, str(folder)], folder):
                    # Without this part, W&B would take the next one for the beginning of the run.
                    return Result(run, error)
    except Timeout:
        return Result(run, at_work=True)
    return Result(run)


@contextmanager
def _at_rest(run_dir: Path) -> Iterator[None]:
    """Lock the experiment: an uploaded part is never uploaded again, so it must be complete."""
    path = run_dir / ".lock"
    if not path.exists():
        yield
        return
    with FileLock(path, timeout=0):
        yield


def _upload_part(call: Sequence[str], folder: Path) -> str | None:
    # W&B writes a log into its folder in the working directory.
    done = subprocess.run(
        call, cwd=folder.parent.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    # The exit code is 0 even after some errors.
    if done.returncode == 0 and _is_synced(folder):
        return None
    return _first_error(done.stderr + done.stdout) or f"wandb sync ended with exit code {done.returncode}"


def _first_error(output: str) -> str | None:
    lines = [line.removeprefix("wandb:").strip() for line in output.splitlines() if _NO_ERROR not in line]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return errors[0] if errors else None


def main(arguments: Sequence[str] | None = None, command: Sequence[str] = COMMAND) -> int:
    """Upload all offline runs below a folder, with a progress bar.

    Args:
        arguments: command-line arguments; None for those of this process.
        command: command that calls W&B.

    Returns:
        The exit code: 0, or 1 if something could not be uploaded.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deepsad_pl.tracking.wandb_sync", description=(main.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("runs", nargs="?", default="runs", type=Path, help="output_dir (default: runs)")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"uploads at a time (default: {JOBS})")
    given = parser.parse_args(arguments)
    try:
        return _sync_all(given.runs.expanduser(), command, given.jobs)
    except DeepSADError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1


def _sync_all(root: Path, command: Sequence[str], jobs: int) -> int:
    runs = offline_runs(root)
    if not runs:
        console.print(f"nothing to upload below {root}", markup=False, soft_wrap=True)
        return 0
    columns = (TextColumn("W&B runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(runs))
        results = sync(runs, command, jobs, lambda result: progress.advance(task))
    at_work = [result for result in results if result.at_work]
    failed = [result for result in results if result.error]
    console.print(f"{len(runs) - len(at_work) - len(failed)} of {len(runs)} W&B runs are uploaded")
    for result in at_work:
        console.print(f"left for later, its experiment is running: {result.run.run_dir}", markup=False, soft_wrap=True)
    for result in failed:
        console.print(f"failed: {result.run.run_dir}: {result.error}", style="red", markup=False, soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
