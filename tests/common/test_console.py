"""Output into narrow terminals, closed pipes and encodings without all letters."""

import io
import subprocess
import sys

import pytest
from processes import ROOT
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepsad_pl.common.console import progress_columns
from deepsad_pl.experiment import show_outcome

CLOSED = 128 + 13


def ran(code: str, *, encoding: str = "utf-8", closed: bool = False) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a program; its output is closed before it writes, if wanted."""
    before = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", before + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONIOENCODING": encoding, "PATH": ""},
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        if closed:
            process.stdout.close()
        process.stdin.close()
        out = b"" if closed else process.stdout.read()
        errors = process.stderr.read()
    return process.returncode, out, errors


@pytest.mark.parametrize(
    "code",
    [
        "from deepsad_pl.common.console import console; console.print('a'); print('not reached', file=sys.stderr)",
        "from deepsad_pl.common.console import say; say('a'); print('not reached', file=sys.stderr)",
    ],
    ids=["console", "say"],
)
def test_a_program_whose_reader_has_gone_ends_without_a_word(code: str) -> None:
    assert ran(code, closed=True) == (CLOSED, b"", b"")


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_help_whose_reader_has_gone_ends_without_a_word(command: str) -> None:
    code = f"sys.argv = ['{command}.py', '--help']; from deepsad_pl.commands.main import {command}; {command}()"
    status, _, errors = ran(code, closed=True)
    assert (abs(status), errors) == (13, b"")


def test_letters_that_an_encoding_lacks_are_escapes() -> None:
    code = (
        "from deepsad_pl.common.console import console, prepare_output\n"
        "prepare_output(); console.print('caf\\u00e9'); print('\\u7570\\udce9')"
    )
    assert ran(code, encoding="ascii") == (0, b"caf\\xe9\n\\u7570\\udce9\n", b"")


def test_the_auroc_is_whole_in_the_table_of_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=40, file=io.StringIO())
    monkeypatch.setattr(show_outcome, "console", narrow)
    swept = {"scenario.normal_class": "pullover", "method": "soft_boundary_svdd"}
    show_outcome.show_sweep([({**swept, "seed": str(seed)}, 0.9123) for seed in range(3)])
    told = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "0.9123" in told and max(map(len, told.splitlines())) <= 40


@pytest.mark.parametrize(("width", "bars"), [(40, 0), (59, 0), (60, 1), (200, 1)])
def test_progress_shows_numbers_and_loss_in_a_narrow_terminal(width: int, bars: int) -> None:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    columns = progress_columns(
        console,
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    assert sum(isinstance(one, BarColumn) for one in columns) == bars
    with Progress(*columns, console=console) as progress:
        progress.add_task("pretrain", total=150, completed=20, loss="loss 0.1234")
    assert " 20/150 epochs  loss 0.1234" in console.file.getvalue()  # type: ignore[attr-defined]
