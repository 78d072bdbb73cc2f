"""Resolve class names that the configuration may have turned into other values: ``1_0`` into 10, ``true`` into True.

Hydra's command line and YAML have different rules for this. A value that is not a string is compared with what each
class name becomes under either set of rules.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from deepsad_pl.common.errors import DeepSADError

Reading = int | float | bool | None

# A number in Hydra's override grammar (hydra/grammar/OverrideLexer.g4).
_INT = r"(?:0|[1-9](?:_?[0-9])*)"
_POINT = rf"(?:{_INT}\.|{_INT}?\.[0-9](?:_?[0-9])*)"
_HYDRA_INT = re.compile(rf"[+-]?{_INT}")
_HYDRA_FLOAT = re.compile(rf"[+-]?(?:{_POINT}|(?:{_INT}|{_POINT})e[+-]?[0-9](?:_?[0-9])*|inf|nan)", re.IGNORECASE)

# Names that YAML may read as something other than text. All others are text, or have to be quoted in YAML anyway.
_MAYBE_YAML = re.compile(r"~|(?:[0-9+.-]|true|false|yes|no|on|off|null)[0-9A-Za-z_.:+-]*", re.IGNORECASE)

# A command-line override that names classes or labels; values with Hydra's functions, dictionaries or escapes do not
# match.
_CLASS_SETTING = re.compile(
    r"(\+{0,2}(?:scenario\.(?:normal|anomaly)_class|study\.(?:normal|anomaly)_classes|dataset\.(?:normal|anomaly))=)"
    r"([^({\\]*)"
)
# An element in the value of such an override (a list or a comma-separated sweep): a quoted string, or everything up to
# the next comma or bracket.
_ELEMENT = re.compile(r"""'[^']*'|"[^"]*"|[^\[\],'"]+""")


def composed(name: str) -> str:
    """Normalize a name to composed Unicode (NFC), so that both encodings of an accented letter are equal."""
    return unicodedata.normalize("NFC", name)


@cache
def readings(name: str) -> frozenset[str]:
    """The values other than text that an unquoted name becomes on the command line and in YAML.

    Returns:
        The ``repr`` of each value, which distinguishes 1, 1.0 and True and makes NaN equal to itself.
    """
    return frozenset(repr(value) for value in (_hydra(name), _yaml(name)) if not isinstance(value, str))


def resolve_class(requested: object, classes: Sequence[str]) -> int:
    """Find the index of a class given by name or index; a name takes precedence over an index.

    A string is compared with the names first exactly, then ignoring case and (except in numbers) punctuation, so that
    ``ankle-boot`` matches ``Ankle boot``. A number or a bool matches the class whose unquoted name is read as that
    value (see :func:`readings`). A whole number that matches no name is an index.

    Args:
        requested: name or index.
        classes: the names of all classes.

    Raises:
        DeepSADError: if no class matches, or several do.
    """
    names = [composed(name) for name in classes]
    index: object = requested
    if isinstance(requested, str):
        found = _positions([name == composed(requested) for name in names])
        if not found and len(folded := _positions([_fold(name) == _fold(requested) for name in names])) == 1:
            found = folded
        if re.fullmatch(r"0|[1-9][0-9]{0,8}", requested):
            index = int(requested)
    else:
        found = _positions([requested is not None and repr(requested) in readings(name) for name in names])
    if len(found) == 1:
        return found[0]
    if found:
        alike = [classes[i] for i in found]
        raise DeepSADError(
            f"{requested} could mean any of the classes {', '.join(alike)}; quote the one you mean: {_how(alike)}"
        )
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(classes):
        return index
    listed = ", ".join(f"{i} {name}" if str(i) != name else name for i, name in enumerate(classes))
    hint = ""
    if requested is None and (null := [name for name in classes if repr(requested) in readings(name)]):
        hint = f"; to choose a class of that name, quote it: {_how(null)}"
    asked = "null" if requested is None else repr(requested)
    raise DeepSADError(f"there is no class {asked}; choose one of these by index or name: {listed}{hint}")


def read_alike(classes: Sequence[str]) -> bool:
    """Whether two of the unquoted names would be read as the same value, so that names have to be quoted."""
    found = [reading for name in classes for reading in readings(name)]
    return len(found) > len(set(found))


def quote_names(word: str) -> str:
    """In a command-line argument, quote names of classes and labels that Hydra would refuse or turn into other values.

    These are numbers, bools and names with non-ASCII characters. Whole numbers that may be indices, such as 7, and null
    stay unquoted.
    """
    setting = _CLASS_SETTING.fullmatch(word)
    if setting is None:
        return word
    return setting[1] + _ELEMENT.sub(_quoted_if_read, setting[2])


def _quoted_if_read(element: re.Match[str]) -> str:
    text = element[0].strip(" \t")
    if text.startswith(("'", '"')):
        return element[0]
    value = _hydra(text)
    if not text.isascii() or isinstance(value, bool | float) or (isinstance(value, int) and str(value) != text):
        return element[0].replace(text, f"'{text}'")
    return element[0]


def _hydra(name: str) -> Reading | str:
    text = name.strip(" \t")
    if text.lower() in ("true", "false", "null"):
        return {"true": True, "false": False}.get(text.lower())
    try:
        if _HYDRA_INT.fullmatch(text):
            return int(text)
        if _HYDRA_FLOAT.fullmatch(text):
            return float(text)
    except ValueError:  # more digits than Python converts
        pass
    return name


def _yaml(name: str) -> Reading | str:
    text = name.strip(" ")
    if not _MAYBE_YAML.fullmatch(text):
        return name
    from omegaconf import OmegaConf

    try:
        value = OmegaConf.create(f"- {text}")[0]
    except ValueError:  # such as 0x_, or more digits than Python converts
        return name
    return value if value is None or isinstance(value, int | float) else name


def _how(names: Sequence[str]) -> str:
    """How to quote these names so that they stay text; the shell removes the outer quotes."""
    in_yaml = [f'"{name}"' for name in names]
    in_shell = [f"'{name}'" for name in in_yaml]
    return f"{', '.join(in_shell)} on the command line, {', '.join(in_yaml)} in YAML"


def _positions(flags: Sequence[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


def _fold(name: str) -> str:
    if readings(name):
        # Punctuation matters in numbers: 1.5 is not 1_5.
        return composed(name).casefold()
    return re.sub(r"[\W_]+", "-", composed(name).casefold())
