"""joblib workers that are forked with everything imported, for the scripts that ``fork_server`` forks.

joblib starts a worker as a new Python process, which would import torch and Lightning once more. Instead, a nursery, a
fork of the script before it has done anything, forks the workers. They are in the state of a new Python process after
its imports. They are still children of the script, which waits for them and kills them, and they notice its end.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import joblib.externals.loky.backend.fork_exec as starting

_PR_SET_CHILD_SUBREAPER = 36


def starts_workers(command: Sequence[str]) -> bool:
    """Whether a script may start joblib workers: a sweep that submits no jobs, on Linux."""
    sweeps = command[0].endswith("sweep.py") or "-m" in command[1:]
    return sys.platform == "linux" and sweeps and not any("submitit" in word or "slurm" in word for word in command)


def open_nursery() -> None:
    """Fork the nursery. This also returns in each worker, with the worker's command line in place of the script's."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    script = os.getpid()
    ours, theirs = socket.socketpair()
    # Ctrl-C is for the script and its workers; the nursery ends with the script.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    is_nursery = os.fork() == 0
    if is_nursery:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    if is_nursery:
        ours.close()
        _nurse(theirs, script)
        return
    theirs.close()

    def fork_exec(command: list[str], keep_fds: Iterable[int], env: Mapping[str, str] | None = None) -> int:
        kept = sorted({int(file) for file in keep_fds})
        ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) == signal.SIG_IGN]
        request = {"command": command, "kept": kept, "env": {**os.environ, **(env or {})}, "ignored": ignored}
        message = f"{json.dumps(request)}\n".encode()
        ours.sendall(message[socket.send_fds(ours, [message], kept) :])
        return int(ours.recv(32))

    starting.fork_exec = fork_exec


def _nurse(requests: socket.socket, script: int) -> None:
    """Fork a worker for each request, until the script ends; returns in the workers."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1 << 16, 250)
        if not message:
            os._exit(0)
        while not message.endswith(b"\n"):
            message += requests.recv(1 << 16)
        between = os.fork()
        if between == 0:
            if os.fork():
                # A process that loses its parent becomes a child of the script.
                os._exit(0)
            while os.getppid() != script and _exists(script):
                time.sleep(0.001)
            break
        os.waitpid(between, 0)
        for file in files:
            os.close(file)
    requests.sendall(str(os.getpid()).encode())
    requests.close()
    request = json.loads(message)
    # The worker's command line and messages refer to them by their numbers in the script.
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 512) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(high, request["kept"], strict=True):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    sys.argv = request["command"][1:]


def _exists(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
