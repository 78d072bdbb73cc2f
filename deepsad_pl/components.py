"""Components named by ``_target_``: checked and fingerprinted without an import, imported when made."""

import ast
import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Any

from hydra.utils import instantiate as hydra_instantiate

from deepsad_pl.errors import DeepSADError
from deepsad_pl.module_sources import definition, find_module, imported_files

_TARGET = "_target_"
# What Hydra reads of a node; all else are arguments.
_HYDRAS = (_TARGET, "_partial_", "_recursive_", "_convert_", "_args_")
_INSTALLED = ("site-packages", "dist-packages")


def instantiate(node: Mapping[str, Any], key: str) -> Any:
    """Make what a node describes, as Hydra does, with plain lists and dictionaries as arguments.

    Args:
        node: has ``_target_`` and its arguments.
        key: of the node in the configuration, for messages.

    Raises:
        DeepSADError: if the target cannot be imported, does not take the arguments, or fails.
    """
    try:
        return hydra_instantiate({"_convert_": "all", **node})
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ImportError):
            # Hydra's own, which says only that the module could not be loaded.
            cause = cause.__cause__ or cause
        said = str(cause).partition("\n")[0].rstrip(".")
        raise DeepSADError(
            f"{key}: {node[_TARGET]} cannot be made ({type(cause).__name__}: {said}); correct its arguments or its code"
        ) from error


def targets_of(node: Any) -> list[str]:
    """The ``_target_`` of a node and of all nodes among its arguments, the node's own first."""
    if isinstance(node, Mapping):
        own = [node[_TARGET]] if _TARGET in node else []
        return own + [target for value in node.values() for target in targets_of(value)]
    return [target for value in node for target in targets_of(value)] if isinstance(node, list) else []


def fingerprint(target: str) -> dict[str, str]:
    """Which code a target is: the version of its distribution, or the digest of its source files.

    The digest is over the file of the target's module and all that it imports from the same top-level package, so that
    changed code is another component. Nothing is imported.

    Raises:
        DeepSADError: if there is no such module, or a source file cannot be read or is no valid Python.
    """
    top = target.partition(".")[0]
    if top in sys.stdlib_module_names:
        return {"target": target, "version": platform.python_version()}
    if (place := find_module(target)) is None:
        raise DeepSADError(f"there is no module {top} for {target}; put its folder on PYTHONPATH or correct the path")
    path = place[0]
    if set(_INSTALLED) & set(path.parts) and (distributions := _distributions().get(top)):
        return {"target": target, "version": ", ".join(version(name) for name in sorted(set(distributions)))}
    digest = hashlib.sha256()
    for file in sorted(imported_files(target)):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return {"target": target, "source": digest.hexdigest()}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The installed distributions of each top-level package, which take a while to find."""
    return packages_distributions()


def problems_of(node: Mapping[str, Any], key: str, *, given: Sequence[str] = ()) -> list[str]:
    """What is wrong with a node and with those among its arguments, told without importing what they name.

    Args:
        node: has ``_target_``.
        key: of the node in the configuration, for messages.
        given: names of positional arguments that the node's target, then a function, gets in front of its own.
    """
    return list(_problems(node, key, given))


def _problems(node: Any, key: str, given: Sequence[str] = ()) -> Iterator[str]:
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield from _problems(value, f"{key}[{number}]")
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        yield from _problems(value, f"{key}.{name}")
    if _TARGET not in node:
        return
    try:
        yield from _problems_of_target(node, key, given)
    except DeepSADError as error:
        yield from (f"{key}._target_ is {node[_TARGET]}, but {problem}" for problem in error.problems)


def _problems_of_target(node: Mapping[str, Any], key: str, given: Sequence[str]) -> Iterator[str]:
    target = str(node[_TARGET])
    if target.partition(".")[0] in sys.stdlib_module_names:
        return
    place = find_module(target)
    if place is None:
        yield f"{key}._target_ is {target}, whose module is not found; put its folder on PYTHONPATH or correct it"
        return
    path, names = place
    if not names:
        yield f"{key}._target_ is {target}, which is a module; give a class or function in it"
        return
    if (found := definition(path, names)) is None:
        yield f"{key}._target_ is {target}, but {path} defines no {names[0]}; give a class or function in it"
        return
    if given and isinstance(found, ast.ClassDef):
        yield f"{key}._target_ is {target}, which {path} defines as a class; give a function ({', '.join(given)}, ...)"
        return
    call = _signature(found)
    if call is None or "_args_" in node or node.get("_partial_"):
        return
    positional = [*call.args.posonlyargs, *call.args.args][1 if isinstance(found, ast.ClassDef) else 0 :]
    if len(positional) < len(given) and call.args.vararg is None:
        takes = ", ".join(argument.arg for argument in positional) or "nothing"
        yield f"{key}._target_ is {target}, which in {path} takes {takes}; give a function ({', '.join(given)}, ...)"
        return
    if call.args.kwarg is not None:
        return
    known = [argument.arg for argument in positional[len(given) :]]
    required = known[: max(0, len(known) - len(call.args.defaults))]
    by_keyword = zip(call.args.kwonlyargs, call.args.kw_defaults, strict=True)
    required += [argument.arg for argument, default in by_keyword if default is None]
    known += [argument.arg for argument in call.args.kwonlyargs]
    for argument in sorted(set(map(str, node)).difference(known, _HYDRAS)):
        told = ", ".join(sorted(known)) or "none"
        told += f" besides {' and '.join(given)}, which it is given" if given else ""
        yield f"{key}.{argument} is no argument of {target} in {path}; it has {told}"
    if lacking := [argument for argument in required if argument not in node]:
        yield f"{key} lacks {', '.join(lacking)}, which {target} in {path} needs; give a value"


def _signature(found: ast.stmt) -> ast.FunctionDef | None:
    """What is called, if it says so plainly: a function or an ``__init__`` that nothing decorates."""
    if isinstance(found, ast.ClassDef) and not found.decorator_list:
        inits = [one for one in found.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        found = inits[0] if inits else found
    return found if isinstance(found, ast.FunctionDef) and not found.decorator_list else None
