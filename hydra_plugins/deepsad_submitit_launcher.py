"""Where Hydra finds our submitit launchers, also behind the names of the plugin that they stand on."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from hydra_plugins._deepsad_submitit import LocalLauncher, PackedLocalConf, PackedSlurmConf, SlurmLauncher

__all__ = ["LauncherNames", "LocalLauncher", "SlurmLauncher"]


class LauncherNames(SearchPathPlugin):
    """Puts our launchers behind the names of the plugin's, as soon as that has registered its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called when all plugins are loaded, in whatever order they were found."""
        for name, node in (("submitit_slurm", PackedSlurmConf), ("submitit_local", PackedLocalConf)):
            ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="deepsad_pl")
