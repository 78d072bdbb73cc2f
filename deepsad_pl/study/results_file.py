"""A file of finished experiments that a study goes on from, and into which it writes each one that it finishes."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import locked
from deepsad_pl.experiment.finished import record_of
from deepsad_pl.experiment.results_version import RESULTS_VERSION, version_of
from deepsad_pl.settings.own_metrics import lacking
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.result_rows import is_current, merged, read_rows, record_of_row, row_of, write_rows

_PACKAGE = Path(__file__).resolve().parent.parent


class ResultsFile:
    """The file of ``study.results``.

    Args:
        path: the CSV file; it may not exist yet.
        lock: a lock file for those that write it from the same output folder.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path, self._lock = path, lock

    def records(self, jobs: Sequence[Job]) -> dict[Path, dict[str, Any]]:
        """What the file has about experiments whose rows are current, by run folder, as far as a report needs it.

        An experiment that is to be repeated (``force=true``), or that has metrics of the user's own, is left out.

        Raises:
            DeepSADError: if the file cannot be read.
        """
        by_hash = {hash_of(job): job for job in jobs if not (job.plan.force or lacking(job.plan.metrics, {}))}
        found: dict[Path, dict[str, Any]] = {}
        for row in read_rows(self.path):
            if is_current(row, by_hash):
                record = record_of_row(row)
                if not row["machine"].startswith(_cpu()):
                    # The time on another machine, or on its GPU, says nothing about the time here.
                    record["seconds"] = {}
                found[by_hash[row["hash"]].plan.run_dir] = record
        return found

    def add(self, jobs: Sequence[Job]) -> None:
        """Write the rows of finished experiments into the file, in place of rows that it has of them.

        Without any, the file is written as well, so that a folder that is not writable is noticed before any work.

        Raises:
            DeepSADError: if a record is of another version of the results, or the file cannot be read or written.
        """
        # Imported here because it loads pandas, which a command that adds nothing does not need.
        from deepsad_pl.study.results import exact_auroc

        # Told before the first experiment begins, since the checkout may change while they run.
        code = commit()
        records = {job.plan.run_dir: record for job in jobs if (record := record_of(job.plan)) is not None}
        for run_dir, record in records.items():
            if (version := version_of(record)) != RESULTS_VERSION:
                raise DeepSADError(
                    f"the record in {run_dir} has version {version} of the results, but this code has version "
                    f"{RESULTS_VERSION}; remove the folder, or add force=true"
                )
        new = [
            row_of(record, auroc=exact_auroc(run_dir, record), commit=code, machine=machine_of(record))
            for run_dir, record in records.items()
        ]
        busy = f"another command is writing {self.path}"
        with locked(self._lock, busy=busy, way_out="choose another output_dir"):
            write_rows(self.path, merged(read_rows(self.path), new))


def hash_of(job: Job) -> str:
    """The hash of an experiment's identity, with which the name of its run folder ends."""
    # Computing it again for thousands of jobs takes long.
    return job.plan.run_dir.name.rpartition("-")[2]


@cache
def commit() -> str:
    """The commit of the checkout that the package is in, with + if its code was changed since; else its version."""
    from deepsad_pl import __version__

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=_PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", str(_PACKAGE), str(_PACKAGE.parent / "conf"))
        return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return f"deepsad_pl {__version__}"


def machine_of(record: Mapping[str, Any], *, cpu: str | None = None, gpu: str | None = None) -> str:
    """The device that an experiment was trained on, and the version of torch, such as ``2 CPU cores, torch 2.11.0``.

    Args:
        record: the record of the experiment.
        cpu: the processor in words; None: this machine's.
        gpu: the GPU in words; None: this machine's.
    """
    on_gpu = record.get("trainer", {}).get("device", "cpu") != "cpu"
    device = (gpu or _gpu()) if on_gpu else (cpu or _cpu())
    torch = record.get("versions", {}).get("torch")
    return f"{device}, torch {torch}" if torch else device


def _cpu() -> str:
    return f"{os.cpu_count()} CPU cores"


@cache
def _gpu() -> str:
    # Imported here because it takes a second, and only a training on a GPU needs it.
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else f"GPU of {platform.node()}"
