"""Command lines composed by the loader that refuses unknown keys."""

import copy
from functools import cache
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from deepsad_pl.commands.main import CONF
from deepsad_pl.compose.strict import StrictLoader


@cache
def search_path() -> ConfigSearchPath:
    with initialize_config_dir(CONF, version_base="1.3"):
        path: ConfigSearchPath = GlobalHydra.instance().config_loader().get_search_path()
    return path


def loader(config_dir: Path | None = None) -> StrictLoader:
    path = copy.deepcopy(search_path())
    if config_dir is not None:
        path.prepend(provider="command-line", path=f"file://{config_dir}", anchor="schema")
    return StrictLoader(path)


def problems_of(
    *words: str, name: str = "train", config_dir: Path | None = None, mode: RunMode = RunMode.RUN
) -> list[str]:
    with pytest.raises(ConfigCompositionException) as caught:
        loader(config_dir).load_configuration(name, list(words), mode)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines() if not line.endswith("problems:")]
