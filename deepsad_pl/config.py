"""The types of the configuration in Hydra's store. No torch in this module: ``--help`` and completion stay fast."""

from collections.abc import Mapping

from hydra.core.config_store import ConfigStore

from deepsad_pl.schema import (
    METHOD_CONFIGS,
    PRETRAIN_CONFIGS,
    ImageFolderConfig,
    ImagesConfig,
    LoggerConfig,
    RecipeConfig,
    ScenarioConfig,
    StudyConfig,
    SweepConfig,
    TableConfig,
    TrainConfig,
    TrainerConfig,
    WandbConfig,
)


def register() -> None:
    """Make the types known to Hydra."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig)
    store.store(group="schema", name="sweep", node=SweepConfig)
    nodes: dict[str, Mapping[str, type]] = {
        "dataset": {"images": ImagesConfig, "image_folder": ImageFolderConfig, "table": TableConfig},
        "scenario": {"base": ScenarioConfig},
        "recipe": {"base": RecipeConfig},
        "pretrain": PRETRAIN_CONFIGS,
        "method": METHOD_CONFIGS,
        "trainer": {"base": TrainerConfig},
        "study": {"base": StudyConfig},
        "logger": {"base": LoggerConfig, "wandb": WandbConfig},
    }
    for group, configs in nodes.items():
        for name, node in configs.items():
            store.store(group=f"schema/{group}", name=name, node=node)
