"""The types of the configuration in Hydra's store. No torch in this module: ``--help`` and completion stay fast."""

from hydra.core.config_store import ConfigStore

from deepsad_pl.schema import GROUP_CONFIGS, SweepConfig, TrainConfig


def register() -> None:
    """Make the types known to Hydra."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig)
    store.store(group="schema", name="sweep", node=SweepConfig)
    for group, configs in GROUP_CONFIGS.items():
        for name, node in configs.items():
            store.store(group=f"schema/{group}", name=name, node=node)
