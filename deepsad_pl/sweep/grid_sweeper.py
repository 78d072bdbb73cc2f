"""Hydra's grid sweep, extended: all jobs are checked before the first one starts, and a table is shown at the end."""

import traceback

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.signals import signals_exit


class GridSweeper(BasicSweeper):
    """Runs the product of all comma lists; if a job fails, the others still run and the sweep fails at the end."""

    def __init__(self) -> None:
        # Not BasicSweeper's own constructor, which looks its class up by name: Hydra defines that class anew for each
        # command in a process.
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    @signals_exit()
    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Check all jobs, launch them and show the table.

        Raises:
            CommandLineError: before any work if a job's configuration is invalid; at the end if a job failed.
        """
        from deepsad_pl.common.messages import CommandLineError, first_line
        from deepsad_pl.experiment.show_outcome import show_sweep

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        self._check_packing()
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        if between := [str(o.input_line) for o in overrides if o.is_interval_sweep()]:
            raise CommandLineError(
                f"{', '.join(between)}: a grid has single values; list them, or search with hydra/sweeper=optuna"
            )
        swept = [o.get_key_element() for o in overrides if o.is_sweep_override()]
        (jobs,) = self.split_arguments(overrides, None)
        if not jobs:
            empty = [str(o.input_line) for o in overrides if o.is_discrete_sweep() and not [*o.sweep_iterator()]]
            raise CommandLineError(f"{', '.join(empty)} has no value, so there is nothing to run")
        # The same value twice is no further seed.
        jobs = [list(job) for job in dict.fromkeys(map(tuple, jobs))]
        self._check(jobs)

        try:
            with in_sentences():
                returns = list(self.launcher.launch(jobs, initial_job_idx=0))
        except DeepSADError as error:
            raise CommandLineError(str(error)) from None
        values = [dict(override.split("=", 1) for override in job) for job in jobs]
        rows = [
            ({key: job[key] for key in swept}, float(done._return_value) if _completed(done) else None)
            for job, done in zip(values, returns, strict=True)
        ]
        if swept:
            show_sweep(rows)
        failed = [(job, done) for job, done in zip(jobs, returns, strict=True) if not _completed(done)]
        for _, done in failed:
            if not isinstance(done._return_value, CommandLineError):  # not a user error: show the traceback
                traceback.print_exception(done._return_value)
        if failed:
            lines = [f"  {' '.join(job)}: {first_line(done._return_value)}" for job, done in failed]
            raise CommandLineError("\n".join([f"{len(failed)} of {len(jobs)} jobs failed:", *lines]))
        return returns

    def _check_packing(self) -> None:
        """Refuse ``experiments_per_job`` where the launcher would ignore it.

        Raises:
            CommandLineError: if it is not 1 and the launcher cannot run several experiments per job.
        """
        from deepsad_pl.common.messages import CommandLineError

        asked = OmegaConf.select(self.config, "experiments_per_job", default=1)  # type: ignore[arg-type]
        if asked != 1 and not getattr(self.launcher, "packs", False):
            raise CommandLineError(
                f"experiments_per_job is {asked}, but this hydra/launcher submits no jobs that could hold several; "
                "leave it out, or use hydra/launcher=slurm, submitit_slurm or submitit_local"
            )

    def _check(self, jobs: list[list[str]]) -> None:
        from deepsad_pl.common.messages import CommandLineError
        from deepsad_pl.compose.composer import composer_of

        assert self.hydra_context is not None and self.config is not None
        hydra = self.config.hydra
        composer = composer_of(self.hydra_context.config_loader, hydra.job.config_name, hydra.overrides.hydra)
        problems: dict[str, None] = {}
        for job in jobs:
            try:
                composer.plan(job, tasks=tasks_of(self.launcher))
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise CommandLineError(str(DeepSADError(*problems)))


def tasks_of(launcher: object) -> int | None:
    """The number of processes that a launcher starts per job on another machine; None if jobs run on this one."""
    return getattr(launcher, "tasks", None)


def _completed(done: JobReturn) -> bool:
    return bool(done.status == JobStatus.COMPLETED)
