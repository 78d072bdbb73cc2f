"""What has become of a study's experiments: finished, failed, at work or waiting; and how long the rest will take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from filelock import FileLock, Timeout

from deepsad_pl.common.records import RECORD, scores_problem
from deepsad_pl.experiment.finished import record_of
from deepsad_pl.settings.own_metrics import lacking
from deepsad_pl.study.jobs import Job
from deepsad_pl.sweep.failures import Failures


@dataclass(frozen=True)
class State:
    """A study's experiments by what has become of them.

    Attributes:
        records: of the finished ones, by run folder.
        working: those that a process is at work on.
        failed: those that began and ended without a record, each with the first line of its error.
        waiting: those that have not begun.
    """

    records: Mapping[Path, dict[str, Any]]
    working: list[Job]
    failed: list[tuple[Job, str]]
    waiting: list[Job]

    @property
    def missing(self) -> list[Job]:
        """All that is not finished."""
        return [*self.working, *(job for job, _ in self.failed), *self.waiting]


def state_of(jobs: Sequence[Job], failures: Failures, *, with_scores: bool = True) -> State:
    """Look at the run folders.

    Args:
        jobs: of the study.
        failures: its notes.
        with_scores: whether an experiment that has lost its ``scores.csv``, or lacks a metric, is to be done; a report
            needs none.

    Raises:
        DeepSADError: if a record cannot be read.
    """
    records: dict[Path, dict[str, Any]] = {}
    working: list[Job] = []
    failed: list[tuple[Job, str]] = []
    waiting: list[Job] = []
    for job in jobs:
        if (record := _finished(job, with_scores)) is not None:
            records[job.plan.run_dir] = record
        elif _is_locked(job.plan.run_dir):
            working.append(job)
        elif (error := failures.error(job.overrides)) is not None:
            failed.append((job, error))
        else:
            waiting.append(job)
    return State(records, working, failed, waiting)


def is_finished(job: Job) -> bool:
    """Whether there is a valid record, with scores and the metrics that are asked for."""
    return _finished(job, with_scores=True) is not None


def _finished(job: Job, with_scores: bool) -> dict[str, Any] | None:
    """The record of a finished job; of its scores, thousands of rows each, only the size is looked at."""
    record = record_of(job.plan)
    if record is None or not with_scores:
        return record
    lost = lacking(job.plan.metrics, record) or scores_problem(job.plan.run_dir, record, contents=False)
    return None if lost else record


_BEFORE = f"{RECORD}.before"


def set_aside(jobs: Sequence[Job]) -> list[Job]:
    """Put the records away of the experiments that are to be done again (``force=true``), and tell which."""
    aside = []
    for job in jobs:
        record = job.plan.run_dir / RECORD
        if job.plan.force and record.exists() and not _is_locked(job.plan.run_dir):
            record.replace(job.plan.run_dir / _BEFORE)
            aside.append(job)
    return aside


def put_back(jobs: Sequence[Job]) -> None:
    """Undo :func:`set_aside` for experiments that were not begun."""
    for job in jobs:
        if not is_finished(job):
            (job.plan.run_dir / _BEFORE).replace(job.plan.run_dir / RECORD)


def throw_away(jobs: Sequence[Job]) -> None:
    """Remove what :func:`set_aside` has put away."""
    for job in jobs:
        (job.plan.run_dir / _BEFORE).unlink(missing_ok=True)


def _is_locked(run_dir: Path) -> bool:
    path = run_dir / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


@dataclass(frozen=True)
class Estimate:
    """How long the missing experiments will take.

    Attributes:
        seconds: of all of which anything is known, one after the other.
        unknown: how many there are of a data set and method of which none is finished.
    """

    seconds: float
    unknown: int


def estimate(jobs: Sequence[Job], records: Iterable[Mapping[str, Any]]) -> Estimate:
    """From the mean seconds of finished experiments of the same data set and method."""
    spent: dict[tuple[str, str], list[float]] = {}
    for record in records:
        spent.setdefault((record["dataset"], record["method"]), []).append(sum(record["seconds"].values()))
    keys = [(job.plan.dataset["name"], job.plan.method["name"]) for job in jobs]
    return Estimate(sum(mean(spent[key]) for key in keys if key in spent), sum(key not in spent for key in keys))
