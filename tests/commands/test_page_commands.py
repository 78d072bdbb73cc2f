"""The commands that pages show as plain text, since they take long, are valid: all of their experiments are planned."""

import re
import shlex
from pathlib import Path

import pytest
from command_lines import loader
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from processes import ROOT

from deepsad_pl.compose.composer import Composer

# Words of commands that need the reader's own files, a finished run or a package that is not required.
_NOT_HERE = ("$RUN", "parts.csv", "photos", "dataset=mvtec", "method=tabicl")


def commands() -> list[str]:
    """The training commands in indented text of the site's pages, each of them once."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("[!_]*/**/*.md"))]
    pages += [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    found = [line for page in pages for line in re.findall(r"^    (python train\.py .*)$", page, re.MULTILINE)]
    return [line for line in dict.fromkeys(found) if not any(word in line for word in _NOT_HERE)]


COMMANDS = commands()


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("command", [pytest.param(command, id=command) for command in COMMANDS])
def test_a_command_of_a_page_is_valid(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[2:]
    config_dir = None
    if "--config-dir" in words:
        at = words.index("--config-dir")
        config_dir = ROOT / words[at + 1]
        monkeypatch.syspath_prepend(config_dir.parent)
        del words[at : at + 2]
    found = loader(config_dir)
    jobs = [words]
    if words[0] == "-m":
        del words[0]
        found.load_configuration("train", words, RunMode.MULTIRUN)
        parsed = OverridesParser.create(config_loader=found).parse_overrides(words)
        # Only a search can tell the experiments of an interval.
        searches = any(override.is_interval_sweep() for override in parsed)
        jobs = [] if searches else BasicSweeper.split_arguments(parsed, None)[0]
    composer = Composer(found)
    for job in jobs:
        assert composer.plan(job).method
