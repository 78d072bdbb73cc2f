"""A process that has imported everything a script imports, and forks a copy of itself for each script of a test.

Importing torch and Lightning takes most of the time of a short script. A fork is still a real process, with its own
working directory, environment, output, signals, and exit code. ``processes`` is the client.

    python fork_server.py SOCKET

listens until its standard input is closed, and then kills the processes that still run.
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

# Modules that scripts import; the first one sets variables that torch reads when it is loaded.
MODULES = (
    "deepsad_pl.commands.main",
    "hydra._internal.hydra",
    "joblib",
    "warm_workers",
    "sklearn.datasets",
    "sklearn.model_selection",
    "wandb",
    "deepsad_pl.experiment.run",
    "deepsad_pl.shallow.models",
    "deepsad_pl.stacked.experiments",
    "deepsad_pl.study.study",
    "deepsad_pl.experiment.show_outcome",
    # For a page.
    "captum.attr",
    "matplotlib.backends.backend_agg",
)
# What a run in W&B imports, if its release does.
OF_WANDB = (
    "wandb.sdk.launch",
    "requests",
    "opentelemetry.sdk.metrics",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
)


def import_all() -> None:
    """Import the modules, and check that this has started no thread."""
    # pandas imports pyarrow, whose allocator would start one.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    for name in MODULES:
        importlib.import_module(name)
        if name == "deepsad_pl.commands.main":
            from deepsad_pl.training.fast_import import import_lightning

            import_lightning()
    for name in OF_WANDB:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    from hydra.core.plugins import Plugins

    Plugins.instance()
    threads = len(list(Path("/proc/self/task").iterdir())) if Path("/proc/self/task").exists() else 1
    assert threads == 1, "a fork has one thread: what the others hold would stay locked"
    gc.collect()
    gc.freeze()


def become(request: dict[str, Any], files: list[int]) -> None:
    """Turn this fork into a process that has just been started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # As Python does before anything else.
    sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = request["command"]
    # A module of a test that changes this process, such as the file events of tests/torture.
    if hook := os.environ.get("DEEPSAD_TEST_HOOK"):
        importlib.import_module(hook)
    _renew_output()
    # The console has read the width of the terminal from the environment.
    from deepsad_pl.common.console import console

    console.__init__()  # type: ignore[misc]


def _renew_output() -> None:
    # The present objects know whether the server's own output, which may be of another kind, can be rewound.
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for name, number, usual in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
        new = io.TextIOWrapper(raw, encoding, errors or usual, line_buffering=name == "stderr" or raw.isatty())
        setattr(sys, name, new)


def run() -> None:
    """Do what Python does with its command line: a script, or -m and a module."""
    if sys.argv[0] == "-m":
        del sys.argv[0]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


def request_from(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive a command and its standard streams; nothing if the client has died meanwhile."""
    message, files, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while not message.endswith(b"\n"):
        if not (more := client.recv(1 << 16)):
            return None, files
        message += more
    return json.loads(message), files


def serve(listener: socket.socket) -> bool:
    """Answer requests; return whether this process is a fork, which then has to run its command."""
    running: dict[int, socket.socket] = {}
    ready = False
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then ends the server
    while True:
        sources, _, _ = select.select([sys.stdin, woken, listener], [], [])
        if sys.stdin in sources:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return False
        if woken in sources:
            woken.recv(1 << 12)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with running.pop(ended[0]) as client, suppress(ConnectionError):
                    client.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
        if listener in sources:
            client, _ = listener.accept()
            request, files = request_from(client)
            if request is not None:
                if not ready:
                    import_all()
                    ready = True
                pid = os.fork()
                if pid == 0:
                    for inherited in (client, woken, wakes, *running.values()):
                        inherited.close()
                    become(request, files)
                    return True
                running[pid] = client
                with suppress(ConnectionError):
                    client.sendall(f"{pid}\n".encode())
            for file in files:
                os.close(file)


def end(code: object) -> NoReturn:
    """End as Python does, but keep all modules: unloading them would copy every memory page shared with the server."""
    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        is_fork = serve(listener)
    if is_fork:
        import warm_workers  # it imports joblib

        code: object = None
        try:
            if warm_workers.starts_workers(sys.argv):
                try:
                    warm_workers.open_nursery()
                except KeyboardInterrupt:  # which the script would meet in its first lines
                    end(130)
            run()
        except SystemExit as stop:
            code = stop.code
        end(code)
