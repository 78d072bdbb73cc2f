"""The Hydra sweeper of a study: passes exactly the missing experiments to the configured launcher."""

import copy
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from deepsad_pl.common.signals import signals_exit
from deepsad_pl.sweep.grid_sweeper import GridSweeper, tasks_of

if TYPE_CHECKING:
    from deepsad_pl.study.study import StudyRun

_LAUNCHER = "hydra/launcher"


class StudySweeper(GridSweeper):
    """Runs the missing experiments of a study and reports it; without a study, sweeps the product of comma lists."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the jobs use the configuration of ``train.py``, without output where a study shows its own progress."""
        from deepsad_pl.study.study import study_folder
        from deepsad_pl.sweep.job import run_study_job

        self._asked = config
        master = copy.deepcopy(config)
        with open_dict(master):
            hydra = master.hydra
            hydra.job.config_name = "train"
            chosen = any(line.startswith((f"{_LAUNCHER}=", "hydra.launcher.")) for line in hydra.overrides.hydra)
            if not chosen and config.study is None:
                # One after the other, each with its own progress bar, as in train.py -m.
                hydra.launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
            elif not any(line.startswith(f"{_LAUNCHER}=") for line in hydra.overrides.hydra):
                hydra.overrides.hydra.insert(0, f"{_LAUNCHER}={hydra.runtime.choices[_LAUNCHER]}")
            hydra.overrides.hydra.append("hydra.mode=MULTIRUN")
        if config.study is not None:
            failures = study_folder(config.output_dir, config.study.name) / "failures"
            task_function = partial(run_study_job, failures.absolute(), os.getpid())
        self.hydra_context, self.config = hydra_context, master
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=master
        )

    @signals_exit()
    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Carry out ``action``.

        Raises:
            CommandLineError: before any work if the command is invalid; at the end if an experiment is not finished.
        """
        from deepsad_pl.common.errors import DeepSADError
        from deepsad_pl.common.messages import CommandLineError
        from deepsad_pl.common.os_errors import in_sentences
        from deepsad_pl.study.command_line import is_own, own_sweeps

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        if problems := list(own_sweeps(overrides)):
            raise CommandLineError(str(DeepSADError(*problems)))
        if self._asked.study is None:
            if self._asked.action != "run" or self._asked.dry_run:
                raise CommandLineError(
                    f"action={self._asked.action} dry_run={self._asked.dry_run} is for a study, but none is named; add "
                    "study=..."
                )
            if figure := [str(o.input_line) for o in overrides if o.key_or_group.startswith("figure.")]:
                raise CommandLineError(f"{' '.join(figure)} is for a study, but none is named; add study=...")
            return super().sweep([str(o.input_line) for o in overrides if not is_own(o)])
        if self._asked.action == "run":
            self._check_packing()
        try:
            with in_sentences():
                self._study(arguments).act(self._asked.action, dry_run=self._asked.dry_run)
        except DeepSADError as error:
            raise CommandLineError(str(error)) from None
        return []

    def _study(self, arguments: Sequence[str]) -> "StudyRun":
        from deepsad_pl.common.errors import DeepSADError
        from deepsad_pl.common.figure_format import FigureFormat
        from deepsad_pl.compose.composer import composer_of
        from deepsad_pl.compose.strict import searching_too
        from deepsad_pl.study.command_line import held_back
        from deepsad_pl.study.study import StudyRun

        assert self.hydra_context is not None and self.launcher is not None
        hydra_words = list(self._asked.hydra.overrides.hydra)
        loader = searching_too(self.hydra_context.config_loader, hydra_words)
        asked = OmegaConf.to_container(self._asked.study, resolve=True)
        name, choice = self._asked.study.name, self._asked.hydra.runtime.choices["study"]
        if name != choice and name in loader.get_group_options("study"):
            raise DeepSADError(
                f"study.name is {name}, but study={choice} was chosen, and their results would come into one table; "
                "give it a unique name"
            )
        whole = loader.load_configuration("sweep", [f"study={choice}"], run_mode=self._asked.hydra.mode)
        assert isinstance(asked, dict)
        return StudyRun(
            asked={str(key): value for key, value in asked.items()},
            whole=OmegaConf.to_container(whole.study, resolve=True),  # type: ignore[arg-type]
            arguments=[*arguments, *held_back],
            composer=composer_of(self.hydra_context.config_loader, None, hydra_words),
            output_dir=self._asked.output_dir,
            processes=self._processes(),
            tasks=tasks_of(self.launcher),
            launch=self._launch,
            most_in_stack=getattr(self.launcher, "most_in_stack", 1),
            form=FigureFormat(**self._asked.figure),
            port=self._asked.port,
        )

    def _processes(self) -> int | None:
        """The number of experiments that run in parallel on this machine; None if the launcher decides."""
        # Import torch, which alone knows reliably which GPUs it can use, only if something will be trained.
        trains = self._asked.action == "run" and not self._asked.dry_run
        for name in ("processes",) if trains else ("planned_processes", "processes"):
            if (told := getattr(self.launcher, name, None)) is not None:
                return int(told)
        # Hydra's own launchers do not provide this number.
        target = str(self._asked.hydra.launcher._target_)
        if target.endswith("JoblibLauncher"):
            import joblib

            return int(joblib.effective_n_jobs(self._asked.hydra.launcher.n_jobs))
        return 1 if target.endswith("BasicLauncher") else None

    def _launch(self, jobs: Sequence[Sequence[str]]) -> list[Any]:
        """Run the jobs and return, for each, its return value or the exception it failed with."""
        assert self.launcher is not None
        returns = self.launcher.launch([list(job) for job in jobs], initial_job_idx=0)
        return [done._return_value for done in returns]
