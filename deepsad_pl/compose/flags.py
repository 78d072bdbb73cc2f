"""Hydra's flags on a command line: put where Hydra can read them, or refused in a sentence with the right words."""

import shlex
from collections.abc import Iterator, Sequence, Set
from typing import Never

from hydra._internal.utils import get_args_parser

from deepsad_pl.common.errors import DeepSADError


def flags_first(words: Sequence[str], script: str) -> list[str]:
    """Move the flags before the settings: Hydra takes no settings after a flag that follows others.

    >>> flags_first(["seed=1", "-m", "dataset=toy"], "train.py")
    ['-m', 'seed=1', 'dataset=toy']

    Args:
        words: the arguments of a command.
        script: name of the command, for messages.

    Raises:
        DeepSADError: if a flag does not exist, lacks its value or excludes another one, or a setting is not written as
            key=value.
    """
    parser = get_args_parser()

    def refuse(message: str) -> Never:
        raise DeepSADError(f"{message}; python {script} --help shows the flags")

    parser.error = refuse  # type: ignore[method-assign]
    known, unknown = parser.parse_known_intermixed_args(list(words))
    # None without any; one that has a space counts as a setting even if it starts with a dash.
    settings: list[str] = known.overrides or []
    if problems := [*_problems(words, {word for word in unknown + settings if word.startswith("-")}, settings, script)]:
        raise DeepSADError(*problems)
    shows = [flag for flag, given in (("--cfg", known.cfg), ("--info", known.info)) if given is not None]
    if known.resolve and known.cfg is None:
        raise DeepSADError("--resolve belongs to --cfg; add --cfg job, or leave it out")
    if shows and known.multirun:
        raise DeepSADError(f"{shows[0]} shows one configuration; leave out -m, and give each setting one value")
    exclusive = [flag for flag, given in (("-r", known.run), ("-m", known.multirun)) if given] + shows
    exclusive += ["--shell-completion"] if known.shell_completion else []
    if len(exclusive) > 1:
        raise DeepSADError(f"{' and '.join(exclusive)} exclude each other; give one of them")
    flags = list(words)
    for word in reversed(settings):
        # Backwards, since the value of a flag may look the same as a setting but precede it.
        del flags[len(flags) - 1 - flags[::-1].index(word)]
    return [*flags, *settings]


def _problems(words: Sequence[str], no_flags: Set[str], settings: Sequence[str], script: str) -> Iterator[str]:
    values = set()
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        if word not in no_flags:
            continue
        name, equals, value = word.partition("=")
        if not equals and "=" not in following and not following.startswith("-"):
            values.add(value := following)
        meant = shlex.quote(f"{name.lstrip('-')}={value}")
        told = f"settings have no dashes: {meant}" if value else f"python {script} --help shows the flags"
        yield f"there is no flag {name}; {told}"
    if strays := [
        word for word in settings if "=" not in word and not word.startswith(("~", "-")) and word not in values
    ]:
        told = "; leave no spaces around =, and put a value with spaces in quotes"
        yield f"{shlex.join(strays)} is not a setting, such as seed=1{told}"
