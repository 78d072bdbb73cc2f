"""Check a configuration against the settings that its types declare, at every depth."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.settings.about import facts_of, own
from deepsad_pl.settings.choices import CHOICES
from deepsad_pl.settings.schema import GROUP_CONFIGS, LoggerConfig, SweepConfig, TrainConfig
from deepsad_pl.settings.typed import allowed_settings, expected_settings, typed

# The parts of a configuration that describe a component, with the component's group.
COMPONENTS = {**{group: group for group in CHOICES}, "dataset.network": "network"}
_ONLY_SWEEP = {field.name for field in fields(SweepConfig)} - {field.name for field in fields(TrainConfig)}


def declared_keys(node: DictConfig, name: str) -> frozenset[str] | None:
    """The keys that a part of a configuration may have, or None if any key is allowed.

    Args:
        node: the part of the configuration.
        name: full name of the part; empty for the whole configuration.
    """
    kind = OmegaConf.get_type(node)
    if is_dataclass(kind):
        return frozenset(field.name for field in fields(kind))
    if (above := name.removesuffix(".about")) != name and above in COMPONENTS:
        return facts_of(COMPONENTS[above])
    return allowed_settings(COMPONENTS[name], _known_by(node)) if name in COMPONENTS else None


def _expected_keys(node: DictConfig, name: str) -> frozenset[str]:
    """The keys that a part of a configuration has unless they were removed."""
    if name in COMPONENTS:
        return expected_settings(COMPONENTS[name], _known_by(node))
    return declared_keys(node, name) or frozenset() if is_dataclass(OmegaConf.get_type(node)) else frozenset()


def _known_by(node: DictConfig) -> dict[str, Any]:
    """The keys that identify the component of a part of a configuration."""
    return {key: node[key] for key in ("name", "_target_") if key in node}


def undeclared_settings(cfg: DictConfig) -> list[str]:
    """The full names of all undeclared settings, except in ``hydra``."""
    return [name for name, declared in _walk(cfg) if not declared]


def removed_settings(cfg: DictConfig, prefix: str = "") -> list[str]:
    """The full names of declared settings that were removed from the configuration."""
    keys = _keys(cfg)
    found = [f"{prefix}{key}" for key in sorted(_expected_keys(cfg, prefix.rstrip(".")).difference(keys))]
    for name, key in keys.items():
        if (child := _child(cfg, key)) is not None and f"{prefix}{name}" != "hydra":
            found += removed_settings(child, f"{prefix}{name}.")
    return found


def setting_names(cfg: DictConfig) -> list[str]:
    """The full names of all settings that an override can set, including those without a value."""
    return [name for name, declared in _walk(cfg) if declared]


def declaration_problems(cfg: DictConfig) -> list[str]:
    """A sentence for each setting that is undeclared or was removed."""
    problems = [unknown_setting(key, cfg) for key in undeclared_settings(cfg)]
    return problems + [removed(key) for key in removed_settings(cfg)]


# In the message about a setting that another option of its group has.
OF_ANOTHER_OPTION = "leave it out or choose a"


def has_setting(cfg: DictConfig, key: str) -> bool:
    """Whether a setting of that name exists, with or without a value."""
    group, _, name = key.rpartition(".")
    parent = OmegaConf.select(cfg, group, throw_on_missing=False) if group else cfg
    if isinstance(parent, ListConfig):
        return name.isdecimal() and int(name) < len(parent)
    # A mandatory value that is still missing is not "in" its parent.
    return isinstance(parent, DictConfig) and name in _keys(parent)


def may_have(cfg: DictConfig, key: str) -> bool:
    """Whether a setting of that name could be added: its parent allows any key or holds components."""
    while (key := key.rpartition(".")[0]) and not has_setting(cfg, key):
        pass
    above = OmegaConf.select(cfg, key, throw_on_missing=False) if key else cfg
    return isinstance(above, DictConfig) and (declared_keys(above, key) is None or _takes_components(above))


def unknown_setting(key: str, cfg: DictConfig, *, said_by: str = "", groups: Sequence[str] = (), word: str = "") -> str:
    """The error sentence about a setting that does not exist; suggests the most similar one that does.

    Args:
        key: full name of the setting.
        cfg: the configuration that lacks it.
        said_by: a clause that says where it is set.
        groups: names of further groups that could be meant.
        word: the word of the command line that sets it, if there is one.
    """
    names = setting_names(cfg)
    group, _, rest = key.partition(".")
    above, _, last = key.rpartition(".")
    if group in _ONLY_SWEEP and group not in names:
        example = f": python sweep.py {word.lstrip('+')}" if word and not word.startswith("~") else ""
        return f"train.py has no setting {key}{said_by}; it belongs to python sweep.py{example}"
    others = [OmegaConf.structured(kind) for kind in GROUP_CONFIGS.get(group, {}).values()]
    others += [OmegaConf.create(dict(choice)) for choice in own(group).values()] if group in CHOICES else []
    if any(has_setting(other, rest) for other in others if rest):
        chosen = _chosen(cfg, group)
        return f"there is no setting {key} with {chosen}{said_by}; {OF_ANOTHER_OPTION} {group} that has it"
    if above and above not in names and not any(name.rpartition(".")[2] == last for name in names):
        return unknown_setting(above, cfg, said_by=said_by, groups=groups, word=word)
    all_are = f"python {'sweep' if 'study' in names else 'train'}.py --help lists all settings"
    parent = OmegaConf.select(cfg, above, throw_on_missing=False) if above else cfg
    if isinstance(parent, DictConfig) and _takes_components(parent):
        if last == "_target_":
            return (
                f"there is no setting {key}{said_by}; put it and its arguments one level deeper: {above}.<name>.{last}"
            )
        if last in _keys(parent) and _child(parent, last) is not None:
            all_are = f"for a component of that name, set {key}._target_ to its class"
    return f"there is no setting {key}{said_by}; {suggested(key, dict.fromkeys([*names, *groups])) or all_are}"


def _chosen(cfg: DictConfig, group: str) -> str:
    """The choice of a group, as on the command line; in words if it cannot be told from its settings."""
    name = OmegaConf.select(cfg, f"{group}.name", throw_on_missing=False)
    if name is None:
        kind = OmegaConf.get_type(cfg, group)
        name = next((name for name, known in GROUP_CONFIGS.get(group, {}).items() if known is kind), None)
    return f"the chosen {group}" if name in (None, "base") else f"{group}={name}"


def to_settings(cfg: DictConfig) -> dict[str, Any]:
    """Convert the configuration to plain dictionaries, with all interpolations resolved.

    Raises:
        DeepSADError: for each setting that does not exist, was removed or has no value.
    """
    problems = declaration_problems(cfg)
    try:
        # Report missing groups first: interpolations in other groups may refer to them.
        missing = [key for key in map(str, cfg) if OmegaConf.is_missing(cfg, key)] or sorted(
            OmegaConf.missing_keys(cfg)
        )
        problems += [f"{key} is not set; set it on the command line: {key}=..." for key in sorted(missing)]
        settings = None if problems else OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise DeepSADError(*problems, f"{error.full_key}: {first_sentence(error)}") from error
    if problems:
        raise DeepSADError(*problems)
    assert isinstance(settings, dict)
    return typed({str(key): value for key, value in settings.items()})


def removed(key: str) -> str:
    """The error sentence about a setting that was removed."""
    return f"~{key} removes the setting {key}, which every experiment needs; set a value instead"


def first_sentence(error: Exception) -> str:
    """The message of an OmegaConf error, without its list of details."""
    return str(error).partition("\n")[0].rstrip(".")


def _walk(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield every full name and whether it is declared; does not descend into undeclared parts."""
    declared = declared_keys(node, prefix.rstrip("."))
    for key, value in _keys(node).items():
        name, is_declared = f"{prefix}{key}", declared is None or key in declared or _is_component(node, value)
        if name == "hydra" or (is_declared and "." in key):
            continue
        yield name, is_declared
        if is_declared and (child := _child(node, value)) is not None:
            yield from _walk(child, f"{name}.")


def _takes_components(node: DictConfig) -> bool:
    """Whether a part of a configuration may hold components under any name, in addition to its declared keys."""
    kind = OmegaConf.get_type(node)
    return kind is not None and issubclass(kind, LoggerConfig)


def _is_component(node: DictConfig, key: Any) -> bool:
    child = _child(node, key) if _takes_components(node) else None
    return child is not None and "_target_" in child


def _keys(node: DictConfig) -> dict[str, Any]:
    """The keys by their names as text; where any key is allowed, a key may be a number."""
    return {str(key): key for key in node}


def _child(node: DictConfig, key: Any) -> DictConfig | None:
    """The part of a configuration under a key, or None if it has no keys of its own."""
    child = node._get_node(key)
    has_keys = isinstance(child, DictConfig) and not (child._is_none() or child._is_missing())
    return child if has_keys and not child._is_interpolation() else None  # type: ignore[return-value,union-attr]
