"""``make wandb-sync``: upload offline W&B runs with ``wandb sync``, except those of experiments that are running."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import are
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import real_path

COMMAND = (sys.executable, "-m", "wandb")
JOBS = 8
# Run folders per call of ``wandb sync``: each has a locked file open, and a command line has a maximum length.
_AT_ONCE = 200


def offline_folders(root: Path) -> dict[Path, list[Path]]:
    """Find the folders of W&B runs that are not uploaded yet.

    Args:
        root: ``output_dir``, or any folder in it.

    Returns:
        By run folder (of a report: the study's folder), W&B's folders in it; a resumed experiment has several.

    Raises:
        DeepSADError: if there is no such folder.
    """
    if not root.is_dir():
        raise DeepSADError(f"{root} is not a folder; name the output_dir of the runs, as in make wandb-sync RUNS=runs")
    found: dict[Path, list[Path]] = {}
    for folder in sorted({path.parent for path in real_path(root).glob("**/wandb/offline-run-*/*.wandb")}):
        if not _is_uploaded(folder):
            found.setdefault(folder.parent.parent, []).append(folder)
    return found


def upload(root: Path, command: Sequence[str] = COMMAND, jobs: int = JOBS) -> bool:
    """Upload all offline runs below a folder, and print what became of them.

    Args:
        root: ``output_dir``, or any folder in it.
        command: command that calls W&B.
        jobs: number of simultaneous uploads, at least 1.

    Returns:
        Whether nothing failed. Runs of running experiments are left for later, which is no failure.

    Raises:
        DeepSADError: if there is no such folder, or ``jobs`` is below 1.
    """
    if jobs < 1:
        raise DeepSADError(f"jobs is {jobs}; it must be a number >= 1")
    found = offline_folders(root)
    if not found:
        _say(f"nothing to upload below {root}")
        return True
    running: list[Path] = []
    failed: list[Path] = []
    items = list(found.items())
    for start in range(0, len(items), _AT_ONCE):
        ready: list[Path] = []
        with ExitStack() as locks:
            for run_dir, folders in items[start : start + _AT_ONCE]:
                if _lock(run_dir, locks):
                    ready += folders
                else:
                    running.append(run_dir)
            if ready:
                subprocess.run([*command, "sync", "-n", str(jobs), *map(str, ready)], cwd=root, check=False)
        # W&B's exit code is 0 even after some errors.
        missing = [folder for folder in ready if not _is_uploaded(folder)]
        failed += missing
        if missing and missing == ready:
            break
    every = [folder for folders in found.values() for folder in folders]
    uploaded = sum(map(_is_uploaded, every))
    _say(f"{uploaded} of {len(every)} W&B runs {are(uploaded)} uploaded")
    for run_dir in running:
        _say(f"left for later, since its experiment is running: {run_dir}")
    for folder in failed:
        _say(f"failed: {folder}", style="red")
    if failed:
        _say(
            "W&B's messages above say why (run wandb login if you have not yet); after that, make wandb-sync uploads "
            "the rest"
        )
    return not failed


def _lock(run_dir: Path, locks: ExitStack) -> bool:
    """Lock an experiment while its run is uploaded; return whether it is free.

    What W&B has uploaded it never uploads again, so the run must be complete.
    """
    path = run_dir / ".lock"
    try:
        if path.exists():
            locks.enter_context(FileLock(path, timeout=0))
    except Timeout:
        return False
    return True


def _is_uploaded(folder: Path) -> bool:
    return any(folder.glob("*.wandb.synced"))


def _say(text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None, command: Sequence[str] = COMMAND) -> int:
    """Upload all offline runs below a folder.

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
        return 0 if upload(given.runs.expanduser(), command, given.jobs) else 1
    except DeepSADError as error:
        _say(str(error), style="red")
        return 1


if __name__ == "__main__":
    sys.exit(main())
