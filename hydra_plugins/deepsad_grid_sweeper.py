"""Hydra's grid sweep with what experiments need: all jobs checked before the first starts, a table at the end."""

import traceback
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import open_dict

from deepsad_pl.errors import DeepSADError
from deepsad_pl.plan import make_plan


class GridSweeper(BasicSweeper):
    """Runs the product of all comma lists; one failing job stops no other, and the sweep then fails."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=None, params=None)

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Check all jobs, launch them, show the table.

        Raises:
            CommandLineError: before any work if a job's configuration is wrong; at the end if a job failed.
        """
        from deepsad_pl.cli import CommandLineError
        from deepsad_pl.tables import show_sweep

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        swept = [o.get_key_element() for o in overrides if o.is_sweep_override()]
        (jobs,) = self.split_arguments(overrides, None)
        self._check(jobs)

        try:
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
            if not isinstance(done._return_value, CommandLineError):  # not the user's fault: show where
                traceback.print_exception(done._return_value)
        if failed:
            lines = [f"  {' '.join(job)}: {_first_line(done._return_value)}" for job, done in failed]
            raise CommandLineError("\n".join([f"{len(failed)} of {len(jobs)} jobs failed:", *lines]))
        return returns

    def _check(self, jobs: list[list[str]]) -> None:
        from deepsad_pl.cli import CommandLineError, to_settings

        assert self.config is not None and self.hydra_context is not None
        problems: dict[str, None] = {}
        for job in jobs:
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, job)
            with open_dict(cfg):
                del cfg["hydra"]
            try:
                make_plan(to_settings(cfg), multirun=True, tasks=tasks_of(self.launcher))
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise CommandLineError(str(DeepSADError(*problems)))


def tasks_of(launcher: object) -> int | None:
    """How many processes a launcher starts for each job, on another machine; None if jobs run on this one."""
    return getattr(launcher, "tasks", None)


def _completed(done: JobReturn) -> bool:
    return bool(done.status == JobStatus.COMPLETED)


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1].strip()}"


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grid",
    node={"_target_": "hydra_plugins.deepsad_grid_sweeper.GridSweeper"},
    provider="deepsad_pl",
)
