"""Spend some minutes on trials of all kinds, keep the evidence of those that went wrong, and count."""

import random
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from torture.kinds import KINDS
from torture.trial import Bench, Outcome, WrongError
from torture.workloads import References


@dataclass
class Tally:
    """The outcomes of the trials of a kind."""

    right: int = 0
    refused: int = 0
    wrong: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.right + self.refused + self.wrong


class Workshop:
    """Makes trials, each in a folder of its own.

    Args:
        seed: determines all trials; each can be repeated by its kind and its turn.
        folder: for the working directories of trials; it is emptied first.
        evidence: for the files and the output of trials that went wrong.
    """

    def __init__(self, seed: int, folder: Path, evidence: Path) -> None:
        self.seed, self._folder, self._evidence = seed, folder, evidence
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._lock = threading.Lock()
        self.references = References(folder / "undisturbed", lambda home: Bench("", 0, random.Random(0), home))

    def try_once(self, kind: str, turn: int) -> Outcome:
        """Make one trial; anything unexpected in it counts as wrong."""
        home = self._folder / f"{kind.replace(' ', '_')}-{turn}"
        bench = Bench(kind, turn, random.Random(f"{self.seed}/{kind}/{turn}"), home / "here")
        bench.folder.mkdir(parents=True)
        try:
            outcome = KINDS[kind].trial(bench, self.references)
        except WrongError as error:
            outcome = Outcome("wrong", str(error))
        except Exception as error:
            # A trial that itself fails proves nothing, but must not go unnoticed.
            outcome = Outcome("wrong", f"the trial itself failed: {error!r}\n{traceback.format_exc()}")
        if outcome.verdict == "wrong":
            self._keep(bench, outcome)
        shutil.rmtree(home, ignore_errors=True)
        return outcome

    def _keep(self, bench: Bench, outcome: Outcome) -> None:
        place = self._evidence / f"seed_{self.seed}-{bench.kind.replace(' ', '_')}-{bench.turn}"
        with self._lock:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        told = [f"seed {self.seed}, {bench.kind}, turn {bench.turn}", outcome.sentence]
        for ended in bench.history:
            told += ["", f"$ python {ended.command}", f"exit code {ended.code} after {ended.seconds:.1f} s"]
            told += ["-- stdout", ended.out[-20_000:], "-- stderr", ended.err[-20_000:]]
        (place / "report.txt").write_text("\n".join(told), errors="backslashreplace")
        shutil.copytree(bench.folder, place / "files", symlinks=True, dirs_exist_ok=True)


def torture(
    workshop: Workshop,
    *,
    minutes: float,
    jobs: int,
    kinds: Iterable[str] = tuple(KINDS),
    tell: Callable[[str, int, Outcome, float], None],
) -> tuple[dict[str, Tally], bool]:
    """Make trials until the time is up or Ctrl-C.

    The next trial is of the kind that is furthest behind its share of the time.

    Args:
        workshop: makes the trials.
        minutes: after which no trial begins.
        jobs: number of trials at a time.
        kinds: names of the kinds.
        tell: called after each trial with its kind, turn, outcome and seconds.

    Returns:
        The tally of each kind, and whether the time was used up, which it was not after Ctrl-C.
    """
    tallies = {kind: Tally() for kind in kinds}
    turns, spent = dict.fromkeys(tallies, 0), dict.fromkeys(tallies, 0.0)
    end = time.monotonic() + 60 * minutes
    running: dict[Future[Outcome], tuple[str, int, float]] = {}
    whole = True
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while time.monotonic() < end or running:
                while len(running) < jobs and time.monotonic() < end:
                    kind = min(tallies, key=lambda one: (spent[one] / KINDS[one].share, turns[one]))
                    turn, turns[kind] = turns[kind], turns[kind] + 1
                    # A guess, so that parallel jobs begin with different kinds; corrected when the trial has ended.
                    spent[kind] += 5
                    running[pool.submit(workshop.try_once, kind, turn)] = (kind, turn, time.monotonic())
                for done in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    kind, turn, begin = running.pop(done)
                    outcome, seconds = done.result(), time.monotonic() - begin
                    tally = tallies[kind]
                    spent[kind] += seconds - 5
                    tally.seconds += seconds
                    setattr(tally, outcome.verdict, getattr(tally, outcome.verdict) + 1)
                    if outcome.verdict == "wrong":
                        tally.faults.append(f"turn {turn}: {outcome.sentence}")
                    tell(kind, turn, outcome, seconds)
        except KeyboardInterrupt:
            whole = False
            for future in running:
                future.cancel()
    return tallies, whole
