"""A Hydra config loader that reports every key and choice that does not exist, in one sentence each.

Hydra itself stops at the first one, proposes to add it with ``+``, and accepts whatever is added.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.compose.declared import (
    OF_ANOTHER_OPTION,
    declaration_problems,
    declared_keys,
    first_sentence,
    has_setting,
    may_have,
    removed,
    to_settings,
    undeclared_settings,
    unknown_setting,
)
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.compose.way_out import folder_problems, parse_problem, sweep_problems, way_out
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.settings.schema import GROUPS, TrainConfig

# The exceptions that Hydra raises for an invalid command line or file.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, YAMLError)
# These are empty by default, so there are no settings in them to suggest.
_ARGUMENTS = ("trainer.extra", "metrics")
# Groups whose options another group chooses.
_CHOSEN_WITH = {"dataset": ("scenario", "threshold", "network"), "method": ("pretrain",), "study": ("scenario",)}
# In OmegaConf's message about a value that should be a list.
_LIST = "is not a ListConfig"


@dataclass(frozen=True)
class Findings:
    """Problems with the words of a command line and with the files that they choose.

    Attributes:
        problems: one sentence per problem.
        rest: the configuration of the valid words, without Hydra's own settings; None if it cannot be composed.
    """

    problems: list[str]
    rest: DictConfig | None = None


class StrictLoader(ConfigLoaderImpl):
    """Rejects undeclared settings, and suggests what could have been meant."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a configuration.

        Raises:
            HydraException: with every problem found.
        """

        def compose() -> DictConfig:
            return super(StrictLoader, self).load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )

        if not validate_sweep_overrides:
            # Hydra calls this only to find its mode, and treats an error as no mode.
            return compose()
        try:
            cfg = compose()
        except YAMLError as error:
            raise ConfigCompositionException(_of_yaml(error)) from None
        except COMPOSITION_ERRORS:
            found = find_problems(self, config_name, overrides, run_mode)
            if run_mode == RunMode.RUN and (sweeps := list(sweep_problems(self, overrides))):
                found = Findings(list(dict.fromkeys([*found.problems, *sweeps])), found.rest)
            if not found.problems:
                raise
        else:
            problems, of_folders = declaration_problems(cfg), list(folder_problems(cfg))
            if not problems and not of_folders:
                return cfg
            found = find_problems(self, config_name, overrides, run_mode)
            found = Findings([*(found.problems or problems), *of_folders], found.rest if found.problems else None)
        one_experiment = found.rest is not None and OmegaConf.get_type(found.rest) is TrainConfig
        problems = with_those_of_the_rest(found) if run_mode == RunMode.RUN and one_experiment else found.problems
        raise ConfigCompositionException(str(DeepSADError(*problems)))

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        words = overrides
        if run_mode == RunMode.MULTIRUN and validate_sweep_overrides:
            parsed = OverridesParser.create(config_loader=self).parse_overrides(overrides)
            words = _with_first_options(self, parsed)
        cfg = super()._load_configuration_impl(config_name, words, run_mode, from_shell, validate_sweep_overrides)
        if words is not overrides:
            cfg.hydra.overrides.task = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
        return cfg


def _with_first_options(loader: ConfigLoader, overrides: Sequence[Override]) -> list[str]:
    """The words that compose the configuration of a sweep itself, with the first option of each group that is swept.

    Hydra leaves the default option there, with which settings of the swept options would seem not to exist. A study
    takes the options one by one, and has entries of its own for data sets.
    """
    if any(override.key_or_group == "study" for override in overrides):
        return [str(override.input_line) for override in overrides]
    return [_with_first_option(loader, override) for override in overrides]


def _with_first_option(loader: ConfigLoader, override: Override) -> str:
    sweeps = override.is_discrete_sweep() and not override.is_hydra_override()
    if sweeps and is_choice(loader, override):
        for option in override.sweep_string_iterator():
            return f"{override.get_key_element()}={option}"
    return str(override.input_line)


def _of_yaml(error: YAMLError) -> str:
    """A sentence about a file that is not the YAML of a configuration."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    where = f"{mark.name.strip(chr(34))}, line {mark.line + 1}" if mark is not None else "a configuration"
    return f"{where}: {problem}; write plain YAML, with spaces for indentation and without tags such as !!python"


def with_those_of_the_rest(found: Findings, *, multirun: bool = False, tasks: int | None = None) -> list[str]:
    """All problems of an experiment: invalid words, and invalid values given by the other words.

    Args:
        found: problems with the words.
        multirun: whether the experiment is one of several.
        tasks: see :func:`~deepsad_pl.experiment.plan.make_plan`.
    """
    if found.rest is None:
        return found.problems
    try:
        make_plan(to_settings(found.rest), multirun=multirun, tasks=tasks, problems=found.problems)
    except DeepSADError as error:
        return list(dict.fromkeys([*found.problems, *error.problems]))
    return found.problems


def find_problems(
    loader: ConfigLoader, config_name: str | None, words: Sequence[str], run_mode: RunMode = RunMode.RUN
) -> Findings:
    """Find all problems of a command line at once.

    Args:
        loader: Hydra's, with its search path.
        config_name: name of the primary configuration.
        words: the overrides.
        run_mode: Hydra's run mode for the composition.

    Returns:
        The findings; without problems if only Hydra can tell what is wrong.
    """
    try:
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    except OverrideParseException as error:
        return Findings([parse_problem(error)])
    loader = searching_too(loader, words)
    problems: list[str] = []
    choices: list[Override] = []
    values: list[Override] = []
    studied = any(o.key_or_group == "study" and not o.is_delete() and o.value() is not None for o in overrides)
    # Groups whose option does not exist, so that it may have been meant to have other settings.
    unknown: set[str] = set()
    for override in overrides:
        if is_choice(loader, override):
            wrong = list(_choice_problems(loader, override, studied))
            problems += wrong
            choices += [] if wrong else [override]
            unknown |= {override.key_or_group, *_CHOSEN_WITH.get(override.key_or_group, ())} if wrong else set()
        elif override.is_hydra_override():
            choices.append(override)
        else:
            values.append(override)

    def composed(chosen: Sequence[Override]) -> DictConfig:
        return _OpenLoader(loader.get_search_path()).load_configuration(
            config_name, _with_first_options(loader, chosen), run_mode, validate_sweep_overrides=False
        )

    try:
        try:
            cfg = composed(choices)
        except COMPOSITION_ERRORS:
            default = composed([])
            foreign = [override for override in choices if _is_foreign(override, default)]
            if not foreign:
                raise
            problems += [_foreign_choice(override, default) for override in foreign]
            cfg = composed([override for override in choices if override not in foreign])
    except COMPOSITION_ERRORS as error:
        return Findings([*problems, in_one_line(error)] if problems else [])
    problems += _drop_undeclared(cfg, said_by=", which a config file sets")
    groups = [group for group in loader.list_groups("") if group not in ("hydra", "schema", "study")]
    for override in values:
        judged = override.key_or_group.split(".")[0] not in unknown
        told = _value_problems(override, cfg, groups)
        problems += [problem for problem in told if judged or OF_ANOTHER_OPTION not in problem]
    problems += _drop_undeclared(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return Findings(list(dict.fromkeys(problems)), cfg)


def explained(error: Exception, loader: ConfigLoader, config_name: str | None, words: Sequence[str]) -> DeepSADError:
    """The error to raise in place of one of :data:`COMPOSITION_ERRORS`.

    Raises:
        Exception: the original error, if it is not about the words and files.
    """
    if isinstance(error, YAMLError):
        return DeepSADError(_of_yaml(error))
    problems = find_problems(loader, config_name, words).problems
    if not problems and not isinstance(error, HydraException | OmegaConfBaseException):
        raise error
    return DeepSADError(*(problems or [in_one_line(error)]))


def searching_too(loader: ConfigLoader, words: Sequence[str]) -> ConfigLoaderImpl:
    """A loader that also finds groups in the folders named by ``hydra.searchpath``."""
    assert isinstance(loader, ConfigLoaderImpl)
    named = [word for word in words if is_searchpath(word)]
    if not named:
        return loader
    path = copy.deepcopy(loader.get_search_path())
    schema = path.get_path().pop()
    for override in OverridesParser.create().parse_overrides(named):
        for folder in override.value():  # type: ignore[union-attr]
            path.append("hydra.searchpath in command-line", str(folder))
    path.append(schema.provider, schema.path)
    return type(loader)(path)


def is_searchpath(word: str) -> bool:
    """Whether a word of the command line sets Hydra's search path."""
    return word.lstrip("+").startswith("hydra.searchpath=")


def is_choice(loader: ConfigLoader, override: Override) -> bool:
    """Whether an override chooses an option of a group rather than setting a value."""
    assert isinstance(loader, ConfigLoaderImpl)
    is_group = override.package is not None or loader.repository.group_exists(override.key_or_group)
    return is_group and (override.is_sweep_override() or not isinstance(override.value(), dict))


def in_one_line(error: object) -> str:
    """An error's message in one line, with details that Hydra gives only in the error's cause."""
    cause = getattr(error, "__cause__", None)
    told = [error, first_sentence(cause)] if isinstance(cause, OmegaConfBaseException) else [error]
    return " ".join(" ".join(map(str, told)).split())


class _OpenLoader(ConfigLoaderImpl):
    """Accepts any key from files and words, so that all undeclared ones can be reported together."""

    def _load_single_config(self, default: ResultDefault, repo: object) -> ConfigResult:
        loaded = copy.copy(super()._load_single_config(default, repo))  # type: ignore[arg-type]
        if isinstance(loaded.config, DictConfig) and not str(default.config_path).startswith("hydra"):
            loaded.config = copy.deepcopy(loaded.config)
            _open(loaded.config)
        return loaded


def _open(node: DictConfig) -> None:
    if is_dataclass(OmegaConf.get_type(node)):
        node._set_flag("struct", False)
    if not (node._is_none() or node._is_missing() or node._is_interpolation()):
        for _, child in node.items_ex(resolve=False):
            if isinstance(child, DictConfig):
                _open(child)


def _choice_problems(loader: ConfigLoaderImpl, override: Override, studied: bool) -> Iterator[str]:
    group = override.key_or_group
    if override.is_delete() or override.package is not None:
        return
    options = loader.get_group_options(group, ObjectType.CONFIG)
    chosen = list(_values(override))
    if group in GROUPS and group != "logger" and any(isinstance(value, list) for value in chosen):
        yield f"{override.input_line}: choose one {group}, or list several without brackets to run each of them"
        return
    names = [name for value in chosen for name in (value if isinstance(value, list) else [value])]
    for name in names:
        told = "null" if name is None else str(name)
        # An option may be in a folder of its group, and a study's data sets may be entries such as adbench/cardio.
        elsewhere = "$" in told or ("/" in told and (studied or loader.repository.config_exists(f"{group}/{told}")))
        if not elsewhere and (told.removesuffix(".yaml") not in options or name is None):
            instead = _own_data(loader, told, options) if group == "dataset" else ""
            near = f"; {instead or suggested(told, options)}".rstrip("; ")
            yield f"{group} has no option {told}{near} (its options: {', '.join(options)})"


def _own_data(loader: ConfigLoaderImpl, named: str, options: Sequence[str]) -> str:
    """What to write instead of ``dataset=adbench/cardio`` or of a path; empty for other names."""
    choice, slash, entry = named.partition("/")
    if slash and choice in options:
        found = loader.repository.load_config(f"dataset/{choice}")
        assert found is not None
        # A choice may be a file for the whole configuration.
        setting = OmegaConf.select(found.config, "about.entry") or OmegaConf.select(found.config, "dataset.about.entry")
        if setting and entry:
            return f"such entries are for a study; write dataset={choice} dataset.{setting}={quoted(entry)}"
    if slash or "." in named:
        own = "dataset=table dataset.path=<file> or dataset=image_folder dataset.root=<folder>"
        return f"for data of your own, write {own}"
    return ""


def _is_foreign(override: Override, default: DictConfig) -> bool:
    """Whether an override chooses an option of a group that is not in the configuration."""
    changes = override.type == OverrideType.CHANGE and not override.is_hydra_override()
    return changes and override.get_key_element() not in default.hydra.runtime.choices


def _foreign_choice(override: Override, default: DictConfig) -> str:
    group, line = override.key_or_group, override.input_line
    if group in GROUPS:
        return unknown_setting(override.get_key_element(), default, word=str(line))
    return f"{line} replaces a chosen {group}, but none is chosen; write +{line} to add it"


def _value_problems(override: Override, cfg: DictConfig, groups: Sequence[str]) -> Iterator[str]:
    """Yield the problems of a word that sets a value; a valid word is applied."""
    key, line = override.key_or_group, override.input_line
    adds = override.is_add() or override.is_force_add()
    # Arguments of a component can be added without the +.
    adds_there = adds or (key.count(".") > 1 and key.startswith("logger."))
    if not has_setting(cfg, key) and not (adds_there and may_have(cfg, key)):
        if any(key.startswith(f"{place}.") for place in _ARGUMENTS):
            yield f"there is no setting {key} yet; write +{line} to add it"
        else:
            yield unknown_setting(key, cfg, groups=groups, word=str(line))
        return
    group, _, name = key.rpartition(".")
    parent = OmegaConf.select(cfg, group) if group else cfg
    if override.is_delete():
        if isinstance(parent, DictConfig) and name in (declared_keys(parent, group) or ()):
            yield removed(key)
        else:
            del parent[name]
        return
    if key == "metrics" and not (adds and isinstance(override.value(), dict)):
        yield (
            f"{line}: metrics is a mapping; write +metrics.<name>._target_=..., or +metrics=<file> with --config-dir "
            "for the folder that has metrics/<file>.yaml"
        )
        return
    is_there = OmegaConf.select(cfg, key, throw_on_missing=False) is not None
    for value in _values(override):
        if override.is_add() and is_there and not isinstance(value, dict | list):
            yield f"{line}: the setting {key} already exists; leave out the +"
            continue
        try:
            OmegaConf.update(cfg, key, value, merge=True, force_add=True)
        except OmegaConfBaseException as error:
            yield f"{line}: {first_sentence(error)}{way_out(key, value, wants_list=_LIST in str(error))}"


def _values(override: Override) -> Iterator[Any]:
    """The values of an override: one, those of a sweep, or the ends of an interval, which only a search can sweep."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        yield from (value.start, value.end)
    elif override.is_sweep_override():
        yield from override.sweep_iterator()
    else:
        yield value


def _drop_undeclared(cfg: DictConfig, *, said_by: str = "") -> list[str]:
    """Remove all undeclared settings, and return a sentence about each."""
    undeclared = undeclared_settings(cfg)
    told = [unknown_setting(key, cfg, said_by=said_by) for key in undeclared]
    with open_dict(cfg):
        for key in undeclared:
            group, _, name = key.rpartition(".")
            parent = OmegaConf.select(cfg, group) if group else cfg
            with open_dict(parent):
                del parent[name]
    return told
