"""The state of a study's experiments (finished, failed, running or waiting), and an estimate of the remaining time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from filelock import FileLock, Timeout

from deepsad_pl.common.records import RECORD, scores_problem
from deepsad_pl.experiment.class_metrics import lacks_metrics
from deepsad_pl.experiment.finished import record_of
from deepsad_pl.settings.own_metrics import lacking
from deepsad_pl.study.jobs import Job
from deepsad_pl.sweep.failures import Failures


@dataclass(frozen=True)
class State:
    """A study's experiments by their state.

    Attributes:
        records: records of the finished experiments, by run folder.
        working: experiments that a process is running.
        failed: experiments that ended without a record, each with the first line of its error.
        waiting: experiments that have not started.
        blank: experiments that the data cannot have, each with the reason.
    """

    records: Mapping[Path, dict[str, Any]]
    working: list[Job]
    failed: list[tuple[Job, str]]
    waiting: list[Job]
    blank: list[tuple[Job, str]] = field(default_factory=list)

    @property
    def missing(self) -> list[Job]:
        """All unfinished experiments, except those that the data cannot have."""
        return [*self.working, *(job for job, _ in self.failed), *self.waiting]


def state_of(
    jobs: Sequence[Job],
    failures: Failures,
    *,
    with_scores: bool = True,
    elsewhere: Mapping[Path, dict[str, Any]] | None = None,
) -> State:
    """Determine the state of jobs from their run folders.

    Args:
        jobs: jobs of the study.
        failures: notes of the study.
        with_scores: whether an experiment that lacks a metric, or whose ``scores.csv`` is lost or damaged, counts as
            unfinished; a report needs neither.
        elsewhere: records of experiments that are finished without a run folder here, by run folder.

    Raises:
        DeepSADError: if a record cannot be read.
    """
    records: dict[Path, dict[str, Any]] = {}
    working: list[Job] = []
    failed: list[tuple[Job, str]] = []
    waiting: list[Job] = []
    blank: list[tuple[Job, str]] = []
    for job in jobs:
        if (record := (elsewhere or {}).get(job.plan.run_dir) or _finished(job, with_scores)) is not None:
            records[job.plan.run_dir] = record
        elif _is_locked(job.plan.run_dir):
            working.append(job)
        elif not job.plan.force and is_blank(job, failures):
            blank.append((job, failures.error(job.overrides) or ""))
        elif (error := failures.error(job.overrides)) is not None:
            failed.append((job, error))
        else:
            waiting.append(job)
    return State(records, working, failed, waiting, blank)


def is_blank(job: Job, failures: Failures) -> bool:
    """Whether the data of an experiment were found to have too few anomalies for it."""
    # The folder's name ends with the hash; computing it again for thousands of jobs takes long.
    return failures.is_blank(job.overrides, job.plan.run_dir.name.rpartition("-")[2])


def is_finished(job: Job) -> bool:
    """Whether there is a valid record, with scores and all requested metrics."""
    return _finished(job, with_scores=True) is not None


def _finished(job: Job, with_scores: bool) -> dict[str, Any] | None:
    """The record of a finished job, or None."""
    record = record_of(job.plan)
    if record is None or not with_scores:
        return record
    if lacks_metrics(record) or lacking(job.plan.metrics, record):
        return None
    # Records of earlier releases have no checksum, so thousands of rows of each would have to be parsed.
    return None if scores_problem(job.plan.run_dir, record, contents="scores" in record) else record


_BEFORE = f"{RECORD}.before"


def set_aside(jobs: Sequence[Job]) -> list[Job]:
    """Move away the records of experiments that will be run again (``force=true``); return these jobs."""
    aside = []
    for job in jobs:
        record = job.plan.run_dir / RECORD
        if job.plan.force and record.exists() and not _is_locked(job.plan.run_dir):
            record.replace(job.plan.run_dir / _BEFORE)
            aside.append(job)
    return aside


def put_back(jobs: Sequence[Job]) -> None:
    """Undo :func:`set_aside` for experiments that were not started."""
    for job in jobs:
        if not is_finished(job):
            (job.plan.run_dir / _BEFORE).replace(job.plan.run_dir / RECORD)


def throw_away(jobs: Sequence[Job]) -> None:
    """Delete the records that :func:`set_aside` has moved away."""
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
    """Estimated time for the missing experiments.

    Attributes:
        seconds: total time if run one after the other, without those counted in ``unknown``.
        unknown: experiments whose data set and method have no finished experiment yet.
    """

    seconds: float
    unknown: list[Job]


def estimate(jobs: Sequence[Job], records: Iterable[Mapping[str, Any]]) -> Estimate:
    """Estimate the time from the mean of finished experiments with the same data set and method.

    Args:
        jobs: the missing experiments.
        records: records of the finished ones; those without seconds, which were run elsewhere, are left out.
    """
    spent: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if not record["seconds"]:
            continue
        spent.setdefault((record["dataset"], record["method"]), []).append(sum(record["seconds"].values()))
    keys = [(job.plan.dataset.name, job.plan.method.name) for job in jobs]
    unknown = [job for job, key in zip(jobs, keys, strict=True) if key not in spent]
    return Estimate(sum(mean(spent[key]) for key in keys if key in spent), unknown)
