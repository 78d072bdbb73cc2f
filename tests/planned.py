"""Plans and their problems, composed once for each choice of groups."""

import copy
from functools import cache
from typing import Any

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.cli import CONF, to_settings
from deepsad_pl.errors import DeepSADError
from deepsad_pl.plan import Plan, make_plan

GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())


@cache
def composed(*choices: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", list(choices))


def settings_of(*overrides: str) -> dict[str, Any]:
    """As conftest's, but composed once for each choice of groups: Hydra takes a third of a second for it."""
    choices = [override for override in overrides if override.split("=")[0] in GROUPS]
    cfg = copy.deepcopy(composed(*choices))
    for override in OverridesParser.create().parse_overrides([o for o in overrides if o not in choices]):
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=False)
    return to_settings(cfg)


def plan_of(*overrides: str) -> Plan:
    return make_plan(settings_of(*overrides))


def problems_of(*overrides: str, multirun: bool = False) -> list[str]:
    with pytest.raises(DeepSADError) as caught:
        make_plan(settings_of(*overrides), multirun=multirun)
    return caught.value.problems
