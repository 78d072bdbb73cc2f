"""Find and read Python source files without importing them. Does not import torch."""

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from deepsad_pl.common.errors import DeepSADError


def find_module(dotted: str) -> tuple[Path, list[str]] | None:
    """Find the file of the longest prefix of a dotted path that is a module, and the names after that prefix.

    For a package the file is its ``__init__.py``, or its folder if it has none. Nothing is imported.

    Returns:
        The absolute path and the remaining names; None if the first name is not a module.
    """
    first, *rest = dotted.split(".")
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):  # no name, or a module such as __main__
        return None
    if spec is None:
        return None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if spec.has_location and spec.origin:
        file = Path(spec.origin)
    elif folders:
        file = folders[0]
    else:
        return None  # built into Python
    while rest:
        found = next((path for folder in folders for path in _candidates(folder / rest[0])), None)
        if found is None:
            break
        file, rest = found, rest[1:]
        folders = [found] if found.is_dir() else [found.parent] if found.name == "__init__.py" else []
    return file.resolve(), rest


def _candidates(path: Path) -> Iterator[Path]:
    """The existing files or folders that a module of this path (without a suffix) may be."""
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            yield file
    yield from path.parent.glob(f"{path.name}.*.so")
    if path.is_dir():
        yield path


def parse(file: Path) -> ast.Module:
    """Parse a file to its syntax tree, which is empty if the file is not Python source.

    Raises:
        DeepSADError: if the file cannot be read or is not valid Python.
    """
    if file.suffix != ".py":
        return ast.Module([], [])
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise DeepSADError(f"{file}, line {error.lineno}, is not valid Python ({error.msg}); correct it") from error
    except (OSError, ValueError) as error:
        raise DeepSADError(f"{file} cannot be read ({error}); make it a readable Python file") from error


def imported_files(target: str) -> set[Path]:
    """The file of a dotted path's module, and those it imports, directly or not, from the same top-level package.

    Raises:
        DeepSADError: if one of them cannot be read or is no valid Python.
    """
    top = target.partition(".")[0]
    seen: set[Path] = set()
    waiting = _files_on_the_way(target)
    while waiting:
        file = waiting.pop()
        if file in seen or file.is_dir():
            continue
        seen.add(file)
        for node in ast.walk(parse(file)):
            for what in _imports(node, file):
                if isinstance(what, Path):
                    waiting += _candidates(what)
                elif what.partition(".")[0] == top:
                    waiting += _files_on_the_way(what)
    return seen


def _files_on_the_way(dotted: str) -> list[Path]:
    """The file of a module and the ``__init__.py`` of its parent packages, which run when it is imported."""
    names = dotted.split(".")
    found = [find_module(".".join(names[: end + 1])) for end in range(len(names))]
    return [path for path, _ in filter(None, found)]


def _imports(node: ast.AST, file: Path) -> Iterator[str | Path]:
    """The modules that a statement may import: absolute names, or paths without a suffix for relative imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # An imported name may itself be a module.
        names = [alias.name for alias in node.names if alias.name != "*"]
        if node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from (base, *(base / name for name in names))
        else:
            yield from (f"{node.module}.{name}" for name in [*names, ""])


def definition(file: Path, names: Sequence[str]) -> tuple[Path, ast.stmt] | None:
    """Find where a name of a module is defined, following imports.

    Args:
        file: the module's file.
        names: the name, followed by attributes looked up in it.

    Returns:
        The file and the statement that defines the class or function. If the name exists but cannot be followed, the
        statement is an empty one. None if the module has no such name.

    Raises:
        DeepSADError: if a file cannot be read or is no valid Python.
    """
    return _definition(file, names, frozenset())


def _definition(file: Path, names: Sequence[str], seen: frozenset[tuple[Path, str]]) -> tuple[Path, ast.stmt] | None:
    unknown = file, ast.Pass()
    name = names[0]
    if file.is_dir():
        return None
    if (file, name) in seen or file.suffix != ".py":
        return unknown
    found: tuple[Path, ast.stmt] | None = None
    for statement in _top_level(parse(file).body):
        match statement:
            case ast.ClassDef(name=its) | ast.FunctionDef(name=its) | ast.AsyncFunctionDef(name=its) if its == name:
                found = file, statement
            case ast.FunctionDef(name="__getattr__"):  # it may provide any name
                found = found or unknown
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    if alias.name == "*":
                        found = found or unknown
                    elif (alias.asname or alias.name.partition(".")[0]) == name:
                        found = _followed(file, statement, alias.name, seen | {(file, name)})
            case _:
                stored = [one for one in ast.walk(statement) if isinstance(one, ast.Name) and one.id == name]
                found = unknown if any(isinstance(one.ctx, ast.Store) for one in stored) else found
    return unknown if found is not None and len(names) > 1 else found


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those inside if, try, with and loops."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)


def _followed(
    file: Path, statement: ast.Import | ast.ImportFrom, name: str, seen: frozenset[tuple[Path, str]]
) -> tuple[Path, ast.stmt]:
    """The definition of an imported name, or an empty statement if the name is a module or cannot be found."""
    module: Path | None = None
    if isinstance(statement, ast.ImportFrom):
        if statement.level:
            base = file.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
            module = next(_candidates(base), None)
        elif (place := find_module(str(statement.module))) is not None and not place[1]:
            module = place[0]
    return (_definition(module, [name], seen) if module is not None else None) or (file, ast.Pass())
