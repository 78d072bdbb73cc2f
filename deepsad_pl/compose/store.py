"""Register the types of the configuration with Hydra. Does not import torch, to keep ``--help`` and completion fast."""

from textwrap import fill

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.settings.about import own
from deepsad_pl.settings.schema import GROUP_CONFIGS, SweepConfig, TrainConfig

# Of the help's lines.
_WIDTH, _INDENT = 108, " " * 10


def _choices(group: str) -> str:
    """The package's own options of a group, as the help shows them."""
    return fill(", ".join(own(group)), width=_WIDTH, subsequent_indent=_INDENT, break_on_hyphens=False)


def register() -> None:
    """Add the types to Hydra's config store, and the options to its help."""
    OmegaConf.register_new_resolver("choices", _choices, replace=True)
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
