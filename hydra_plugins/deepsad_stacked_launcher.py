"""``hydra/launcher=stacked``: experiments that can be trained as one are, the others run as usual."""

from collections.abc import Mapping, Sequence

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StackedLauncher(Launcher):
    """Groups the jobs of a sweep and trains each group as one.

    Args:
        max_replicas: how many experiments are trained as one at most; None: what the memory allows.
        n_jobs: how many processes take stacks, and jobs that cannot be stacked, side by side; None: one on a GPU, else
            as many as there are CPU cores, each with its share of them.
    """

    def __init__(self, *, max_replicas: int | None = None, n_jobs: int | None = None) -> None:
        self._most, self._n_jobs = max_replicas, n_jobs
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @property
    def processes(self) -> int:
        """How many stacks are trained side by side.

        Raises:
            DeepSADError: if ``n_jobs`` does not allow it.
        """
        if self._n_jobs is not None:
            import joblib

            from deepsad_pl.common.errors import DeepSADError

            if not isinstance(self._n_jobs, int) or self._n_jobs == 0:
                raise DeepSADError(
                    f"hydra.launcher.n_jobs is {self._n_jobs}; give a whole number >= 1, -1 for all cores, or null"
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
        """As :attr:`processes`, told without torch, for a plan that trains nothing.

        Raises:
            DeepSADError: if ``n_jobs`` does not allow it.
        """
        from deepsad_pl.common.gpus import driver_has_gpu

        assert self.config is not None
        accelerator = str(self.config.trainer.accelerator)
        on_gpu = accelerator == "gpu" or (accelerator == "auto" and driver_has_gpu())
        return 1 if self._n_jobs is None and on_gpu else self._on_cpu

    @property
    def _on_cpu(self) -> int:
        if self._n_jobs is not None:
            return self.processes
        import joblib

        return int(joblib.cpu_count())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs.

        Args:
            job_overrides: of each job.
            initial_job_idx: number of the first one.

        Returns:
            What became of each job, in their order.

        Raises:
            DeepSADError: if the launcher's settings do not allow it.
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
        returns = {index: job_return(job_overrides[index], result) for index, result in done.items()}
        # Shallow methods leave a GPU alone.
        on_cpu = [index for index in rest if index in stacker.shallow]
        others = [index for index in rest if index not in stacker.shallow]
        for indices, processes in ((on_cpu, self._on_cpu), (others, self.processes)):
            jobs = {index: job_overrides[index] for index in indices}
            # In a study an experiment may be under suspicion of having killed a process: never this one then.
            processes = processes if stacker.of_study else min(processes, len(jobs))
            returns |= self._launch_usual(jobs, initial_job_idx, processes)
        return [returns[index] for index in range(len(job_overrides))]

    def _launch_usual(
        self, jobs: Mapping[int, Sequence[str]], initial_job_idx: int, processes: int
    ) -> dict[int, JobReturn]:
        """Run jobs that cannot be stacked, each under its own number, which a launcher of Hydra's would not keep."""
        if not jobs:
            return {}
        import joblib
        from hydra_plugins.hydra_joblib_launcher._core import execute_job

        shared = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        run = joblib.delayed(execute_job)
        returns = joblib.Parallel(n_jobs=processes)(
            run(initial_job_idx + index, overrides, *shared) for index, overrides in jobs.items()
        )
        return dict(zip(jobs, returns, strict=True))
