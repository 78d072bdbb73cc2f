"""Derive many configurations from few Hydra compositions, which take 0.1 s each: a study has thousands of jobs."""

import copy
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.declared import has_setting, may_have, to_settings
from deepsad_pl.compose.strict import (
    COMPOSITION_ERRORS,
    explained,
    find_problems,
    is_choice,
    is_searchpath,
    searching_too,
    with_those_of_the_rest,
)
from deepsad_pl.compose.way_out import parse_problem
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.settings.choices import CHOICES

Settings = dict[str, Any]

# Settings that vary in nearly every experiment of a study; the schema never converts their values.
_PLAIN = {
    "seed": int,
    "scenario.normal_class": object,
    "scenario.anomaly_class": object,
    "scenario.labels": int,
}


class Composer:
    """Composes the settings of a job from its overrides.

    Hydra composes each combination of group choices once; value overrides are applied to a copy, as Hydra would do.

    Args:
        loader: Hydra's, with its search path.
        config_name: name of the configuration; None and the name used by ``sweep.py`` mean ``train``, since its jobs
            are jobs of ``train.py``.
        hydra_words: the overrides of Hydra's own settings; only ``hydra.searchpath`` is used.
    """

    def __init__(self, loader: ConfigLoader, config_name: str | None = None, hydra_words: Sequence[str] = ()) -> None:
        self._loader = searching_too(loader, hydra_words)
        self._name = "train" if config_name in (None, "sweep") else config_name
        self._parsed: dict[str, Override] = {}
        self._is_choice: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._settings: dict[tuple[str, ...], tuple[Settings, bool]] = {}

    def parse(self, overrides: Iterable[str]) -> list[Override]:
        """Parse the overrides with Hydra's grammar.

        Raises:
            DeepSADError: if one of them cannot be parsed.
        """
        lines = list(overrides)
        if new := [line for line in lines if line not in self._parsed]:
            parser = OverridesParser.create(config_loader=self._loader)
            try:
                self._parsed.update(zip(new, parser.parse_overrides(new), strict=True))
            except OverrideParseException as error:
                raise DeepSADError(parse_problem(error)) from error
        return [self._parsed[line] for line in lines]

    def is_choice(self, override: Override) -> bool:
        """Whether an override chooses an option of a group, so that Hydra must compose again."""
        line = str(override.input_line)
        if line not in self._is_choice:
            self._is_choice[line] = is_choice(self._loader, override)
        return self._is_choice[line]

    def choices(self, overrides: Iterable[Override]) -> list[str]:
        """The overrides that choose an option of a group."""
        return [str(override.input_line) for override in overrides if self.is_choice(override)]

    def options(self, group: str) -> list[str]:
        """The options of a group."""
        return list(self._loader.get_group_options(group, ObjectType.CONFIG))

    def has_key(self, choices: Sequence[str], key: str) -> bool:
        """Whether a setting of that name exists, or could be added, under these choices.

        Raises:
            DeepSADError: if there is no such choice.
        """
        base = self.base(choices)
        return has_setting(base, key) or (may_have(base, key) and key.partition(".")[0] not in CHOICES)

    def base(self, choices: Sequence[str]) -> DictConfig:
        """The configuration with these choices and no other overrides; do not modify it.

        Raises:
            DeepSADError: if there is no such choice.
        """
        try:
            return self._base(tuple(choices))
        except COMPOSITION_ERRORS as error:
            raise explained(error, self._loader, self._name, choices) from error

    def plan(self, overrides: Sequence[str], *, tasks: int | None = None) -> Plan:
        """Make the plan of an experiment that is one of several.

        Args:
            overrides: overrides of the experiment.
            tasks: see :func:`~deepsad_pl.experiment.plan.make_plan`.

        Raises:
            DeepSADError: with every problem found, in the overrides and in the values that they give.
        """
        try:
            settings = self.settings(overrides)
        except DeepSADError:
            found = find_problems(self._loader, self._name, overrides)
            if found.problems:
                raise DeepSADError(*with_those_of_the_rest(found, multirun=True, tasks=tasks)) from None
            raise
        return make_plan(settings, multirun=True, tasks=tasks)

    def settings(self, overrides: Sequence[str]) -> Settings:
        """The configuration with these overrides, as plain dictionaries; do not modify them.

        Raises:
            DeepSADError: if there is no such choice or setting, a value does not fit, or a mandatory one is missing.
        """
        parsed = self.parse(overrides)
        try:
            return self._settings_of(parsed)
        except COMPOSITION_ERRORS as error:
            raise explained(error, self._loader, self._name, overrides) from error

    def _settings_of(self, parsed: Sequence[Override]) -> Settings:
        plain = [o for o in parsed if o.key_or_group in _PLAIN and _is_plain(o)]
        rest = [o for o in parsed if o not in plain]
        settings, refers = self._without(rest)
        lacking = {o.key_or_group.partition(".")[2] for o in plain} - {"", *settings["scenario"]}
        if refers or lacking or "given" in settings["scenario"]:
            # Composing them as well tells which settings the scenario does not have.
            return self._without(parsed)[0]
        settings = {**settings, "scenario": dict(settings["scenario"])}
        for override in plain:
            group, _, key = override.key_or_group.rpartition(".")
            (settings[group] if group else settings)[key] = override.value()
        return settings

    def _without(self, overrides: Sequence[Override]) -> tuple[Settings, bool]:
        """The settings, and whether any of them refers to one that :meth:`settings` would insert afterwards."""
        lines = tuple(str(override.input_line) for override in overrides)
        if lines not in self._settings:
            cfg = copy.deepcopy(self._base(tuple(self.choices(overrides))))
            ConfigLoaderImpl._apply_overrides_to_config([o for o in overrides if not self.is_choice(o)], cfg)
            refers = re.search(r"\$\{[^}]*\b(seed|normal_class|anomaly_class|labels)\b", OmegaConf.to_yaml(cfg))
            self._settings[lines] = to_settings(cfg), refers is not None
        return self._settings[lines]

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._composed:
            # Undeclared settings are rejected later, with the other problems.
            cfg = ConfigLoaderImpl.load_configuration(self._loader, self._name, list(choices), RunMode.RUN)
            with open_dict(cfg):
                del cfg["hydra"]
            self._composed[choices] = cfg
        return self._composed[choices]


def _is_plain(override: Override) -> bool:
    """Whether the override's value is final, that is, contains no interpolation."""
    value, kind = override.value(), _PLAIN[override.key_or_group]
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return fits and "$" not in str(override.input_line)


def composer_of(loader: ConfigLoader, config_name: str | None = None, hydra_words: Sequence[str] = ()) -> Composer:
    """Return the process's cached composer for this configuration, which sweeper and launcher share.

    Args:
        loader: see :class:`Composer`, also for the other arguments.
    """
    searched = tuple(filter(is_searchpath, hydra_words))
    return _composer_of(loader, "train" if config_name in (None, "sweep") else config_name, searched)


@lru_cache(maxsize=2)
def _composer_of(loader: ConfigLoader, config_name: str, searched: tuple[str, ...]) -> Composer:
    return Composer(loader, config_name, searched)
