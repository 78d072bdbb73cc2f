"""What must be equal in modules that are computed as one, and the numbers in which they may differ."""

import copy
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from deepsad_pl.common.lightning_api import LightningModule

# The path to a number: a submodule's name, an attribute, and the keys of nested containers.
Place = tuple[Any, ...]

_TENSORS = frozenset({"_parameters", "_buffers", "_modules"})
# Ignored, since each module saves and loads itself.
_SAVING = frozenset(name for name in vars(nn.Module()) if "state_dict" in name)
# Internal attributes of Lightning and TrainedMethod.
_RUNNING = frozenset(vars(LightningModule())) - frozenset(vars(nn.Module()))
_KEPT = frozenset({"_hparams_initial", "_hparams_name", "test_result", "_scored"})
# Settings of the training, in which replicas may differ, since the loss does not read them.
OF_TRAINING = frozenset({"lr", "epochs", "weight_decay", "seed"})
_PLAIN = (type(None), bool, int, complex, str, bytes, type, range, Enum, PurePath)
_OF_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format)


@dataclass(frozen=True)
class Facts:
    """The structure and attributes of a module, without the values of its parameters and buffers.

    Attributes:
        agreed: equal for modules that compute the same function of their tensors and numbers.
        numbers: floats and plain tensors among the attributes, by their places.
    """

    agreed: Hashable
    numbers: dict[Place, float | Tensor]


def facts_of(module: nn.Module) -> Facts:
    """Collect the facts of a module and all its submodules.

    Raises:
        ValueError: if an attribute cannot be compared between modules; names the attribute.
    """
    names = {id(part): name for name, part in module.named_modules()}
    numbers: dict[Place, float | Tensor] = {}
    facts: list[Hashable] = list(_tensors(module))
    of_parts, of_all = _TENSORS | _SAVING, _TENSORS | _SAVING | _RUNNING | _KEPT | OF_TRAINING
    for name, part in module.named_modules():
        children = ((key, names[id(child)]) for key, child in part.named_children())
        facts.append((name, type_before_parametrizations(part), *children))
        for key, value in vars(part).items():
            if key in (of_parts if name else of_all):
                continue
            if key == "_hparams":
                value = {of: setting for of, setting in value.items() if of not in OF_TRAINING}
            try:
                facts.append((name, key, _fact(value, (name, key), numbers, names)))
            except TypeError as error:
                raise ValueError(f"{type(part).__name__}.{key} {error}") from error
    return Facts(tuple(facts), numbers)


def _tensors(module: nn.Module) -> Iterator[Hashable]:
    """Yield names, shapes and types of parameters and buffers, and which of them are the same tensor."""
    first: dict[int, str] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            same = first.setdefault(id(tensor), name)
            yield name, same, tensor.shape, tensor.dtype, tensor.requires_grad


def _fact(value: Any, place: Place, numbers: dict[Place, float | Tensor], names: dict[int, str]) -> Hashable:
    if id(value) in names:
        return nn.Module, names[id(value)]
    match value:
        case Tensor():
            numbers[place] = value
            return Tensor, value.shape, value.dtype
        case float():
            numbers[place] = float(value)
            return float
        case np.ndarray() | np.generic():
            return np.ndarray, value.shape, value.dtype.str, value.tobytes()
        case torch.Generator():
            return torch.Generator  # drawing from it inside the loss is rejected elsewhere
        case FunctionType() | BuiltinFunctionType():
            return value
        case MethodType():
            return MethodType, value.__func__, _fact(value.__self__, place, {}, names)
        case partial():
            # The numbers inside a partial cannot be replaced.
            return partial, value.func, repr((value.args, value.keywords))
        case dict():
            parts = [(key, _fact(of, (*place, key), numbers, names)) for key, of in value.items()]
            return type(value), tuple(parts)
        case list() | tuple():
            return type(value), tuple(_fact(of, (*place, i), numbers, names) for i, of in enumerate(value))
        case set() | frozenset():
            return type(value), frozenset(value)
    if isinstance(value, _PLAIN + _OF_TORCH):
        return type(value), value
    raise TypeError(f"is a {type(value).__name__}, which cannot be compared between experiments")


def is_same(number: float | Tensor, other: float | Tensor) -> bool:
    """Whether two numbers from the same place are equal."""
    if isinstance(number, Tensor) and isinstance(other, Tensor):
        return torch.equal(number, other)
    return number is other or bool(number == other)


def put(module: nn.Module, place: Place, value: Any) -> None:
    """Replace a number in an attribute of a module.

    Args:
        module: the module with the attribute.
        place: place of the number in the module's :class:`Facts`.
        value: the new number; containers around it are copied.
    """
    name, key, *inside = place
    attributes = vars(module.get_submodule(name))
    attributes[key] = _exchanged(attributes[key], inside, value)


def _exchanged(container: Any, keys: list[Any], value: Any) -> Any:
    if not keys:
        return value
    key, *inside = keys
    inner = _exchanged(container[key], inside, value)
    if isinstance(container, dict):
        changed = copy.copy(container)
        changed[key] = inner
        return changed
    items = [*container[:key], inner, *container[key + 1 :]]
    return container._make(items) if hasattr(container, "_make") else type(container)(items)
