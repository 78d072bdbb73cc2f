"""``hydra/launcher=stacked``: train compatible experiments together in stacks, and run the others as usual."""

import os
from collections.abc import Mapping, Sequence

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from deepsad_pl.common.worker_end import end_with_the_sweep

# A larger number of processes is a slip of the keyboard.
MOST_PROCESSES = 1024


class StackedLauncher(Launcher):
    """Groups the jobs of a sweep into stacks and trains each stack as one.

    Args:
        max_replicas: maximum number of experiments in a stack; None: as many as the memory allows, and on a CPU none
            of networks for images of which a batch has more pixels than
            :data:`~deepsad_pl.stacked.grouping.MOST_PIXELS_ON_CPU`, since such a stack is often slower.
        n_jobs: number of parallel processes for stacks and for jobs that cannot be stacked; None: one on a GPU, else
            one per CPU core. The processes share the cores.
    """

    def __init__(self, *, max_replicas: int | None = None, n_jobs: int | None = None) -> None:
        self._most, self._n_jobs = max_replicas, n_jobs
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the objects that Hydra passes to a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @property
    def processes(self) -> int:
        """The number of stacks that are trained in parallel.

        Raises:
            DeepSADError: if ``n_jobs`` is invalid.
        """
        if self._n_jobs is not None:
            import joblib

            from deepsad_pl.common.errors import DeepSADError

            if not isinstance(self._n_jobs, int) or self._n_jobs == 0 or abs(self._n_jobs) > MOST_PROCESSES:
                raise DeepSADError(
                    f"hydra.launcher.n_jobs is {self._n_jobs}; it must be a whole number from 1 to "
                    f"{MOST_PROCESSES}, -1 for all cores, or null"
                )
            return int(joblib.effective_n_jobs(self._n_jobs))
        assert self.config is not None
        accelerator = str(self.config.trainer.accelerator)
        if accelerator != "cpu":
            import torch

            if accelerator == "gpu" or torch.cuda.is_available():
                return 1
        return self._on_cpu

    @property
    def planned_processes(self) -> int:
        """As :attr:`processes`, but determined without torch, for a plan that trains nothing.

        Raises:
            DeepSADError: if ``n_jobs`` is invalid.
        """
        from deepsad_pl.common.gpus import driver_has_gpu

        assert self.config is not None
        accelerator = str(self.config.trainer.accelerator)
        on_gpu = accelerator == "gpu" or (accelerator == "auto" and driver_has_gpu())
        return 1 if self._n_jobs is None and on_gpu else self._on_cpu

    @property
    def most_in_stack(self) -> int:
        """The maximum number of experiments in a stack on a CPU, if the memory allows it."""
        from deepsad_pl.stacked.grouping import MOST_ON_CPU

        return self._most if isinstance(self._most, int) and self._most >= 1 else MOST_ON_CPU

    @property
    def _on_cpu(self) -> int:
        if self._n_jobs is not None:
            return self.processes
        import joblib

        return int(joblib.cpu_count())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs.

        Args:
            job_overrides: overrides of each job.
            initial_job_idx: number of the first job.

        Returns:
            The outcome of each job, in their order.

        Raises:
            DeepSADError: if the launcher's settings are invalid.
        """
        from deepsad_pl.compose.composer import composer_of
        from deepsad_pl.sweep.outcomes import finished_before, job_return, show_job
        from deepsad_pl.training.fast_import import import_lightning

        assert self.config is not None and self.hydra_context is not None
        setup_globals()
        hydra = self.config.hydra
        composer = composer_of(self.hydra_context.config_loader, hydra.job.config_name, hydra.overrides.hydra)
        if (finished := finished_before(composer, job_overrides)) is not None:
            for index, outcome in enumerate(finished):
                show_job(index, job_overrides[index], outcome)
            return [job_return(job, outcome) for job, outcome in zip(job_overrides, finished, strict=True)]
        import_lightning()
        from deepsad_pl.sweep.launch import Stacker

        stacker = Stacker(
            self.hydra_context.config_loader,
            self.config.hydra,
            self.task_function,
            max_replicas=self._most,
            processes=self.processes,
        )
        packs, rest = stacker.plan([list(job) for job in job_overrides])
        done = stacker.run(packs)
        done |= stacker.run(stacker.in_turn(self._on_cpu), processes=self._on_cpu, in_turn=True)
        returns = {index: job_return(job_overrides[index], result) for index, result in done.items()}
        # Shallow methods do not use a GPU.
        on_cpu = [index for index in rest if index in stacker.shallow and index not in done]
        others = [index for index in rest if index not in stacker.shallow]
        for indices, processes in ((on_cpu, self._on_cpu), (others, self.processes)):
            jobs = {index: job_overrides[index] for index in indices}
            # In a study, an experiment may kill its process, so it must not run in this one.
            processes = processes if stacker.of_study else min(processes, len(jobs))
            returns |= self._launch_usual(jobs, initial_job_idx, processes)
        return [returns[index] for index in range(len(job_overrides))]

    def _launch_usual(
        self, jobs: Mapping[int, Sequence[str]], initial_job_idx: int, processes: int
    ) -> dict[int, JobReturn]:
        """Run jobs that cannot be stacked, each with its own job number, which Hydra's launchers would not keep."""
        if not jobs:
            return {}
        import joblib
        from hydra_plugins.hydra_joblib_launcher._core import execute_job

        shared = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        run = joblib.delayed(execute_job)
        returns = joblib.Parallel(n_jobs=processes, initializer=end_with_the_sweep, initargs=(os.getpid(),))(
            run(initial_job_idx + index, overrides, *shared) for index, overrides in jobs.items()
        )
        return dict(zip(jobs, returns, strict=True))
