"""A study from the command line to its report: plan, run what is missing, tell how it stands."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepsad_pl.composer import Composer
from deepsad_pl.console import console
from deepsad_pl.errors import DeepSADError
from deepsad_pl.study.grid import Study, study_problems
from deepsad_pl.study.job import first_line
from deepsad_pl.study.jobs import Job, Planned, Planner
from deepsad_pl.study.memory import Memory, Request, alike
from deepsad_pl.study.progress import StudyProgress
from deepsad_pl.study.show import show_state
from deepsad_pl.study.state import STOPPED, Failures, State, forget_forced, is_finished, state_of
from deepsad_pl.study.words import sort_words

ACTIONS = ("run", "status", "report", "dashboard")
Launch = Callable[[Sequence[Sequence[str]]], Sequence[Any]]


def study_folder(output_dir: str, name: str) -> Path:
    """Where the report of a study and its notes lie."""
    return Path(output_dir).expanduser() / "studies" / name


class StudyRun:
    """One command about a study.

    Args:
        asked: the fields of :class:`~deepsad_pl.study.grid.Study` as the command line narrowed them.
        whole: the same as the YAML has them.
        arguments: the overrides of the command line, without Hydra's own.
        composer: makes the settings of experiments.
        output_dir: of the experiments and of the report.
        logger: settings of the logger.
        processes: how many experiments run side by side on this machine; None if somebody else decides that.
        tasks: how many processes the launcher starts for each experiment, on another machine; None on this one.
        launch: runs jobs given by their overrides and returns what became of each.
    """

    def __init__(
        self,
        *,
        asked: Mapping[str, Any],
        whole: Mapping[str, Any],
        arguments: Sequence[str],
        composer: Composer,
        output_dir: str,
        logger: Mapping[str, Any],
        processes: int | None,
        tasks: int | None,
        launch: Launch,
    ) -> None:
        self.folder = study_folder(output_dir, asked["name"])
        self._whole, self._composer, self._logger = whole, composer, logger
        self._processes, self._tasks, self._launch = processes, tasks, launch
        self._failures, self._memory = Failures(self.folder / "failures"), Memory(self.folder)
        words = sort_words(composer.parse(arguments), asked["keys"])
        changed = {key: value for key, value in asked.items() if value != whole[key]}
        self._request = Request(words.passed_on, {**changed, **words.narrowed})

    def act(self, action: str, *, dry_run: bool) -> None:
        """Do one of :data:`ACTIONS`.

        Raises:
            DeepSADError: before any work if something is wrong; at the end if an experiment failed.
        """
        if action not in ACTIONS:
            raise DeepSADError(f"action is {action!r}; give one of {', '.join(ACTIONS)}")
        if action == "run":
            self._run(dry_run)
            return
        self._recall()
        if action == "status":
            self._show(self._plan(self._study(self._request)))
        elif action == "report":
            self._report()
        else:
            self._dashboard()

    def _recall(self) -> None:
        """Without words of its own, a command is about what was asked last."""
        remembered = self._memory.all()
        if remembered and not self._request.narrowed and not self._request.decisive:
            last = remembered[-1]
            passed_on = [*self._request.passed_on, *(line for line in last.passed_on if line in last.decisive)]
            self._request = Request(tuple(passed_on), last.narrowed)

    def _run(self, dry_run: bool) -> None:
        planned = self._plan(self._study(self._request))
        if not dry_run:
            forget_forced(planned.unique)
        state = self._show(planned)
        if dry_run:
            return
        self._memory.add(self._request)
        if state.missing:
            with StudyProgress(state.missing, self._failures), _ends_with_a_word():
                self._launch_all(state.missing)
            state = state_of(planned.unique, self._failures)
        if state.records:
            self._report()
        if state.missing:
            # Whatever it is that has no record: it is not done, and the exit code says so.
            lines = [f"  {' '.join(job.overrides)}: {error}" for job, error in state.failed]
            lines += [f"  {' '.join(job.overrides)}: it was not run" for job in state.waiting]
            lines += [f"  {' '.join(job.overrides)}: another process is at work on it" for job in state.working]
            many = f"{len(state.missing)} of {len(planned.unique)} experiments are not finished"
            raise DeepSADError("\n".join([f"{many}; the same command tries them again:", *lines]))

    def _launch_all(self, jobs: Sequence[Job]) -> None:
        """Launch the jobs, and again those that a launcher which gave up has left."""
        while jobs:
            try:
                returned = self._launch([job.overrides for job in jobs])
            except DeepSADError:
                raise
            except Exception as error:
                # A process died, and this launcher then ends all others.
                crash = first_line(error)
            else:
                for job, value in zip(jobs, returned, strict=True):
                    if isinstance(value, BaseException) and self._failures.error(job.overrides) in (None, STOPPED):
                        self._failures.note(job.overrides, first_line(value))
                return
            left = [job for job in jobs if not is_finished(job)]
            begun = [job for job in left if self._failures.error(job.overrides) == STOPPED]
            if len(jobs) == 1:
                self._failures.note(jobs[0].overrides, crash)
                return
            if not begun and len(left) == len(jobs):
                raise DeepSADError(f"the launcher cannot run the experiments ({crash}); choose another hydra/launcher")
            # Whoever was at work may be to blame: these go on alone, so that it shows.
            jobs = [job for job in left if self._failures.error(job.overrides) is None]
            for job in begun:
                self._launch_all([job])

    def _study(self, request: Request) -> Study:
        return Study(**{**self._whole, **request.narrowed})

    def _planner(self) -> Planner:
        return Planner(self._composer, self._request.passed_on)

    def _plan(self, study: Study) -> Planned:
        if problems := study_problems(study):
            raise DeepSADError(*problems)
        extra = {}
        if self._logger["name"] == "wandb" and self._logger["group"] is None:
            extra["logger.group"] = study.name
        if self._processes is not None and self._processes > 1:
            extra["trainer.threads"] = str(max(1, _cores() // self._processes))
        return self._planner().plan(study, extra, tasks=self._tasks)

    def _show(self, planned: Planned) -> State:
        state = state_of(planned.unique, self._failures)
        show_state(self._request.narrowed.get("name", self._whole["name"]), state, self._processes)
        return state

    def _report(self) -> None:
        # pandas and matplotlib load when they are needed only.
        from deepsad_pl.study.reporting import report_study

        requests = alike(self._memory.all(), self._request)
        studies = [self._study(request) for request in requests]
        planned = [self._plan(study) for study in studies]
        report_study(
            self.folder,
            self._everything(studies),
            planned,
            records={path: r for part in planned for path, r in state_of(part.unique, self._failures).records.items()},
            whole=self._planner().cells(self._everything(studies)),
            with_paper=not any(line.startswith("scenario") for line in self._request.decisive),
            logger=self._logger,
            overrides=self._request.passed_on,
        )

    def _everything(self, studies: Sequence[Study]) -> Study:
        """The study with nothing narrowed but its data sets and methods, those in its own order."""
        whole = Study(**self._whole)
        return replace(
            whole,
            datasets=_in_order((name for study in studies for name in study.datasets), whole.datasets),
            methods=_in_order((name for study in studies for name in study.methods), whole.methods),
        )

    def _dashboard(self) -> None:
        from deepsad_pl.study.reporting import dashboard_of

        study = self._study(self._request)
        dashboard_of(self.folder, study, logger=self._logger)


@contextmanager
def _ends_with_a_word() -> Iterator[None]:
    """Ctrl-C and SIGTERM end in a message and an exit code, after the launcher has ended its processes."""
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on")
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Each name once, those of the order first and in it."""
    found = dict.fromkeys(names)
    return [*(name for name in order if name in found), *(name for name in found if name not in order)]


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
