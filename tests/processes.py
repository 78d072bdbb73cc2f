"""Run scripts of the checkout in separate processes, forked from one that has already imported everything."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOCKET = "DEEPSAD_TEST_FORK_SERVER"


@contextmanager
def fork_server() -> Iterator[None]:
    """Start a server for this process and its children. It imports only at the first request: idle, it is cheap."""
    with tempfile.TemporaryDirectory(prefix="fork_server_") as folder:
        address = str(Path(folder, "socket"))
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
            os.environ[SOCKET] = address
            yield
            del os.environ[SOCKET]
            assert server.stdin is not None
            server.stdin.close()


def connection() -> socket.socket:
    """Connect to the server, which may have just been started."""
    end = time.monotonic() + 60
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(os.environ[SOCKET])
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return client


class Script:
    """A running script of the checkout, with the parts of ``subprocess.Popen`` that tests use, in text mode.

    Args:
        script: its name, or -m.
        words: its arguments on the command line.
        cwd: its working directory.
        env: its environment, in place of ours.
        merged: whether stdout also has what goes to stderr.
        new_session: whether it does not get signals to our process group.
    """

    def __init__(
        self,
        script: str,
        *words: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        merged: bool = False,
        new_session: bool = False,
    ) -> None:
        self.args = [script if script == "-m" else str(ROOT / script), *words]
        self.returncode: int | None = None
        request = {
            "command": self.args,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "new_session": new_session,
        }
        read_out, write_out = os.pipe()
        read_err, write_err = (None, write_out) if merged else os.pipe()
        self._server = connection()
        message = f"{json.dumps(request)}\n".encode()
        with Path(os.devnull).open() as nothing:
            sent = socket.send_fds(self._server, [message], [nothing.fileno(), write_out, write_err])
        self._server.sendall(message[sent:])
        for file in {write_out, write_err}:
            os.close(file)
        self._answers = self._server.makefile("r")
        self.pid = int(self._answers.readline())
        self._output = [""] * 2
        self._readers = [Thread(target=self._read, args=(0, read_out), daemon=True)]
        if read_err is not None:
            self._readers.append(Thread(target=self._read, args=(1, read_err), daemon=True))
        for reader in self._readers:
            reader.start()

    def _read(self, stream: int, file: int) -> None:
        with open(file) as pipe:
            self._output[stream] = pipe.read()

    def poll(self) -> int | None:
        return self._await(0)

    def _await(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._server], [], [], seconds)[0]:
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._server.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self._await(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The output of the script and its children, once all of them have ended."""
        end = None if timeout is None else time.monotonic() + timeout
        for reader in self._readers:
            reader.join(None if end is None else max(0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if end is None else max(0, end - time.monotonic()))
        return self._output[0], self._output[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_script(
    script: str, *words: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Like ``subprocess.run`` with captured text."""
    process = Script(script, *words, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


_run = subprocess.run


def run_command(command: Sequence[str], *, cwd: Path | None = None, check: bool = False, **streams: Any) -> Any:
    """A replacement of ``subprocess.run`` that forks scripts of the checkout and passes everything else on."""
    if command[0] != sys.executable or cwd != ROOT:
        return _run(command, cwd=cwd, check=check, **streams)
    done = run_script(*command[1:], cwd=cwd)
    if check:
        done.check_returncode()
    return done


@contextmanager
def background(script: str, *words: str, cwd: Path) -> Iterator[Script]:
    """A script of the checkout in a process that ends with the block, and so do its children."""
    process = Script(script, *words, cwd=cwd, merged=True, new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], object], process: Script) -> None:
    """Wait for a condition while the process runs, for at most two minutes."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.002)
