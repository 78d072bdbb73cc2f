"""Find the files that a setting names by paths and globs."""

from glob import glob
from pathlib import Path
from typing import Any


def files_named(value: Any) -> list[Path]:
    """The files that a setting names, in its order.

    Args:
        value: a path, a glob such as ``day*.csv``, or a list of them; None: no file. A glob is replaced by the
            files that match it, sorted by name. A path that exists, or a glob that nothing matches, stays as it is.
    """
    found: list[Path] = []
    for one in [] if value is None else value if isinstance(value, list | tuple) else [value]:
        path = Path(one).expanduser()
        matches = [] if path.exists() else sorted(glob(str(path), recursive=True))  # noqa: PTH207 (absolute or not)
        found += [Path(match) for match in matches] or [path]
    return found
