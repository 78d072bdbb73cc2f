"""Scripts of the checkout in the background."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conftest import ROOT


@contextmanager
def background(script: str, *words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A script of the checkout in a process that does not outlive the block, nor do its own."""
    command = [sys.executable, str(ROOT / script), *words]
    process = subprocess.Popen(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until something has happened while the process runs, two minutes at most."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.002)
