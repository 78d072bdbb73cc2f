"""One trial: what it may use, what it runs, and what comes of it."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from processes import Script

Verdict = Literal["right", "refused", "wrong"]
# Alone, a command of a trial takes a few seconds; one that takes this long counts as hanging.
HANGS_S = 180
# The most lines in answer to a mistake or a full disk: one sentence for each problem, no dump.
MOST_LINES = 40


class WrongError(Exception):
    """Something went wrong; the message is one sentence."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        verdict: ``right`` if the results are those of an undisturbed run, ``refused`` if a sentence said why there are
            none, ``wrong`` otherwise.
        sentence: what was tried and seen.
    """

    verdict: Verdict
    sentence: str


def right(sentence: str) -> Outcome:
    return Outcome("right", sentence)


def refused(sentence: str) -> Outcome:
    return Outcome("refused", sentence)


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    command: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def told(self) -> str:
        """The last line that is a message, for the sentence of an outcome."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
        return lines[-1] if lines else ""


class Running:
    """A command that runs in a process group of its own."""

    def __init__(self, bench: "Bench", script: str, words: tuple[str, ...], env: Mapping[str, str]) -> None:
        self._bench, self.command = bench, " ".join((script, *words))
        self._begin = time.monotonic()
        self._script = Script(script, *words, cwd=bench.folder, env={**bench.env(), **env}, new_session=True)
        self.pid = self._script.pid

    def runs_for(self, seconds: float) -> bool:
        """Wait; return whether the command still runs afterwards."""
        with suppress(subprocess.TimeoutExpired):
            self._script.wait(seconds)
        return self._script.poll() is None

    def send(self, number: int, *, to_group: bool = False) -> None:
        with suppress(ProcessLookupError):
            if to_group:
                os.killpg(self.pid, number)
            else:
                self._script.send_signal(number)

    def group(self) -> list[psutil.Process]:
        """The processes of its group that still run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def require_nothing_left(self, seconds: float) -> None:
        """Wait until no process of the group runs.

        Raises:
            WrongError: if one still runs after this time.
        """
        end = time.monotonic() + seconds
        while left := self.group():
            if time.monotonic() > end:
                with suppress(psutil.Error):
                    names = ", ".join(f"{one.pid} ({' '.join(one.cmdline())[:80]})" for one in left)
                    self.send(signal.SIGKILL, to_group=True)
                    raise WrongError(f"{seconds:g} s after its end, processes of it still run: {names}")
            time.sleep(0.05)

    def end(self, timeout: float = HANGS_S) -> Ended:
        """Wait for the end of the command and its children.

        Raises:
            WrongError: if it does not end in time; it is killed then.
        """
        hangs = None
        try:
            self._script.wait(timeout)
            self._script.communicate(10)
        except subprocess.TimeoutExpired:
            hangs = WrongError(f"it did not end within {timeout:g} s")
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        # Processes that a killed command has started may hold its output open.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        out, err = self._script.communicate(20)
        ended = Ended(self.command, self._script.wait(20), out, err, time.monotonic() - self._begin)
        self._bench.history.append(ended)
        if hangs:
            raise hangs
        return ended


@dataclass
class Bench:
    """What a trial may use: its own folder, its own random numbers, and commands.

    Attributes:
        kind: the kind of the trial.
        turn: number of earlier trials of this kind.
        rng: seeded by the seed, the kind and the turn.
        folder: an empty folder, the working directory of its commands.
        history: the commands that have ended, as evidence.
    """

    kind: str
    turn: int
    rng: random.Random
    folder: Path
    history: list[Ended] = field(default_factory=list)

    def env(self) -> dict[str, str]:
        """The environment of a command, without settings of this machine."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "DEEPSAD_", "HYDRA_"))}
        temporary = self.folder.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        return {**kept, "COLUMNS": "120", "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}

    def start(self, script: str, *words: str, env: Mapping[str, str] | None = None) -> Running:
        return Running(self, script, words, env or {})

    def run(self, script: str, *words: str, env: Mapping[str, str] | None = None, timeout: float = HANGS_S) -> Ended:
        return self.start(script, *words, env=env).end(timeout)

    def fresh(self) -> None:
        """Empty the folder."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()


def require_sentences(ended: Ended) -> None:
    """Require that a command ended regularly and did not crash.

    Raises:
        WrongError: if there is a traceback, a crash, no word about a failure, or a dump of many lines.
    """
    both = ended.out + ended.err
    for crash in ("Traceback (most recent call last)", "Segmentation fault", "core dumped", "terminate called"):
        if crash in both:
            raise WrongError(f"it printed: {crash}; the last line is: {ended.told[:300]}")
    if ended.code not in (0, 1):
        raise WrongError(f"its exit code is {ended.code}")
    if ended.code == 1 and not ended.err.strip() + ended.out.strip():
        raise WrongError("it failed without a word")
    if ended.code == 1 and len(ended.err.splitlines()) > MOST_LINES:
        raise WrongError(f"it failed with {len(ended.err.splitlines())} lines")


def require_done(ended: Ended, what: str) -> None:
    """Require success.

    Raises:
        WrongError: if the command failed, or printed a traceback.
    """
    require_sentences(ended)
    if ended.code != 0:
        raise WrongError(f"{what} ended with exit code {ended.code}: {ended.told[:300]}")
