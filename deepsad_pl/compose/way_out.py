"""Corrections of common mistakes on the command line, quoted for a shell."""

import re
import shlex
from collections.abc import Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.compose.override_text import quoted

# 0-9, 0..9 or 0:9, meant as all numbers from first to last.
_FROM_TO = re.compile(r"\s*(\d+)\s*(?:-|\.\.|:)\s*(\d+)\s*")
# The most further numbers of a range that are written out.
_MOST_LISTED = 20
# A word whose value might have to be quoted.
_WORD = re.compile(r"([+~]*[\w./@]+)=(.+)", re.DOTALL)
# Hydra's link to its grammar, which does not say how to fix the mistake.
_SEE = re.compile(r" See https?://\S+ for details")
# What to write for values of settings that users know from other programs.
_INSTEAD = {
    "trainer.devices": "leave it out for one device, or give their number: trainer=ddp trainer.devices=2",
    "trainer.num_nodes": "leave it out for one node, or give their number: trainer=ddp trainer.num_nodes=2",
}
# Hydra's settings of folders, with the values that they have here.
_HYDRAS_FOLDERS = {
    "hydra.job.chdir": False,
    "hydra.run.dir": ".",
    "hydra.sweep.dir": ".",
    "hydra.sweep.subdir": ".",
    "hydra.output_subdir": None,
}


def way_out(key: str, value: object, *, wants_list: bool = False) -> str:
    """A clause that says what to write instead of a value that does not fit a setting; empty if nothing is known.

    >>> way_out("seed", "0-9")
    "; for each number from 0 to 9: python train.py -m 'seed=range(0,10)'"

    Args:
        key: full name of the setting.
        value: the value.
        wants_list: whether the setting is a list.
    """
    found = _FROM_TO.fullmatch(value) if isinstance(value, str) else None
    first, last = map(int, found.groups()) if found is not None else (0, 0)
    if wants_list:
        numbers = ",".join(map(str, range(first, min(last, first + _MOST_LISTED) + 1)))
        return f"; give a list, such as '{key}=[{value if found is None else numbers}]'"
    if found is not None:
        return f"; for each number from {first} to {last}: python train.py -m '{key}=range({first},{last + 1})'"
    return f"; {_INSTEAD[key]}" if key in _INSTEAD else ""


def parse_problem(error: OverrideParseException) -> str:
    """The message about a word that Hydra cannot parse, with the quotes that turn its value into text."""
    told = _SEE.sub("", " ".join(f"{error.override}: {error.message}".split()))
    found = _WORD.fullmatch(str(error.override))
    return f"{told}; if the value is text, quote it: {_in_shell(found[1], found[2])}" if found is not None else told


def _in_shell(key: str, value: str) -> str:
    text = quoted(value.lstrip("'\"["), number=True)
    word = f"{key}={text}"
    if not text.startswith("'"):
        return word
    return shlex.quote(word) if set(word) & set('"$`!') or "\\\\" in word else f'"{word}"'


def sweep_problems(loader: ConfigLoader, words: Sequence[str]) -> Iterator[str]:
    """Yield a message for each word that gives a single experiment several values.

    Args:
        loader: Hydra's configuration loader.
        words: the overrides.
    """
    try:
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    except OverrideParseException:
        return
    for override in overrides:
        if override.is_sweep_override():
            line = str(override.input_line)
            yield (
                f"{line} has several values, of which one experiment takes one; for an experiment of each, run "
                f"python train.py -m {_sweep_in_shell(line)}"
            )


def _sweep_in_shell(line: str) -> str:
    return line if re.fullmatch(r"[\w.,=/+-]*", line) else shlex.quote(line)


def folder_problems(cfg: DictConfig) -> Iterator[str]:
    """Yield a message for each of Hydra's settings that would create a folder of its own.

    Args:
        cfg: the configuration, with Hydra's settings.
    """
    for key, ours in _HYDRAS_FOLDERS.items():
        value = OmegaConf.select(cfg, key, default=ours, throw_on_missing=False)
        if value != ours and value is not None:
            folder = value if isinstance(value, str) and key.endswith(".dir") else "<folder>"
            yield (
                f"{key} is {value}, but the package makes and names the run folders itself; leave it out, and choose "
                f"their place with output_dir={folder}"
            )
