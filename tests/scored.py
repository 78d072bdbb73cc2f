"""Call score.py in this process."""

from pathlib import Path

import pytest
from rich.console import Console

from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.common.errors import DeepSADError


def scored(run_dir: Path, *words: str) -> str:
    """The summary of a command."""
    return score_new(parsed([f"run={run_dir}", *words]), Console(stderr=True))


def refused(run_dir: Path, *words: str) -> str:
    """The message of a command that ends with an error."""
    with pytest.raises(DeepSADError) as caught:
        scored(run_dir, *words)
    return str(caught.value)
