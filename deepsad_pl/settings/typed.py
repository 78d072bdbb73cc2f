"""Types and checks of the settings of components, the options with a ``_target_``. Does not import torch."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import Any, TypeVar, Union, get_args, get_type_hints

from deepsad_pl.common.components import problems_of
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import converted, problems, without_limits
from deepsad_pl.common.signatures import signature_of
from deepsad_pl.settings.about import Settings, about_problems, declared, own
from deepsad_pl.settings.choices import CHOICES, Choice, NetworkChoice

C = TypeVar("C", bound=Choice)

# The arguments that the package itself passes to a component that accepts them.
SUPPLIED: Mapping[str, tuple[str, ...]] = {
    "dataset": ("data_dir", "seed", "digest", "given"),
    "network": ("in_shape", "in_features"),
    "pretrain": ("network", "sigmoid", "likelihood", "labeled_share", "anomaly_share", "m1", "seed"),
    "method": (
        "network",
        "sigmoid",
        "likelihood",
        "labeled_share",
        "anomaly_share",
        "polluted_share",
        "m1",
        "seed",
        "task",
    ),
}


def typed(settings: Settings) -> dict[str, Any]:
    """Convert each value to its declared type, such as ``1`` to ``1.0``; a value that does not fit stays unchanged."""
    return {
        group: _typed(group, node) if group in CHOICES and isinstance(node, Mapping) else node
        for group, node in settings.items()
    }


def _typed(group: str, node: Settings) -> dict[str, Any]:
    kinds = _kinds(group, str(node.get("_target_")))
    made = {name: converted(value, kinds[name]) if name in kinds else value for name, value in node.items()}
    if group == "dataset" and isinstance(network := node.get("network"), Mapping):
        made["network"] = _typed("network", network)
    return made


@cache
def _kinds(group: str, target: str) -> Mapping[str, Any]:
    """The declared type of each setting of a component."""
    try:
        return {**keys_of(group), **_kinds_of_signature(target)}
    except DeepSADError:  # reported when the settings are checked
        return keys_of(group)


def kind_of_setting(choice: Choice, name: str) -> Any:
    """The declared type of a setting; Any if it is not declared."""
    return _kinds(choice.group, choice.target).get(name, Any)


@cache
def keys_of(group: str) -> Mapping[str, Any]:
    """The settings of a group that the package itself reads, with their types."""
    hints = get_type_hints(CHOICES[group], include_extras=True)
    return {
        one.name: _not_null(hints[one.name]) if one.default is None and not one.metadata else hints[one.name]
        for one in fields(CHOICES[group])
        if one.name not in ("target", "arguments", "given")
    }


def _not_null(kind: Any) -> Any:
    return Union[tuple(one for one in get_args(kind) if one is not NoneType)]  # noqa: UP007


def allowed_settings(group: str, node: Settings) -> frozenset[str] | None:
    """The names of the settings that a component of the package may have; None for any other component.

    Args:
        group: group of the configuration.
        node: at least the ``name`` and ``_target_`` of the component.
    """
    target = node.get("_target_")
    if target is None:
        # There is nothing to instantiate, or its YAML lacks the _target_.
        return frozenset({"_target_", *keys_of(group)}) if node.get("name", "") in ("", *own(group)) else None
    if not str(target).startswith("deepsad_pl.") or (signature := signature_of(str(target))) is None:
        return None
    return frozenset({"_target_", *keys_of(group), *signature.kinds}.difference(SUPPLIED[group]))


def expected_settings(group: str, node: Settings) -> frozenset[str]:
    """The names of the settings in the YAML of a component of the package; empty for any other component."""
    known = {key: node[key] for key in ("name", "_target_") if key in node}
    same = [one for one in own(group).values() if known and known.items() <= one.items()]
    if not same and "_target_" in known:
        # A name that depends on other settings is an interpolation in the YAML.
        named = [one for one in own(group).values() if "${" in str(one.get("name"))]
        same = [one for one in named if one["_target_"] == known["_target_"]]
    return frozenset(same[0] if same else ())


def choice_of(kind: type[C], node: Settings) -> C:
    """Make a choice from plain settings that have been checked.

    Args:
        kind: what to make.
        node: its settings. Those that the package reads are arguments of the component only if it accepts them.
    """
    keys, target = keys_of(kind.group), str(node["_target_"])
    read: dict[str, Any] = {key: node[key] for key in keys if key in node} | {"about": declared(kind.group, node)}
    if "network" in keys:
        read["network"] = choice_of(NetworkChoice, node["network"])
    kept = {"_target_", *keys}.difference(_kinds_of_signature(target))
    arguments = {name: value for name, value in node.items() if name not in kept}
    return kind(target=target, arguments=arguments, given=tuple(key for key in node if key != "about"), **read)


def accepted(target: str, offered: Settings) -> dict[str, Any]:
    """The offered arguments that a component accepts by name."""
    kinds = _kinds_of_signature(target)
    return {name: value for name, value in offered.items() if name in kinds}


def _kinds_of_signature(target: str) -> Mapping[str, Any]:
    signature = signature_of(target)
    return signature.kinds if signature is not None else {}


def has_types(group: str, node: Settings) -> bool:
    """Whether the settings of a component have the declared types, though perhaps not allowed values."""
    kinds = _kinds(group, str(node.get("_target_")))
    return not any(
        found
        for name, kind in kinds.items()
        if name in node
        for found in problems(name, node[name], without_limits(kind))
    )


def component_problems(group: str, node: Settings, key: str | None = None) -> Iterator[str]:
    """Yield a sentence for each problem with the settings of a component.

    Args:
        group: group of the configuration.
        node: settings of the component, see :func:`typed`.
        key: the node's key in the configuration; None: the group's name.
    """
    key = key or group
    known = keys_of(group)
    for name, value in node.items():
        if name in known and name != "about":
            yield from problems(f"{key}.{name}", value, known[name])
    if "about" in known:
        yield from about_problems(group, node)
    if not isinstance(node.get("_target_"), str):
        yield f"{key}._target_ is {node.get('_target_')!r}; it must be the dotted path of its class or function"
        return
    supplied = SUPPLIED[group]
    if group in ("pretrain", "method") and declared(group, node).sized_by_network:
        supplied = (*supplied, "hidden", "latent")
    yield from problems_of(node, key, supplied=supplied, kept=tuple(known))
