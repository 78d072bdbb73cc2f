"""Format values as text that Hydra's override grammar parses back. Imports neither torch nor Hydra."""

import os
import re
from os import PathLike
from typing import Any

# A path that starts with ~ as a value, or as an element of a list of values.
_HOME = re.compile(r"(?<=[=\[,])~(?:/[^,\[\]{}()'\"=]*)?(?=[,\]]|$)")


def quoted(value: str | int | float | None, *, number: bool = False) -> str:
    """Format a value so that Hydra's override grammar parses it back.

    Args:
        value: the value; text that consists of digits is parsed back as a number.
        number: whether to quote such text too, so that it is parsed back as text.
    """
    if value is None:
        return "null"
    if not isinstance(value, str):
        return repr(value)
    words = ("null", "true", "false", "inf", "nan", "on", "off", "yes", "no", "y", "n")
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", value, re.ASCII) and value.lower() not in words
    if plain or (not number and re.fullmatch(r"0|[1-9][0-9]{0,8}", value)):
        return value
    # A backslash is an escape only before an interpolation or a quote.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)\Z", r"\1\1", escaped)
    return f"'{escaped}'"


def home_expanded(word: str) -> str:
    """Replace ``~`` at the start of a path by the home folder, which no shell does after ``key=``.

    Args:
        word: an override; paths in quotes stay as they are, as in a shell.
    """
    return _HOME.sub(lambda found: quoted(os.path.expanduser(found[0]), number=True), word)  # noqa: PTH111 (any user)


def override_text(value: Any) -> str:
    """Format a Python value so that Hydra's override grammar parses it back; text stays text.

    >>> override_text([1, 2.5, "12", None, True])
    "[1,2.5,'12',null,true]"

    Args:
        value: text, a path, a number, a bool, None, a NumPy scalar or array, or a list or tuple of these.
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return override_text(value.tolist())
    return quoted(str(value) if isinstance(value, PathLike) else value, number=True)
