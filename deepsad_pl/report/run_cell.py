"""The cell of a run in a page's table: a link to its page, or the command that makes it."""

import os
import shlex
from pathlib import Path
from urllib.parse import quote

from deepsad_pl.common.records import REPORT
from deepsad_pl.pages.tables import Cell


def run_cell(folder: Path, run: Path) -> Cell:
    """A link to the page of a run; without a page the command that writes it; blank if there is no such run.

    A folder is no place to link to: a browser shows its files at best, and ``action=serve`` does not show it.

    Args:
        folder: folder of the page with the table; the link is relative to it.
        run: the run folder.
    """
    if (run / REPORT).exists():
        # Names may have characters that end the path of an address, such as # and ?.
        return Cell("page", None, quote(Path(os.path.relpath(run / REPORT, folder)).as_posix()))
    return Cell(shlex.join(["python", "report.py", f"run={run}"]), is_code=True) if run.exists() else Cell("")
