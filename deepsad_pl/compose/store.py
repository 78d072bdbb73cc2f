"""Register the types of the configuration with Hydra. Does not import torch, to keep ``--help`` and completion fast."""

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.settings.schema import GROUP_CONFIGS, SweepConfig, TrainConfig


def register() -> None:
    """Add the types to Hydra's config store."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=_with_open_loggers(TrainConfig))
    store.store(group="schema", name="sweep", node=_with_open_loggers(SweepConfig))
    for group, configs in GROUP_CONFIGS.items():
        for name, node in configs.items():
            store.store(group=f"schema/{group}", name=name, node=node)


def _with_open_loggers(kind: type[TrainConfig]) -> DictConfig:
    """The type with a group ``logger`` that accepts any key; keys that are not loggers are rejected later."""
    config: DictConfig = OmegaConf.structured(kind)
    config._get_node("logger")._set_flag("struct", False)  # type: ignore[union-attr]
    return config
