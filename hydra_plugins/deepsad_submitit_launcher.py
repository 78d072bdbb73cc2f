"""Registers our submitit launchers with Hydra, under the names of the launchers of the plugin they are based on."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from hydra_plugins._deepsad_submitit import LocalLauncher, PackedLocalConf, PackedSlurmConf, SlurmLauncher

__all__ = ["LauncherNames", "LocalLauncher", "SlurmLauncher"]


class LauncherNames(SearchPathPlugin):
    """Registers our launchers under the plugin's names, once the plugin has registered its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Register the launchers. Hydra calls this after all plugins are loaded, whatever their order."""
        for name, node in (("submitit_slurm", PackedSlurmConf), ("submitit_local", PackedLocalConf)):
            ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="deepsad_pl")
