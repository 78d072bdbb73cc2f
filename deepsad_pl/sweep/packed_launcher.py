"""Submitit launchers, for SLURM and local jobs, that run several experiments per job and survive a killed job."""

import itertools
import math
import pickle
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import OmegaConf

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.records import RECORD
from deepsad_pl.common.signals import CLOSE_S, signals_exit
from deepsad_pl.training.fast_import import import_lightning

# States of a job that will continue, although submitit does not know them.
_PAUSED = frozenset({"CONFIGURING", "REQUEUE_HOLD", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"})
_ASK_AGAIN_S = 10.0

Pack = list[tuple[int, list[str]]]


class _Warning:
    """Holds back the signal before a job's end from submitit until the experiment is closed.

    submitit would requeue the job at once. SLURM then ends all its processes, including W&B's service before it has
    finished writing the run.

    Args:
        environment: submitit's job environment.
        delay_s: time between the signal and the job's end, in seconds.

    Attributes:
        came: whether the signal has been received.
    """

    def __init__(self, environment: Any, delay_s: int) -> None:
        self.came = False
        self._number = getattr(signal, f"SIG{environment.USR_SIG}")
        self._answer: Any = signal.getsignal(self._number)
        self._close_s = max(1, min(CLOSE_S, delay_s // 2))
        if environment.global_rank == 0:
            signal.signal(self._number, self._stop)

    def _stop(self, number: int, _: object) -> None:
        if self.came:
            return
        self.came = True
        # After that many seconds, pass the signal on even if the experiment is still waiting for something.
        signal.signal(signal.SIGALRM, lambda *_: self.pass_on())
        signal.alarm(self._close_s)
        raise SystemExit(128 + number)

    def pass_on(self) -> None:
        """Let submitit requeue the job and exit.

        Raises:
            SystemExit: if the job is requeued.
            UncompletedJobError: if it is not, because it has timed out too often.
        """
        signal.alarm(0)
        self._answer(self._number, None)


class PackedLauncher(BaseSubmititLauncher):  # type: ignore[misc]
    """Runs experiments in packs, one pack per job; a killed job does not affect the others.

    Args:
        experiments_per_job: number of experiments per job, at least 1.
        stack: whether a job trains its experiments as one stack where possible; else one after the other.
        max_array_size: maximum number of jobs submitted with one command, at least 1.
        params: submitit's settings, as in ``hydra_plugins.hydra_submitit_launcher.config``.
    """

    # Tells the sweepers that this launcher supports experiments_per_job.
    packs = True
    # Seconds to wait for a result, which a shared file system may show late.
    _RESULT_S = 15.0

    def __init__(
        self, *, experiments_per_job: int = 1, stack: bool = True, max_array_size: int = 1000, **params: Any
    ) -> None:
        super().__init__(**params)
        self._per_job, self._stack, self._array = experiments_per_job, stack, max_array_size
        # By experiment number: the outcomes, and the experiments that were started but have not ended.
        self._done: dict[int, JobReturn] = {}
        self._begun: set[int] = set()
        # The run folders of the experiments in the current stack.
        self._folders: dict[int, Path] = {}

    @property
    def tasks(self) -> int | None:
        """The number of processes per job on another machine; None if jobs run on this one."""
        return None

    @property
    def most_in_stack(self) -> int:
        """The maximum number of experiments that a job trains as one."""
        return max(1, self._per_job) if self._stack else 1

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit all experiments and wait for all jobs.

        Args:
            job_overrides: overrides of each experiment.
            initial_job_idx: number of the first experiment.

        Returns:
            The outcome of each experiment, in their order. Experiments that a killed job did not finish have failed,
            with an exception that names the job.

        Raises:
            DeepSADError: if the launcher's settings are invalid, or the jobs cannot be submitted.
            SystemExit: if a signal interrupts it; the jobs are cancelled first.
        """
        if problems := self._problems():
            raise DeepSADError(*problems)
        numbered = list(enumerate(map(list, job_overrides), initial_job_idx))
        packs = [numbered[i : i + self._per_job] for i in range(0, len(numbered), self._per_job)]
        jobs: list[Any] = []
        with signals_exit():
            try:
                return list(itertools.chain.from_iterable(self._run(packs, jobs)))
            except BaseException as stop:
                # Nobody would collect the results of an unfinished job.
                _cancel(jobs)
                if isinstance(stop, Exception):
                    raise
                console.print(f"interrupted: {_names(jobs)} cancelled; the same command resumes them")
                raise SystemExit(getattr(stop, "code", 1)) from None

    def _problems(self) -> list[str]:
        numbers = {"experiments_per_job": self._per_job, "max_array_size": self._array}
        return [f"hydra.launcher.{key} is {value}; it must be >= 1" for key, value in numbers.items() if value < 1]

    def _room(self, running: int) -> int:
        """The number of jobs that may be submitted now."""
        return self._array

    def _run(self, packs: Sequence[Pack], jobs: list[Any]) -> list[list[JobReturn]]:
        """Submit the packs and wait for them.

        Args:
            packs: the experiments of each job.
            jobs: filled with the submitted jobs, one per pack.

        Returns:
            The outcomes of the experiments of each pack.
        """
        executor = self._executor()
        found: dict[int, list[JobReturn]] = {}
        ended: dict[int, float] = {}
        while len(found) < len(packs):
            while (begun := len(jobs)) < len(packs) and (room := self._room(begun - len(found))) > 0:
                chunk = packs[begun : begun + min(room, self._array)]
                jobs += self._submit(executor, chunk)
                if len(jobs) == len(packs):
                    console.print(f"{_names(jobs)} submitted; logs in {Path(self.params['submitit_folder']).parent}")
            for index, job in enumerate(jobs):
                if index not in found and self._has_ended(job):
                    waited = time.monotonic() - ended.setdefault(index, time.monotonic())
                    if job.paths.result_pickle.exists() or waited >= self._RESULT_S:
                        found[index] = _returns(job, packs[index])
            if len(found) < len(packs):
                # Checking thousands of files takes time.
                time.sleep(max(0.5, 0.002 * len(jobs)))
        return [found[index] for index in range(len(packs))]

    def _has_ended(self, job: Any) -> bool:
        """Whether a submitit job has written its result, or will never write one."""
        return bool(job.done())

    def _executor(self) -> Any:
        # Imported only when jobs are submitted, since every command imports this module.
        import submitit

        # These settings are for the executor's constructor, the others for submitit's update_parameters.
        own = {"folder": self.params["submitit_folder"]}
        if "max_num_timeout" in self.params:
            own[f"{self._EXECUTOR}_max_num_timeout"] = self.params["max_num_timeout"]
        shared = set(OmegaConf.structured(BaseQueueConf).keys())
        rest = {key: value for key, value in self.params.items() if key not in ("submitit_folder", "max_num_timeout")}
        try:
            executor = submitit.AutoExecutor(cluster=self._EXECUTOR, **own)
            executor.update_parameters(
                **{key if key in shared else f"{self._EXECUTOR}_{key}": value for key, value in rest.items()}
            )
        except (RuntimeError, ValueError, NameError) as error:
            raise DeepSADError(f"hydra/launcher cannot submit jobs here ({error}); choose another one") from error
        return executor

    def _submit(self, executor: Any, packs: Sequence[Pack]) -> list[Any]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        states = [Singleton.get_state()] * len(packs)
        try:
            jobs = executor.map_array(self, packs, states)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise DeepSADError(f"the jobs cannot be submitted ({_last_line(error)}); correct hydra.launcher") from error
        # Only the first task's result counts: it writes the record.
        return [job.task(0) for job in jobs]

    def __call__(self, pack: Pack, singleton_state: Mapping[type, Singleton]) -> dict[int, JobReturn]:
        """Run a pack inside the job.

        Args:
            pack: the numbers and the overrides of experiments.
            singleton_state: Hydra's singletons in the submitting process.

        Returns:
            The outcome of each experiment, by its number.
        """
        from submitit import JobEnvironment
        from submitit.core.utils import UncompletedJobError

        environment = JobEnvironment()
        warning = _Warning(environment, self.params.get("signal_delay_s", 2 * CLOSE_S))
        partial = _partial(environment.paths) if len(pack) > 1 and environment.global_rank == 0 else None
        left = [(number, overrides) for number, overrides in pack if number not in self._done]
        try:
            if self._stack and len(left) > 1:
                left = self._run_stacks(left, singleton_state, warning, partial)
            for number, overrides in left:
                self._begun = {number}
                done = super().__call__(overrides, "hydra.sweep.dir", number, f"job_id_for_{number}", singleton_state)
                if warning.came and done.status != JobStatus.COMPLETED:
                    break
                self._keep({number: done}, partial)
                if warning.came:
                    break
        except SystemExit:
            if not warning.came:
                raise
        if warning.came and len(self._done) < len(pack):
            # submitit raises this if it does not requeue the job; the remaining experiments are reported as timed out.
            with suppress(UncompletedJobError):
                warning.pass_on()
        return self._done

    def _run_stacks(
        self, pack: Pack, singleton_state: Mapping[type, Singleton], warning: _Warning, partial: Path | None
    ) -> Pack:
        """Train stackable experiments in stacks; return the experiments that must run alone, if there is time left."""
        import_lightning()
        from deepsad_pl.sweep.launch import Stacker
        from deepsad_pl.sweep.outcomes import job_return

        Singleton.set_state(singleton_state)
        setup_globals()
        stacker = Stacker(
            self.hydra_context.config_loader, self.config.hydra, self.task_function, max_replicas=None, processes=1
        )
        stacks, rest = stacker.plan([overrides for _, overrides in pack])
        for stack in stacks:
            self._begun = {pack[item.index][0] for item in stack}
            self._folders = {pack[item.index][0]: item.plan.run_dir for item in stack}
            returns = {pack[i][0]: job_return(pack[i][1], result) for i, result in stacker.run([stack]).items()}
            if warning.came:
                # Experiments stopped by the signal have not ended.
                self._keep({n: done for n, done in returns.items() if done.status == JobStatus.COMPLETED}, partial)
                return []
            self._keep(returns, partial)
        return [pack[i] for i in rest]

    def _keep(self, returns: Mapping[int, JobReturn], partial: Path | None) -> None:
        """Remember the outcomes of experiments, also in a file in case the job is killed."""
        import cloudpickle  # type: ignore[import-untyped]

        from deepsad_pl.sweep.worker import portable

        for done in returns.values():
            done._return_value = portable(done._return_value)
        self._done |= returns
        self._begun -= returns.keys()
        if partial is not None:
            write_atomic(partial, cloudpickle.dumps(self._done))

    def checkpoint(self, pack: Pack, singleton_state: Mapping[type, Singleton]) -> Any:
        """The rest of the pack, which submitit submits when the job has timed out or was preempted."""
        from submitit.helpers import DelayedSubmission

        left = [(number, _goes_on(line) if self._has_begun(number) else line) for number, line in pack]
        return DelayedSubmission(self, left, singleton_state)

    def _has_begun(self, number: int) -> bool:
        """Whether an experiment was started. In a stack, it was not if the record that it replaces still exists."""
        folder = self._folders.get(number)
        return number in self._begun and (folder is None or not (folder / RECORD).exists())


class LocalLauncher(PackedLauncher):
    """Runs jobs as processes on this machine.

    Args:
        array_parallelism: number of simultaneous jobs; None: the number of CPU cores available to this process.
        params: see :class:`PackedLauncher`.
    """

    _EXECUTOR = "local"
    # The files are local, so results appear at once.
    _RESULT_S = 0.0

    def __init__(self, *, array_parallelism: int | None = None, **params: Any) -> None:
        super().__init__(**params)
        self._parallel = array_parallelism

    @property
    def processes(self) -> int:
        """The number of experiments that run in parallel on this machine."""
        # Imported here, since Hydra imports this module for each command, even --help.
        import joblib

        return self._parallel or int(joblib.cpu_count())

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if (tasks := self.params["tasks_per_node"] * self.params["nodes"]) != 1:
            problems.append(
                f"hydra.launcher starts {tasks} tasks per job, but on this machine an experiment has one; set "
                "hydra.launcher.tasks_per_node=1 and hydra.launcher.nodes=1"
            )
        return problems

    def _room(self, running: int) -> int:
        return self.processes - running


class SlurmLauncher(PackedLauncher):
    """Runs jobs on SLURM, in job arrays."""

    _EXECUTOR = "slurm"
    _asked_again = -math.inf

    @property
    def tasks(self) -> int:
        """The number of processes that SLURM starts per job."""
        return int(self.params["tasks_per_node"] * self.params["nodes"])

    def _has_ended(self, job: Any) -> bool:
        if not super()._has_ended(job):
            return False
        if job.paths.result_pickle.exists() or job.state.upper() not in _PAUSED:
            return True
        # submitit considers the job finished, and would not query its state again.
        if time.monotonic() - self._asked_again > _ASK_AGAIN_S:
            self._asked_again = time.monotonic()
            job.watcher.clear()
        return False

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.tasks > 1 and self._per_job > 1:
            problems.append(
                f"experiments_per_job is {self._per_job}, but an experiment over {self.tasks} tasks fills its job; set "
                "experiments_per_job=1 or use one device per experiment"
            )
        return problems


def _returns(job: Any, pack: Pack) -> list[JobReturn]:
    """The outcomes of a job's experiments.

    Args:
        job: a submitit job that has ended.
        pack: the experiments that it ran.
    """
    done: dict[int, JobReturn] = {}
    try:
        if job.paths.result_pickle.exists():
            done = job.result()
            error: Exception = DeepSADError(f"job {job.job_id} ran out of time; the same command resumes it")
        else:
            if (partial := _partial(job.paths)).exists():
                done = pickle.loads(partial.read_bytes())
            error = DeepSADError(
                f"job {job.job_id} ended without a result (state {job.state}); the same command resumes it, and its "
                f"log is {job.paths.stderr}"
            )
    except Exception as unreadable:
        # Either submitit's error with the job's traceback, or the error of loading the result.
        error = unreadable
    return [
        done.get(number) or JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
        for number, overrides in pack
    ]


def _partial(paths: Any) -> Path:
    """The file in which a job stores the outcomes of its finished experiments.

    Args:
        paths: submitit's paths of the job.
    """
    return Path(paths.folder) / f"{paths.job_id}_returns.pkl"


def _goes_on(overrides: list[str]) -> list[str]:
    """The overrides with which a forced experiment is resumed, without starting it again."""
    forced = [line for line in overrides if line.lstrip("+").startswith("force=")]
    return [*(line for line in overrides if line not in forced), *(["force=false"] if forced else [])]


def _cancel(jobs: Sequence[Any]) -> None:
    """Cancel the jobs that have not ended."""
    for job in jobs:
        if not job.done():
            job.cancel(check=False)


def _names(jobs: Sequence[Any]) -> str:
    """``3 jobs (7)`` for a message: their number, and the IDs of their arrays."""
    if not jobs:
        return "no job"
    arrays = ", ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
    return f"{counted(len(jobs), 'job')} ({arrays})"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
