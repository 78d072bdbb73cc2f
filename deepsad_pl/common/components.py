"""Components named by ``_target_``: checked and fingerprinted without importing them, imported when instantiated."""

import hashlib
import platform
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from traceback import extract_tb
from typing import Any

from hydra.utils import get_object
from hydra.utils import instantiate as hydra_instantiate

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.module_sources import definition, find_module, imported_files
from deepsad_pl.common.ranges import problems as value_problems
from deepsad_pl.common.signatures import signature_of
from deepsad_pl.common.suggestions import suggested

_TARGET = "_target_"
# The keys of a node that Hydra reads itself; all others are arguments.
_HYDRAS = (_TARGET, "_partial_", "_recursive_", "_convert_", "_args_")
_INSTALLED = ("site-packages", "dist-packages")


def instantiate(node: Mapping[str, Any], key: str, **supplied: Any) -> Any:
    """Instantiate a node as Hydra does, with plain lists and dictionaries as arguments.

    Args:
        node: has ``_target_`` and its arguments.
        key: the node's key in the configuration, for messages.
        **supplied: further arguments, passed on unchanged; arguments of the node take precedence.

    Raises:
        DeepSADError: if the target cannot be imported, does not take the arguments, or fails.
    """
    try:
        call = hydra_instantiate({"_convert_": "all", **node, "_partial_": True})
        call = partial(call, **{name: value for name, value in supplied.items() if name not in node})
        return call if node.get("_partial_") else call()
    except DeepSADError:
        # Its own sentence says what is wrong and what to do, whatever caused it.
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, DeepSADError):
            raise cause from None
        if isinstance(cause, ImportError):
            # Hydra's own error says only that the module could not be loaded; its cause says why.
            cause = cause.__cause__ or cause
        said = str(cause).partition("\n")[0].rstrip(".")
        told = f"{type(cause).__name__}: {said}{_place(node[_TARGET], cause)}"
        raise DeepSADError(
            f"{key}: {node[_TARGET]} cannot be created ({told}); correct its arguments or its code"
        ) from cause


def _place(target: str, error: BaseException) -> str:
    """The source file of a target from outside the package, and the line in it that raised an error."""
    if target.startswith("deepsad_pl.") or (place := find_module(target)) is None:
        return ""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename) == place[0]]
    return f", in {place[0]}{f', line {lines[-1]}' if lines else ''}"


def load(target: str, key: str) -> Any:
    """Import the object that a dotted path names.

    Args:
        target: the dotted path.
        key: the setting that holds it, for messages.

    Raises:
        DeepSADError: if it cannot be imported.
    """
    try:
        return get_object(target)
    except Exception as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise DeepSADError(f"{key} is {target}, which cannot be imported ({said}); correct it or its code") from error


def targets_of(node: Any) -> list[str]:
    """The ``_target_`` of a node and of all nodes nested in its arguments, the node's own first."""
    if isinstance(node, Mapping):
        own = [node[_TARGET]] if _TARGET in node else []
        return own + [target for value in node.values() for target in targets_of(value)]
    return [target for value in node for target in targets_of(value)] if isinstance(node, list | tuple) else []


def fingerprint(target: str) -> dict[str, str]:
    """Identify the code of a target by the version of its distribution, or by a digest of its source files.

    The digest covers the file of the target's module and every file it imports from the same top-level package, so
    changed code counts as a different component. Nothing is imported.

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
    """The installed distributions of each top-level package; cached, as finding them is slow."""
    return packages_distributions()


def problems_of(
    node: Any,
    key: str,
    *,
    supplied: Collection[str] = (),
    kept: Collection[str] = (),
    given: Sequence[str] = (),
) -> list[str]:
    """List what is wrong with a node and the nodes nested in its arguments, without importing their targets.

    Args:
        node: has ``_target_``; what has none is searched for nodes.
        key: the node's key in the configuration, for messages.
        supplied: names of arguments that the package supplies, so the node need not give them.
        kept: names of settings that the package reads itself; they are passed on only if the target takes them.
        given: names of positional arguments passed before the node's own; if any, the target must be a function.
    """
    if isinstance(node, list):
        return [problem for number, value in enumerate(node) for problem in problems_of(value, f"{key}[{number}]")]
    if not isinstance(node, Mapping):
        return []
    nested = {name: value for name, value in node.items() if name not in kept}
    found = [problem for name, value in nested.items() for problem in problems_of(value, f"{key}.{name}")]
    try:
        return found + (list(_problems_of_target(node, key, supplied, kept, given)) if _TARGET in node else [])
    except DeepSADError as error:
        return found + [f"{key}._target_ is {node[_TARGET]}, but {problem}" for problem in error.problems]


def _problems_of_target(
    node: Mapping[str, Any], key: str, supplied: Collection[str], kept: Collection[str], given: Sequence[str]
) -> Iterator[str]:
    target = str(node[_TARGET])
    if target.partition(".")[0] in sys.stdlib_module_names:
        return
    call = signature_of(target)
    place = find_module(target) if call is None else (call.path, [target])
    if place is None:
        yield f"{key}._target_ is {target}, whose module is not found; put its folder on PYTHONPATH or correct it"
        return
    path, names = place
    if not names:
        yield f"{key}._target_ is {target}, which is a module; name a class or function in it"
        return
    if call is None:
        if definition(path, names) is None:
            yield f"{key}._target_ is {target}, but {path} defines no {names[0]}; name a class or function in it"
        return
    where = "" if target.startswith("deepsad_pl.") else f" in {call.path}"
    besides = ""
    if given:
        if call.is_class:
            yield f"{key}._target_ is {target}, a class{where}; use a function ({', '.join(given)}, ...)"
            return
        if len(call.positional) < len(given) and not call.more_positional:
            takes = ", ".join(call.positional) or "nothing"
            yield f"{key}._target_ is {target}, which{where} takes {takes}; use a function ({', '.join(given)}, ...)"
            return
        supplied = (*supplied, *call.positional[: len(given)])
        besides = f" besides {' and '.join(given)}, which are passed to it"
    for argument, value in node.items():
        if argument in call.kinds and not (value is None and argument in supplied):
            yield from value_problems(f"{key}.{argument}", value, call.kinds[argument])
    if call.open or "_args_" in node or node.get("_partial_"):
        return
    known = set(call.kinds).difference(call.positional[: len(given)])
    for argument in sorted(set(map(str, node)).difference(known, _HYDRAS, kept)):
        names = sorted(known.difference(supplied))
        near = suggested(f"{key}.{argument}", [f"{key}.{name}" for name in (*names, *kept)])
        told = near or f"it has {', '.join(names) or 'none'}{besides}"
        yield f"{key}.{argument} is not an argument of {target}{where}; {told}"
    if lacking := [argument for argument in call.required if argument not in node and argument not in supplied]:
        yield f"{key} lacks {', '.join(lacking)}, which {target}{where} requires; set a value"
