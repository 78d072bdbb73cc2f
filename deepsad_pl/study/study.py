"""Carry out a command about a study: plan it, run the missing experiments, show its state, report it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from deepsad_pl.common.console import console, silent
from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import BusyError, clear_parts
from deepsad_pl.common.messages import first_line
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.records import METRICS, REPORT
from deepsad_pl.common.signals import Stopped, signals_exit
from deepsad_pl.compose.composer import Composer
from deepsad_pl.experiment.class_metrics import lacks_metrics
from deepsad_pl.experiment.finished import answer, lacks_report, record_of
from deepsad_pl.settings.checks import output_dir_problems
from deepsad_pl.settings.own_metrics import lacking, values_of
from deepsad_pl.stacked.stack_notes import stacks_folder
from deepsad_pl.study.command_line import sort_overrides
from deepsad_pl.study.differences import Asked, differences_of, require_one_table
from deepsad_pl.study.grid import Study, study_problems
from deepsad_pl.study.jobs import Job, Planned, Planner, by_round
from deepsad_pl.study.requests import Memory, Request, alike
from deepsad_pl.study.results_file import ResultsFile
from deepsad_pl.study.sample_notes import sample_notes
from deepsad_pl.study.show_state import show_blank, show_state
from deepsad_pl.study.state import State, is_blank, is_finished, put_back, set_aside, state_of, throw_away
from deepsad_pl.study.study_progress import StudyProgress
from deepsad_pl.sweep.failures import STOPPED, Failures
from deepsad_pl.sweep.job import noted
from deepsad_pl.tracking.loggers import wandb_settings

ACTIONS = ("run", "status", "report", "serve", "dashboard", "forget")
T = TypeVar("T")
# Fields of a study that neither select nor define experiments.
_NAMING = ("name", "title", "metric", "figure", "paper", "results")
Launch = Callable[[Sequence[Sequence[str]]], Sequence[Any]]


def study_folder(output_dir: str, name: str) -> Path:
    """The folder of a study's report and notes."""
    return Path(output_dir).expanduser() / "studies" / name


class StudyRun:
    """One command about a study.

    Args:
        asked: the fields of :class:`~deepsad_pl.study.grid.Study`, as narrowed by the command line.
        whole: the same fields, as defined by the YAML.
        arguments: the overrides of the command line, without Hydra's own.
        composer: composes the settings of experiments.
        output_dir: folder of the experiments and the report.
        processes: number of experiments that run in parallel on this machine; None if the launcher decides.
        tasks: number of processes per experiment that the launcher starts on another machine; None if they run here.
        launch: runs jobs, given by their overrides, and returns the outcome of each.
        most_in_stack: maximum number of experiments that the launcher trains as one.
        form: size of the report's figures.
        port: where action=serve listens; 0 for any free port.
    """

    def __init__(
        self,
        *,
        asked: Mapping[str, Any],
        whole: Mapping[str, Any],
        arguments: Sequence[str],
        composer: Composer,
        output_dir: str,
        processes: int | None,
        tasks: int | None,
        launch: Launch,
        most_in_stack: int = 1,
        form: FigureFormat = PAGE,
        port: int = 0,
    ) -> None:
        self.folder, self._output_dir = study_folder(output_dir, asked["name"]), output_dir
        self._whole, self._composer, self._form, self._port = whole, composer, form, port
        self._processes, self._tasks, self._launch = processes, tasks, launch
        self._most_in_stack = most_in_stack
        self._failures, self._memory = Failures(self.folder / "failures"), Memory(self.folder)
        line = sort_overrides(composer.parse(arguments), asked["keys"])
        self._named = {field: asked[field] for field in _NAMING}
        self._results: ResultsFile | None = None
        if asked["results"] is not None and asked["figure"] != "ranks":
            path = Path(str(asked["results"])).expanduser()
            self._results = ResultsFile(path, self.folder / "results.lock")
        changed = {key: value for key, value in asked.items() if value != whole[key] and key not in _NAMING}
        self._request = Request(line.passed_on, {**changed, **line.narrowed})

    def act(self, action: str, *, dry_run: bool) -> None:
        """Carry out one of :data:`ACTIONS`.

        Raises:
            DeepSADError: before any work if the command is invalid; at the end if an experiment failed.
        """
        if action not in ACTIONS:
            raise DeepSADError(f"action is {action!r}; give one of {', '.join(ACTIONS)}")
        results = self._named["results"]
        if action != "report" and results is not None and self._results is None:
            raise DeepSADError(f"study.results={results} is reported without experiments; add action=report")
        if action == "run":
            self._run(dry_run)
            return
        if action == "forget":
            self._forget(dry_run)
            return
        if action == "report" and results is not None:
            if self._results is None:
                self._report_results()
            else:
                # The file may hold more than the latest command, so that command completes nothing.
                self._report()
            return
        self._recall()
        if action == "status":
            self._show(self._plan(self._study(self._request)))
        elif action == "report":
            self._report()
        elif action == "serve":
            self._serve()
        else:
            self._dashboard()

    def _forget(self, dry_run: bool) -> None:
        """Remove a remembered command, without planning it, since what it names may no longer exist."""
        remembered = self._memory.all()
        asked, study = self._request, f"study={self._named['name']}"
        same = [known for known in remembered if known.is_same(self._with_axes_of(known, asked))]
        # Of several, one that a report would leave out.
        found = min(same, key=lambda known: known.is_same(asked), default=None)
        if found is None:
            if not remembered:
                raise DeepSADError(f"{study} remembers no command, so there is none to forget")
            known = "\n".join(f"  {request}" for request in remembered)
            raise DeepSADError(
                f"{study} remembers no command {str(asked) or 'without settings'}; choose one of these:\n{known}"
            )
        if not dry_run:
            self._memory.remove(found)
        what = f"{study} would forget" if dry_run else f"{study} has forgotten"
        asked_before = str(found) or "the command without settings"
        told = f"{what} {asked_before}: the next report leaves it out, its experiments stay"
        console.print(told, markup=False, soft_wrap=True)

    def _with_axes_of(self, known: Request, asked: Request) -> Request:
        """A request without the study's own values of axes that the study did not have at a remembered one."""
        if "axes" not in known.narrowed or "axes" not in asked.narrowed:
            return asked
        own, then = self._whole["axes"], known.narrowed["axes"]
        axes = {axis: v for axis, v in asked.narrowed["axes"].items() if axis in then or v != own.get(axis)}
        return Request(asked.passed_on, {**asked.narrowed, "axes": axes})

    def _recall(self) -> None:
        """Complete a command about finished experiments from the latest remembered command."""
        remembered, request = self._memory.all(), self._request
        if not remembered:
            return
        last = next((r for r in reversed(remembered) if _is_like(r, request)), remembered[-1])
        if not request.narrowed and not request.decisive:
            last = remembered[-1]
        elif request.decisive:
            last = last if _is_like(last, request) else request
        missing = [word for word in last.passed_on if word in last.decisive - request.decisive]
        if not any(map(_is_about_logging, request.passed_on)):
            missing += filter(_is_about_logging, last.passed_on)
        self._request = Request((*request.passed_on, *missing), request.narrowed or last.narrowed)

    def _run(self, dry_run: bool) -> None:
        if not dry_run:
            clear_parts(self.folder, self._failures.folder, stacks_folder(self._failures.folder))
        planned = self._plan(self._study(self._request))
        aside = [] if dry_run else set_aside(planned.unique)
        if not dry_run:
            with _ends_with_a_word():
                self._add_metrics(planned.unique)
        state = self._show(planned)
        if dry_run:
            return
        self._memory.add(self._request)
        self._write_new_results(planned, state)
        if state.working:
            console.print(f"another process is running {len(state.working)} of these experiments; waiting for it")
        without_page = _without_page(planned, state)
        if state.missing:
            before = self._failures.versions()
            try:
                progress = StudyProgress(state.missing, self._failures, on_finished=self._write_results)
                with progress, _ends_with_a_word():
                    for jobs in by_round(state.missing):
                        self._launch_all(jobs)
            except DeepSADError:
                put_back([job for job, news in self._failures.news(aside, before) if news is None])
                raise
            told_before = {job.plan.run_dir for job, _ in state.blank}
            state = self._state(planned)
            self._write_new_results(planned, state)
            show_blank([(job, reason) for job, reason in state.blank if job.plan.run_dir not in told_before])
        throw_away(aside)
        if without_page:
            with _ends_with_a_word():
                self._launch_all(without_page)
            if failed := sum(lacks_report(job.plan) for job in without_page):
                told = f"{counted(failed, 'page was', 'pages were')} not written; python report.py run=<run> says why"
                console.print(told, style="yellow")
        if state.records or any(map(_lacks_metrics, state.missing)):
            self._report()
        if state.missing:
            raise DeepSADError(_what_is_missing(state, len(planned.unique), forced=bool(aside)))

    def _add_metrics(self, jobs: Sequence[Job]) -> None:
        """Add missing metrics to finished experiments, here rather than in jobs that would wait for a machine.

        An experiment for which this fails gets a note, and is launched with the missing experiments.
        """
        incomplete = [job for job in jobs if _lacks_metrics(job)]
        _tell_new_metrics(sum(map(_is_of_earlier_release, incomplete)))
        for job in incomplete:
            with suppress(DeepSADError, BusyError), noted(self._failures.folder, job.overrides):
                answer(job.plan, {}, wait=False)

    def _launch_all(self, jobs: Sequence[Job]) -> None:
        """Launch the jobs; if the launcher gives up, launch the remaining ones again."""
        while jobs:
            before = self._failures.versions()
            try:
                returned = self._launch([job.overrides for job in jobs])
            except DeepSADError:
                raise
            except Exception as error:
                # A process died, whereupon this launcher ended all others.
                crash = first_line(error)
            else:
                for job, value in zip(jobs, returned, strict=True):
                    if isinstance(value, BaseException) and self._failures.error(job.overrides) in (None, STOPPED):
                        self._failures.note(job.overrides, first_line(value))
                return
            unfinished = [job for job in jobs if not (is_finished(job) or is_blank(job, self._failures))]
            left = self._failures.news(unfinished, before)
            begun = [job for job, news in left if news == STOPPED]
            if len(left) == len(jobs) and not any(news for _, news in left):
                raise DeepSADError(f"the launcher cannot run the experiments ({crash}); choose another hydra/launcher")
            if len(jobs) == 1:
                self._failures.note(jobs[0].overrides, crash)
                return
            # Any running experiment may have caused the crash, so run each of them alone to find out which.
            jobs = [job for job, news in left if news is None]
            for job in begun:
                self._launch_all([job])

    def _study(self, request: Request) -> Study:
        return Study(**{**self._whole, **request.narrowed, **self._named})

    def _planner(self) -> Planner:
        return Planner(self._composer, self._request.passed_on, [*self._whole["fixed"]])

    def _check(self, study: Study) -> None:
        if problems := [
            *output_dir_problems(self._output_dir),
            *study_problems(study, self._composer.options("method")),
        ]:
            raise DeepSADError(*problems)

    def _plan(self, study: Study) -> Planned:
        self._check(study)
        extra = {}
        wandb = wandb_settings(self._logger_of(self._request))
        if wandb is not None and wandb["group"] is None:
            extra["logger.group"] = study.name
        if self._processes is not None and self._processes > 1:
            import joblib

            extra["trainer.threads"] = str(max(1, joblib.cpu_count() // self._processes))
        planned = self._planner().plan(study, extra, tasks=self._tasks)
        if clashing := sorted({name for job in planned.unique for name in job.plan.metrics}.intersection(study.axes)):
            told = ", ".join(f"metrics.{name}" for name in clashing)
            raise DeepSADError(f"{told}: study={study.name} has an axis of that name; give the metric another one")
        _require_metric(study.metric, planned)
        return planned

    def _state(self, planned: Planned, *, with_scores: bool = True) -> State:
        elsewhere = self._elsewhere(planned)
        return state_of(planned.unique, self._failures, with_scores=with_scores, elsewhere=elsewhere)

    def _elsewhere(self, planned: Planned) -> dict[Path, dict[str, Any]]:
        return {} if self._results is None else self._results.records(planned.unique)

    def _write_new_results(self, planned: Planned, state: State) -> None:
        """Write the experiments that are finished in a run folder and that the results file does not have."""
        new = state.records.keys() - self._elsewhere(planned).keys()
        self._write_results([job for job in planned.unique if job.plan.run_dir in new])

    def _write_results(self, jobs: Sequence[Job]) -> None:
        if self._results is not None:
            self._results.add(jobs)

    def _show(self, planned: Planned) -> State:
        state = self._state(planned)
        finished = [job for job in planned.unique if job.plan.run_dir in state.records]
        show_state(self._named["name"], state, self._processes, finished=finished, most_in_stack=self._most_in_stack)
        if incomplete := [job for job in state.missing if _lacks_metrics(job)]:
            lacking = counted(len(incomplete), "of these lacks", "of these lack")
            console.print(f"{lacking} only a metric, which needs no training")
        if without_page := _without_page(planned, state):
            told = counted(
                len(without_page), "finished experiment lacks its page", "finished experiments lack their page"
            )
            console.print(f"{told}, which needs no training")
        return state

    def _serve(self) -> None:
        """Serve the report's page until the process is stopped."""
        from deepsad_pl.study.serve import PageServer

        study = self._study(self._request)
        # What is wrong with the command is told here, not in the browser.
        self._plan(study)

        def make() -> str | None:
            try:
                with silent(), in_sentences():
                    self._report(tracked=False)
            except DeepSADError as error:
                return str(error)
            return None

        root, page = Path(self._output_dir).expanduser(), self.folder / REPORT
        with PageServer(root, page, self._named["title"], make, port=self._port) as server:
            console.print(f"the page of the study: {server.url}\nit refreshes itself; Ctrl-C ends this", soft_wrap=True)
            server.serve_forever()

    def _report(self, *, tracked: bool = True) -> None:
        # Imported here because it loads pandas and matplotlib.
        from deepsad_pl.study.reporting import report_study

        asked: list[Asked] = []
        # The latest request comes first and takes precedence.
        for request in reversed(alike(self._memory.all(), self._request)):
            study = self._study(request)
            try:
                one = Asked(request, study, self._plan(study))
                require_one_table([*asked, one])
            except DeepSADError as error:
                if request == self._request:
                    raise
                asked_for = ", ".join(f"{field}={value}" for field, value in request.narrowed.items())
                told = f"an earlier request ({asked_for}) is left out of the report: {error}"
                console.print(told, style="yellow", markup=False, soft_wrap=True)
            else:
                asked.append(one)
        for one in asked:
            _add_new_metrics(one.planned.unique)
        own, shown = Study(**{**self._whole, **self._named}), self._everything([one.study for one in asked])
        try:
            own_cells = self._planner().cells(shown)
        except DeepSADError:
            # A data set lacks the study's own classes.
            own_cells = None
        states = [self._state(one.planned, with_scores=False) for one in asked]
        report_study(
            self.folder,
            shown,
            [one.planned for one in asked],
            records={path: record for state in states for path, record in state.records.items()},
            blank=len({job.plan.run_dir for state in states for job, _ in state.blank}),
            own_cells=own_cells or (),
            differences=differences_of(asked, own, own_cells, self._composer),
            logger=self._logger_of(self._request) if tracked else self._composer.settings(["logger=none"])["logger"],
            overrides=self._request.passed_on,
            notes=sample_notes([(one.study, one.planned.places) for one in asked]),
            form=self._form,
        )

    def _report_results(self) -> None:
        from deepsad_pl.study.reporting import report_results

        study = self._study(self._request)
        self._check(study)
        report_results(Path(str(study.results)).expanduser(), study.title, study.metric, self._form)

    def _logger_of(self, request: Request) -> Mapping[str, Any]:
        """The logger settings of the experiments."""
        words = [*filter(_is_about_logging, request.passed_on)]
        choice = self._study(request).choices.get("logger")
        if choice is not None and not any(word.startswith("logger=") for word in words):
            words.insert(0, f"logger={choice}")
        logger: Mapping[str, Any] = self._composer.settings(words)["logger"]
        return logger

    def _everything(self, studies: Sequence[Study]) -> Study:
        """The study with all its classes and seeds, and with all requested data sets, methods and values."""
        whole, latest = Study(**{**self._whole, **self._named}), studies[0]
        axes = {
            axis: _in_order((value for study in studies for value in study.axes[axis]), whole.axes.get(axis, ()))
            for axis in latest.axes
        }
        return replace(
            latest,
            normal_classes=whole.normal_classes,
            anomaly_classes=whole.anomaly_classes,
            seeds=whole.seeds,
            sample=whole.sample,
            sample_seed=whole.sample_seed,
            datasets=_in_order((name for study in studies for name in study.datasets), whole.datasets),
            methods=_in_order((name for study in studies for name in study.methods), whole.methods),
            axes=axes,
        )

    def _dashboard(self) -> None:
        from deepsad_pl.study.reporting import dashboard_of

        study = self._study(self._request)
        self._check(study)
        self._planner().check_settings(study)
        dashboard_of(self.folder, study, logger=self._logger_of(self._request))


@contextmanager
def _ends_with_a_word() -> Iterator[None]:
    """At a signal, exit with a message and an exit code, after the launcher has ended its processes."""
    try:
        with signals_exit():
            yield
    except Stopped:
        console.print("interrupted; the same command resumes it")
        raise


def _what_is_missing(state: State, total: int, *, forced: bool) -> str:
    """The error message about unfinished experiments, whatever the reason, for which the exit code is not 0."""
    lines = [f"  {' '.join(job.overrides)}: {error}" for job, error in state.failed]
    lines += [f"  {' '.join(job.overrides)}: it was not run" for job in state.waiting]
    lines += [f"  {' '.join(job.overrides)}: another process is running it" for job in state.working]
    again = "the same command without force=true" if forced else "the same command"
    return "\n".join(
        [
            f"{len(state.missing)} of {total} experiments {are(len(state.missing))} not finished; {again} tries again:",
            *lines,
        ]
    )


def _without_page(planned: Planned, state: State) -> list[Job]:
    """The finished experiments that lack the page that the settings ask for, except those that were run elsewhere."""
    asked = [job for job in planned.unique if job.plan.run_dir in state.records and lacks_report(job.plan)]
    return [job for job in asked if record_of(job.plan) is not None]


def _add_new_metrics(jobs: Sequence[Job]) -> None:
    """Add the metrics that records of earlier releases lack, as far as their files allow; a report needs no more."""
    old = list(filter(_is_of_earlier_release, jobs))
    _tell_new_metrics(len(old))
    for job in old:
        with suppress(DeepSADError, BusyError):
            answer(replace(job.plan, metrics={}, force=False), {}, wait=False)


def _tell_new_metrics(number: int) -> None:
    if number:
        told = counted(number, "finished experiment gets its", "finished experiments get their")
        console.print(f"{told} newer metrics from scores.csv, without training")


def _require_metric(metric: str, planned: Planned) -> None:
    """Raise an error unless the experiments have a metric, by their settings or from an earlier command."""
    if metric in METRICS or any(metric in job.plan.metrics for job in planned.unique):
        return
    records = (record_of(job.plan) for job in planned.unique)
    if not any(metric in values_of(record) for record in records if record is not None):
        raise DeepSADError(
            f"study.metric is {metric}, which none of the experiments has; choose {', '.join(METRICS)}, or a metric of "
            f"your own, which +metrics.{metric}._target_=<function> adds"
        )


def _is_of_earlier_release(job: Job) -> bool:
    record = record_of(job.plan)
    return record is not None and lacks_metrics(record)


def _lacks_metrics(job: Job) -> bool:
    """Whether an experiment is finished except for metrics, of the user's own or newer than its record."""
    record = None if job.plan.force else record_of(job.plan)
    return record is not None and (lacks_metrics(record) or bool(lacking(job.plan.metrics, record)))


def _is_like(one: Request, other: Request) -> bool:
    return alike([one], other)[0] == one


def _is_about_logging(override: str) -> bool:
    return override.lstrip("+").startswith(("logger=", "logger."))


def _in_order(found: Iterable[T], order: Sequence[T]) -> list[T]:
    """Remove duplicates, and put the items of ``order`` first, in that order."""
    once = list(dict.fromkeys(found))
    return [*(one for one in order if one in once), *(one for one in once if one not in order)]
