"""Signals at random moments; the same command is then started again."""

import signal

from torture.trial import Bench, Ended, Outcome, WrongError, require_done, require_sentences, right
from torture.workloads import WORKLOADS, References, require_results

WHAT = "killed at random moments by SIGKILL, SIGTERM, SIGINT or SIGHUP, up to three times, and restarted"
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A stopped command may close its trackers and write its last checkpoint.
ENDS_S = 40
# Seconds until the children of a killed command are gone.
GONE_S = 10


def trial(bench: Bench, references: References) -> Outcome:
    names = tuple(WORKLOADS)
    name = names[bench.turn % len(names)]
    reference, workload = references.of(name), WORKLOADS[name]
    references.put(name, bench.folder)
    told, times = [], 1
    for _ in range(bench.rng.choice((1, 1, 2, 3))):
        number, to_group = bench.rng.choice(_SIGNALS), bench.rng.random() < 0.4
        moment = bench.rng.uniform(0, reference.ended.seconds * 1.05)
        command = bench.start(workload.script, *references.words(name))
        running = command.runs_for(moment)
        command.send(number, to_group=to_group)
        told.append(f"{number.name} after {moment:.2f} s{' to the group' if to_group else ''}")
        if number == signal.SIGKILL:
            command.require_nothing_left(GONE_S)
        times += 1
        require_end(command.end(ENDS_S), number if running else None)
    require_done(bench.run(workload.script, *references.words(name)), f"the restart after {', '.join(told)}")
    require_results(name, references, bench.folder, times=range(1, times + 1))
    return right(f"{name}: {', '.join(told)}")


def require_end(ended: Ended, number: signal.Signals | None) -> None:
    """Require the end of a command that got a signal, or that was done before it.

    Raises:
        WrongError: if the exit code is not that of the signal, or if there is a traceback.
    """
    if ended.code == 0 or number is None:
        require_sentences(ended)
    elif ended.code not in (-number, 128 + number):
        raise WrongError(f"after {number.name} its exit code is {ended.code}, not {128 + number}: {ended.told[:200]}")
    elif "Traceback" in ended.out + ended.err:
        raise WrongError(f"after {number.name} it printed a traceback: {ended.told[:200]}")
