"""Components named by ``_target_``: found and fingerprinted without an import, imported when built."""

import ast
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepsad_pl.errors import DeepSADError

_HYDRAS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def locate(target: str, key: str) -> Any:
    """The object of a dotted path; its module is imported.

    Raises:
        DeepSADError: if the module or the attribute is missing.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DeepSADError(f"{key} is {target}, which cannot be imported ({error}); correct the path") from error


def instantiate(node: Mapping[str, Any], key: str, **more: Any) -> Any:
    """Call ``_target_`` with the node's other keys.

    Args:
        node: has ``_target_``.
        key: of the node in the configuration, for messages.
        **more: further arguments.

    Raises:
        DeepSADError: if the target cannot be imported or does not take the arguments.
    """
    made = locate(node["_target_"], f"{key}._target_")
    arguments = {name: value for name, value in node.items() if name not in _HYDRAS}
    try:
        return made(**arguments, **more)
    except (TypeError, ValueError) as error:
        raise DeepSADError(f"{key}: {node['_target_']} does not take {arguments} ({error}); correct them") from error


def fingerprint(target: str) -> dict[str, str]:
    """What the code of a target is: its distribution's version, or the digest of its files; nothing is imported."""
    top = target.partition(".")[0]
    path = _module_file(target)
    if "site-packages" in (path or Path()).parts and (found := packages_distributions().get(top)):
        return {"target": target, "version": version(found[0])}
    digest = hashlib.sha256()
    for file in sorted(_imported(path, top)) if path is not None else ():
        digest.update(file.read_bytes())
    return {"target": target, "source": digest.hexdigest()}


def problems_of(node: Mapping[str, Any], key: str) -> list[str]:
    """What is wrong with a node, told without importing what it names."""
    target = node["_target_"]
    path = _module_file(target)
    if path is None:
        return [f"{key}._target_ is {target}, whose module is not found; put its folder on PYTHONPATH or correct it"]
    return list(_name_problems(target, path, node, key))


def _name_problems(target: str, path: Path, node: Mapping[str, Any], key: str) -> Iterator[str]:
    name = target.rpartition(".")[2]
    defined: dict[str, ast.stmt] = {}
    for one in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(one, ast.ClassDef | ast.FunctionDef):
            defined[one.name] = one
        elif isinstance(one, ast.ImportFrom | ast.Import):
            defined |= {alias.asname or alias.name: one for alias in one.names}
    if name not in defined:
        yield f"{key}._target_ is {target}, but {path} defines no {name}; give the name of a class in it"
        return
    found = defined[name]
    if isinstance(found, ast.ClassDef):
        inits = [one for one in found.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if not inits:
            return
        found = inits[0]
    if isinstance(found, ast.FunctionDef) and found.args.kwarg is None:
        known = {argument.arg for argument in [*found.args.args, *found.args.kwonlyargs]} - {"self"}
        for argument in sorted(set(map(str, node)) - known - {*_HYDRAS}):
            told = ", ".join(sorted(known)) or "none"
            yield f"{key}.{argument} is no argument of {target} in {path}; it has {told}"


def _module_file(target: str) -> Path | None:
    """The source file of a target's module, found without importing any package."""
    parts = target.split(".")[:-1]
    if not parts:
        return None
    try:
        spec = find_spec(parts[0])
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin)
    for part in parts[1:]:
        folder = path.parent
        path = next((p for p in (folder / part / "__init__.py", folder / f"{part}.py") if p.is_file()), Path())
        if path == Path():
            return None
    return path if path.suffix == ".py" else None


def _imported(path: Path, top: str) -> set[Path]:
    """A file and all that it imports from the same top-level package."""
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for one in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(one, ast.ImportFrom) and one.level:
                folder = file.parents[one.level - 1]
                base = folder.joinpath(*(one.module or "").split("."))
                waiting += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
                continue
            modules = [one.module] if isinstance(one, ast.ImportFrom) else []
            modules += [alias.name for alias in one.names] if isinstance(one, ast.Import) else []
            found = [_module_file(f"{name}._") for name in modules if name and name.split(".")[0] == top]
            waiting += [p for p in found if p is not None]
    return seen
