"""Settings, plans and their problems, without a command line: composed once for each choice of groups."""

import copy
from collections.abc import Container, Iterable
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from processes import ROOT

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.settings.about import MethodAbout, of_method, own

# All methods but those that need a file, such as the weights of TabICL.
_OWN_METHODS = dict(own("method"))
METHODS = tuple(name for name, method in _OWN_METHODS.items() if not of_method(method).files)
# At least one method of each kind. Tests that take seconds for each method leave the others to the gate.
TYPICAL = ("deep_sad", "autoencoder", "ss_dgm_m2", "devnet", "ocsvm_raw", "knn_hybrid", "trees")
GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())


def slow_but(quick: Container[Any], every: Iterable[Any]) -> list[Any]:
    """The parameters of a test that takes seconds for each: all but the quick ones are left to the gate."""
    return [one if one in quick else pytest.param(one, marks=pytest.mark.slow) for one in every]


EACH_METHOD = slow_but(TYPICAL, METHODS)

# Groups whose options set nothing outside their own group, with a few exceptions.
_SELF_CONTAINED = ("dataset", "scenario", "threshold", "recipe", "pretrain", "trainer", "logger")
_OVERRIDING = ("dataset=table", "dataset=mvtec", "scenario=given")
# Options that set something in the data set, so that they must be composed with it.
_OF_ALL = frozenset(("recipe=reference",))


@cache
def composed(*choices: str) -> DictConfig:
    """The configuration with these choices; options of self-contained groups are composed once and inserted."""
    groups = [choice.split("=")[0] for choice in choices]
    apart = [
        choice
        for choice, group in zip(choices, groups, strict=True)
        if group in _SELF_CONTAINED
        and choice not in _OVERRIDING
        and not any(other.startswith(f"+{group}.") for other in choices)
    ]
    if not apart or len(choices) == 1 or len({*groups}) < len(groups) or _OF_ALL.intersection(choices):
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", list(choices))
    cfg = copy.deepcopy(composed(*(choice for choice in choices if choice not in apart)))
    for choice in apart:
        group = choice.split("=")[0]
        with open_dict(cfg):
            cfg[group] = composed(choice)[group]
    return cfg


def settings_of(*overrides: str) -> dict[str, Any]:
    """The composed configuration as plain dictionaries.

    Hydra takes a third of a second to choose the groups, so each choice is composed only once; values are set as Hydra
    would set them.
    """
    choices = [override for override in overrides if override.split("=")[0] in GROUPS or override[0] in "+~"]
    cfg = copy.deepcopy(composed(*choices))
    for override in OverridesParser.create().parse_overrides([o for o in overrides if o not in choices]):
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
    return to_settings(cfg)


def plan_of(*overrides: str) -> Plan:
    """The plan of a configuration."""
    return make_plan(settings_of(*overrides))


def problems_of(*overrides: str, multirun: bool = False) -> list[str]:
    with pytest.raises(DeepSADError) as caught:
        make_plan(settings_of(*overrides), multirun=multirun)
    return caught.value.problems


def about(method: str) -> MethodAbout:
    """The facts that a method declares about itself."""
    return of_method(_OWN_METHODS[method])


def is_shallow(method: str) -> bool:
    return about(method).shallow
