"""Parse ``key=value`` arguments of a command into a dataclass, without Hydra; all problems are reported at once."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from deepsad_pl import __version__
from deepsad_pl.common.console import PlainConsole, prepare_output, say
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.suggestions import suggested

_T = TypeVar("_T")


def run_command(help_text: str, work: Callable[[Sequence[str], Console], str]) -> None:
    """Run a command on the arguments of this process and print its summary; after an error, exit with code 1.

    Args:
        help_text: printed for ``--help`` or if there are no arguments.
        work: called with the arguments and a console on standard error, where errors are printed; returns the summary.
    """
    words = sys.argv[1:]
    prepare_output()
    if "--version" in words:
        say(f"deepsad_pl {__version__}")
        return
    if not words or not {"-h", "--help"}.isdisjoint(words):
        say(help_text, end="")
        return
    stderr = PlainConsole(stderr=True)
    try:
        with in_sentences():
            told = work(words, stderr)
    except DeepSADError as error:
        stderr.print(str(error), style="red", markup=False, soft_wrap=True)
        raise SystemExit(1) from None
    say(told)


def parse_words(
    words: Sequence[str],
    schema: type[_T],
    *,
    command: str,
    verbatim: Collection[str] = (),
    required: Collection[str] = (),
) -> _T:
    """Parse the arguments of a command into a dataclass.

    Args:
        words: the arguments, each ``key=value``; keys of a nested dataclass are written with a dot.
        schema: a dataclass whose required fields are ``MISSING``. The key of a field is its name, or ``key`` in its
            metadata.
        command: name of the command, for messages.
        verbatim: keys whose values are not parsed as YAML, since a path may look like a number or a list.
        required: keys without a default.

    Raises:
        DeepSADError: with every problem found.
    """
    hints, keys, problems = get_type_hints(schema), _keys(schema), []
    lists = {key for key, hint in hints.items() if getattr(hint, "__origin__", None) is list}
    declared: Any = schema
    names = {one.metadata["key"]: one.name for one in fields(declared) if "key" in one.metadata}
    cfg = OmegaConf.structured(schema)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in keys:
            near = suggested(key, keys) or f"it has {', '.join(keys)}"
            problems.append(f"there is no setting {key} of {command}; {near}" if equals else f"{word} is not key=value")
            continue
        try:
            plain = text.replace("${", "\\${")  # such a name of a file refers to nothing
            value = plain if key in verbatim else _listed(plain) if key in lists else _read(text)
            OmegaConf.update(cfg, names.get(key, key), value)
        except (OmegaConfBaseException, YAMLError) as error:
            said = str(error).partition("\n")[0].rstrip(".")
            problems.append(f"{key} is {text!r} ({said}); python {command} --help shows what is allowed")
    for key in required:
        if OmegaConf.is_missing(cfg, key) and not any(problem.startswith(f"{key} is") for problem in problems):
            problems.append(f"{key} is not set; give {key}=...")
    if problems:
        raise DeepSADError(*problems)
    found = OmegaConf.to_object(cfg)
    assert isinstance(found, schema)
    return found


def _keys(schema: type[Any]) -> list[str]:
    hints = get_type_hints(schema)
    keys = []
    for one in fields(schema):
        kind = hints[one.name]
        nested = isinstance(kind, type) and is_dataclass(kind)
        keys += [f"{one.name}.{key}" for key in _keys(kind)] if nested else [one.metadata.get("key", one.name)]
    return keys


def _listed(text: str) -> list[str]:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") and not Path(text).exists() else None
    if inner is None:
        return [text]
    return [part.strip().strip("'\"") for part in inner.split(",") if part.strip()]


def _read(text: str) -> Any:
    return OmegaConf.from_dotlist([f"value={text}"]).value
