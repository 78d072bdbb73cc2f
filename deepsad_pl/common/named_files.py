"""The files that a setting names: paths and globs."""

from glob import glob
from pathlib import Path
from typing import Any


def files_named(value: Any) -> list[Path]:
    """The files that a setting names, in its order.

    Args:
        value: a path, a glob such as ``day*.csv``, or a list of them; None: no file. A glob stands for the files that
            match it, sorted by name; a path that exists, or a glob that nothing matches, for itself.
    """
    found: list[Path] = []
    for one in [] if value is None else value if isinstance(value, list | tuple) else [value]:
        path = Path(one).expanduser()
        matches = [] if path.exists() else sorted(glob(str(path), recursive=True))  # noqa: PTH207 (absolute or not)
        found += [Path(match) for match in matches] or [path]
    return found
