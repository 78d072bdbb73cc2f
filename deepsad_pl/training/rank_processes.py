"""The processes of a distributed run on this machine: started together, stopped together, and never left behind.

A rank that waits in a collective does not react: Python's signal handlers do not run there, and an exception cannot
interrupt it. So each rank has a thread that watches. It passes a signal on to the others, and ends this process if the
main thread does not leave in time. No collective takes part in stopping, so none can be interrupted halfway.
"""

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd, to_absolute_path

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.lightning_api import (
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from deepsad_pl.common.ranks import started_ranks
from deepsad_pl.common.signals import STOPS, ctrl_c_held_back, signals_exit

# The process ID of this machine's first rank, which starts and stops the others.
_FIRST = "DEEPSAD_FIRST_RANK"
_LOOK_S = 0.1
# Seconds that a rank has to end by itself. Rank 0 has longer, since only it has something to close; a rank that ends
# breaks its connections, which wakes the ranks that wait for it.
_LEAVE_S = 1.0
_FIRST_LEAVES_S = 5.0
# After this many seconds the first rank kills the others.
_KILL_S = 3.0
# When the run is finished, the other ranks end by themselves, within this many seconds.
_END_S = 30.0
# A signal for all processes should reach the first rank before a copy that another rank passes on.
_PASS_ON_S = 0.2
_AGAIN = "the same command resumes from the last checkpoint"
# What messages of gloo, NCCL and torch's store contain when a rank is gone.
_LOST = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|socket|recvvalue", re.IGNORECASE)


@contextmanager
def ranks_together(devices: int, num_nodes: int) -> Iterator[None]:
    """Start the other ranks of this machine, unless a cluster does so; inside the block, all ranks end together.

    Args:
        devices: number of ranks per machine.
        num_nodes: number of machines.

    Raises:
        DeepSADError: if another rank has died.
        Stopped: if a signal has reached this rank, or another one of this machine.
    """
    if devices * num_nodes == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals_exit(replace=True), _Watch() as watch:
        if devices > 1 and "LOCAL_RANK" not in os.environ and not _cluster_starts_ranks(devices * num_nodes):
            watch.start_others(devices, devices * num_nodes)
        try:
            yield
        except Exception as error:
            if (told := watch.explained(error)) is error:
                raise
            raise told from error


def environment_of(ranks: int) -> LightningEnvironment | SLURMEnvironment | None:
    """The environment that started the ranks; None: let Lightning detect it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where srun exists, Lightning advises using it
        if not SLURMEnvironment.detect():
            return None
    if 1 < ranks == started_ranks():
        # The submitter requeues the job; Lightning would requeue it too, and write a second checkpoint.
        return SLURMEnvironment(auto_requeue=False)
    # The tasks of this SLURM job do not belong to this run, but Lightning would wait for them.
    return LightningEnvironment()


def _cluster_starts_ranks(ranks: int) -> bool:
    """Whether a cluster, or torchrun, starts all ranks of the run."""
    environment = environment_of(ranks)
    others = (LSFEnvironment, TorchElasticEnvironment, MPIEnvironment)
    return isinstance(environment, SLURMEnvironment) or (environment is None and any(one.detect() for one in others))


class _Watch:
    """Watches the ranks of this machine from a thread."""

    def __init__(self) -> None:
        self._others: dict[int, subprocess.Popen[bytes]] = {}
        first = os.environ.get(_FIRST)
        self._first = int(first) if first and os.environ.get("LOCAL_RANK", "0") != "0" else None
        self._environment: dict[str, str | None] = {}
        self._signal: int | None = None
        self._lost: str | None = None
        self._since = 0.0
        self._left = False
        self._thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)

    def __enter__(self) -> "_Watch":
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wakes, False)
        self._before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._left = True
        self._thread.join()
        signal.set_wakeup_fd(self._before)
        os.close(self._woken)
        os.close(self._wakes)
        # Only rank 0 has files to close. After an error of its own, another rank may still be writing its log.
        self._end_others(_END_S if kind is None else _LEAVE_S if issubclass(kind, Exception) else 0)
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def start_others(self, devices: int, world_size: int) -> None:
        """Start the other ranks of this machine, as Lightning would, with the command of this one."""
        environment = LightningEnvironment()
        ours = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(world_size),
        }
        self._environment = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        for rank in range(1, devices):
            command, cwd = _command(rank)
            changed = {**os.environ, "LOCAL_RANK": str(rank), _FIRST: str(os.getpid())}
            with ctrl_c_held_back():
                self._others[rank] = subprocess.Popen(command, env=changed, cwd=cwd)

    def explained(self, error: Exception) -> BaseException:
        """The exception to raise for an error: if another rank's end has caused it, one that says so."""
        if isinstance(error, DeepSADError) or not _LOST.search(str(error)):
            return error
        # The connection breaks before the other process is gone.
        end = time.monotonic() + _KILL_S
        while self._lost is None and (self._others or self._first) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        if self._first is not None and (self._lost is None or not self._speaks):
            # The first rank reports the loss, or the second one if the first is gone.
            return SystemExit(1)
        # One of another machine, or this error has a reason of its own.
        said = re.sub(r"^\[\S+:\d+\] ", "", str(error).partition("\n")[0]).partition(". ")[0]
        lost = self._lost or f"another process of this distributed run has ended, or cannot be reached ({said})"
        return DeepSADError(f"{lost}; {_AGAIN}")

    @property
    def _speaks(self) -> bool:
        """Whether this rank reports the loss of a rank of this machine."""
        return os.environ.get("LOCAL_RANK", "0") in ("0", "1")

    def _watch(self) -> None:
        while not self._left:
            if select.select([self._woken], [], [], _LOOK_S)[0]:
                for number in os.read(self._woken, 1 << 10):
                    if number in STOPS and self._signal is None:
                        self._signal, self._since = number, time.monotonic()
                        self._pass_on()
            if self._signal is None and self._lost is None:
                self._look()
            if self._signal is not None or self._lost is not None:
                self._force()

    def _pass_on(self) -> None:
        # As SIGTERM, since a second Ctrl-C would end the process at once.
        for other in self._others.values():
            other.terminate()
        # After Ctrl-C, which usually reaches all ranks, rank 0 sees by the exit code if it has not had it itself.
        if self._first is not None and self._signal not in (None, signal.SIGINT):
            time.sleep(_PASS_ON_S)
            if os.getppid() == self._first:
                os.kill(self._first, self._signal)

    def _look(self) -> None:
        """Notice if a rank of this machine has ended too early."""
        for rank, other in self._others.items():
            code = other.poll()
            if not code:
                continue
            stopped = [number for number in STOPS if code in (-number, 128 + number)]
            if stopped:
                os.kill(os.getpid(), stopped[0])
                return
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has failed with exit code {code}"
            self._lost, self._since = f"rank {rank} of this distributed run {how}", time.monotonic()
            return
        if self._first is not None and os.getppid() != self._first:
            self._lost, self._since = "rank 0 of this distributed run was ended by SIGKILL", time.monotonic()

    def _force(self) -> None:
        """End this process if the main thread, perhaps waiting for a rank that is gone, has not left in time."""
        waited = time.monotonic() - self._since
        if waited > _KILL_S:
            for other in self._others.values():
                other.kill()
        if waited < (_FIRST_LEAVES_S if self._first is None else _LEAVE_S):
            return
        if self._lost is not None and self._speaks:
            console.print(f"{self._lost}; {_AGAIN}", style="red", markup=False, soft_wrap=True)
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1 if self._signal is None else 128 + self._signal)

    def _end_others(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for other in self._others.values():
            try:
                other.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()


def _command(rank: int) -> tuple[list[str], str | None]:
    """The command line of another rank, and its working directory."""
    import __main__

    spec = getattr(__main__, "__spec__", None)
    if not HydraConfig.initialized():
        script = [str(Path(sys.argv[0]).resolve())] if spec is None else ["-m", spec.name]
        return [sys.executable, *script, *sys.argv[1:]], None
    script = [to_absolute_path(sys.argv[0])] if spec is None else ["-m", spec.name]
    own = [f'hydra.run.dir="{HydraConfig.get().run.dir}"', f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, *script, *sys.argv[1:], *own], get_original_cwd()
