"""``hydra/sweeper=optuna``: Hydra's Optuna sweeper with our checks, its files in the output folder, and a warning."""

import copy
import hashlib
import logging
import traceback
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from deepsad_pl.common.signals import signals_exit

log = logging.getLogger("deepsad_pl.optuna")


class OptunaSweeper(Sweeper):
    """Searches for the settings with the highest AUROC; a repeated command takes finished trials from their records.

    Args:
        n_trials: number of trials in all.
        n_jobs: number of trials that are drawn and launched together.
        sampler: Optuna's sampler.
        study_name: name of the folder for the results; None: a hash of the command.
        params: the search space, by setting, in addition to the command line.
    """

    def __init__(self, n_trials: int, n_jobs: int, sampler: Any, study_name: str | None, params: Any) -> None:
        self._n_trials, self._n_jobs, self._sampler = n_trials, n_jobs, sampler
        self._name, self._params = study_name, params
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the objects that Hydra passes to a sweeper, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @signals_exit()
    def sweep(self, arguments: list[str]) -> None:
        """Check the ends of the search space, run the trials and write the best settings.

        Raises:
            CommandLineError: before any work if the search is invalid or the plugin is missing; if a trial failed,
                after those that were launched with it.
        """
        from deepsad_pl.common.errors import DeepSADError
        from deepsad_pl.common.messages import CommandLineError, set_up_logging
        from deepsad_pl.common.os_errors import in_sentences
        from deepsad_pl.compose.composer import composer_of
        from deepsad_pl.sweep.decisive import is_decisive
        from deepsad_pl.sweep.optuna_trials import WARNING, Trials, corners, search_problems, write_trials

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        hydra, loader = self.config.hydra, self.hydra_context.config_loader
        words = [*(f"{key}={value}" for key, value in (self._params or {}).items()), *arguments]
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(words)
        trials = Trials(self.launcher, composer_of(loader, hydra.job.config_name, hydra.overrides.hydra))
        decisive = "\n".join(sorted(filter(is_decisive, words)))
        name = self._name or hashlib.sha256(decisive.encode()).hexdigest()[:8]
        folder = Path(self.config.output_dir) / "optuna" / name
        search = self._search(folder, trials)
        try:
            if problems := list(search_problems(hydra.sweeper, hydra.job.config_name, overrides)):
                raise DeepSADError(*problems)
            trials.check(corners(overrides))
            with in_sentences():
                folder.mkdir(parents=True, exist_ok=True)
                set_up_logging(True)
                log.warning("%s", WARNING)
                search.sweep(arguments)
                varied = [o.get_key_element() for o in overrides if o.is_sweep_override()]
                log.info("%s", write_trials(folder, varied, trials))
        except DeepSADError as error:
            raise CommandLineError(str(error)) from None
        except Exception:
            if not trials.failed:
                raise
            for _, failure in trials.failed:
                if not isinstance(failure, CommandLineError):  # not a user error: show the traceback
                    traceback.print_exception(failure)
            raise CommandLineError(trials.told()) from None

    def _search(self, folder: Path, launcher: Launcher) -> Any:
        """Hydra's own sweeper, which writes into a folder of ours.

        Raises:
            CommandLineError: if it is not installed.
        """
        from deepsad_pl.common.messages import CommandLineError

        try:
            import optuna
            from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
        except ImportError as error:
            raise CommandLineError(
                f"hydra/sweeper=optuna needs hydra-optuna-sweeper 1.3 ({error}); run pip install 'deepsad-pl[optuna]', "
                "or leave it out for a grid"
            ) from None
        optuna.logging.set_verbosity(logging.WARNING)
        # We report failed trials ourselves.
        logging.getLogger(OptunaSweeperImpl.__module__).setLevel(logging.CRITICAL)
        # The study is kept in memory: a repeated command draws the same trials and finds them in their records.
        search = OptunaSweeperImpl(
            sampler=self._sampler,
            direction="maximize",
            storage=None,
            study_name=None,
            n_trials=self._n_trials,
            n_jobs=self._n_jobs,
            max_failure_rate=0.0,
            search_space=None,
            custom_search_space=None,
            params=self._params,
        )
        config = copy.deepcopy(self.config)
        assert config is not None
        config.hydra.sweep.dir = str(folder)
        search.config, search.hydra_context, search.launcher = config, self.hydra_context, launcher
        return search
