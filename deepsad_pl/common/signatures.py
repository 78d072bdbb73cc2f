"""Signatures of classes and functions, read from their source without importing it. Does not import torch."""

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from deepsad_pl.common.module_sources import definition, find_module
from deepsad_pl.common.ranges import NAMES


@dataclass(frozen=True)
class Signature:
    """The signature of a class or function.

    Attributes:
        path: the source file.
        kinds: the declared type of each argument, by name; Any if it declares no type that settings can have.
        required: names of the arguments without a default.
        open: whether it takes ``**kwargs``, and so arguments of any name.
        positional: names of the arguments that may be passed by position, in order.
        more_positional: whether it takes ``*args``.
        is_class: whether it is a class.
    """

    path: Path
    kinds: Mapping[str, Any]
    required: tuple[str, ...]
    open: bool
    positional: tuple[str, ...] = ()
    more_positional: bool = False
    is_class: bool = False


@cache
def signature_of(target: str) -> Signature | None:
    """Read the signature of a target; None if it cannot be told from the source.

    A constructor's ``**kwargs`` are taken to be the arguments of the base class's constructor.

    Args:
        target: a dotted path.

    Raises:
        DeepSADError: if a source file cannot be read or is no valid Python.
    """
    if target.partition(".")[0] in sys.stdlib_module_names or (place := find_module(target)) is None or not place[1]:
        return None
    file, names = place
    return _signature(file, tuple(names), frozenset())


def _signature(file: Path, names: tuple[str, ...], seen: frozenset[tuple[Path, str]]) -> Signature | None:
    place = definition(file, names)
    if place is None:
        return None
    file, found = place
    if isinstance(found, ast.FunctionDef):
        return None if found.decorator_list else _read(file, found, skip=0)
    if not isinstance(found, ast.ClassDef) or found.decorator_list or (file, found.name) in seen:
        return None
    init = next((one for one in found.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if init is not None and init.decorator_list:
        return None
    own = _read(file, init, skip=1) if init is not None else None
    if own is not None and not own.open:
        return own
    # Arguments that the class does not declare itself go to its base class.
    if not found.bases:
        return own or Signature(file, {}, (), open=False)
    base = _base(file, found.bases[0], seen | {(file, found.name)})
    if own is None or base is None:
        return own or base
    supplied = {*own.kinds, *_passed_on(init)}
    kinds = {**{name: kind for name, kind in base.kinds.items() if name not in supplied}, **own.kinds}
    required = (*own.required, *(name for name in base.required if name not in supplied))
    return Signature(own.path, kinds, required, base.open)


def _base(file: Path, node: ast.expr, seen: frozenset[tuple[Path, str]]) -> Signature | None:
    names = ast.unparse(node).split(".")
    return _signature(file, tuple(names), seen) if all(name.isidentifier() for name in names) else None


def _passed_on(init: ast.FunctionDef | None) -> set[str]:
    """The names of the arguments, keyword and positional, that a constructor passes to its base class."""
    found: set[str] = set()
    for node in ast.walk(init) if init is not None else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
            found |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            found |= {one.id for one in node.args if isinstance(one, ast.Name)}
    return found


def _read(file: Path, function: ast.FunctionDef, *, skip: int) -> Signature:
    given = function.args
    positional = [*given.posonlyargs, *given.args][skip:]
    kinds = {one.arg: kind_of(one.annotation) for one in [*positional, *given.kwonlyargs]}
    required = [one.arg for one in positional[: max(0, len(positional) - len(given.defaults))]]
    by_keyword = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    required += [one.arg for one, default in by_keyword if default is None]
    return Signature(
        file,
        kinds,
        tuple(required),
        open=given.kwarg is not None,
        positional=tuple(one.arg for one in positional),
        more_positional=given.vararg is not None,
        is_class=skip > 0,
    )


def kind_of(annotation: ast.expr | None) -> Any:
    """The type that an annotation denotes, built from ``ranges.NAMES``; Any for everything else."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):  # an annotation in quotes
            try:
                return kind_of(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return Any
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return NAMES.get(name, Any)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = kind_of(left), kind_of(right)
            return Any if Any in sides else Union[sides]  # noqa: UP007
        case ast.Subscript(value=outer, slice=inner):
            return _subscript(ast.unparse(outer).rpartition(".")[2], inner)
    return Any


def _subscript(outer: str, inner: ast.expr) -> Any:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Literal":
        values = [one.value for one in parts if isinstance(one, ast.Constant)]
        return Literal[tuple(values)] if len(values) == len(parts) else Any
    if outer == "Annotated":
        return kind_of(parts[0])
    if outer == "Optional":
        return Any if (kind := kind_of(inner)) is Any else Union[kind, None]  # noqa: UP007
    of = NAMES.get(outer)
    if outer in ("tuple", "Tuple") and not (len(parts) == 2 and ast.unparse(parts[1]) == "..."):
        return list  # of elements of different types
    if outer in ("Sequence", "list", "tuple", "List", "Tuple") and of is not None:
        kind = kind_of(parts[0])
        return list if kind is Any else list[kind]  # type: ignore[valid-type]
    return Any
