"""Where Hydra finds the sweeper that searches with Optuna."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from deepsad_pl.sweep import optuna_sweeper

_CONFIG = {
    "defaults": [{"optional sampler": "tpe"}, "_self_"],
    "_target_": "hydra_plugins.deepsad_optuna_sweeper.OptunaSweeper",
    "sampler": {"seed": 0},
    "n_trials": 20,
    "n_jobs": 1,
    "study_name": None,
    "params": None,
}


class SweeperName(SearchPathPlugin):
    """Registers our sweeper under the plugin's name, once the plugin has registered its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Register the sweeper. Hydra calls this after all plugins are loaded, whatever their order."""
        ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=_CONFIG, provider="deepsad_pl")


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """``hydra/sweeper=optuna``."""
