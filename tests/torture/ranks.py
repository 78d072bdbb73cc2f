"""A run on two ranks whose ranks are stopped or killed."""

import signal
from contextlib import suppress

import psutil

from torture.kills import require_end
from torture.oracles import require_same_tree
from torture.trial import Bench, Outcome, Running, WrongError, require_done, right
from torture.workloads import References

WHAT = "one of two ranks, or both, stopped or killed at a random moment, and restarted"
_WORDS = (
    *("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.threads=1", "logger=none"),
    *("trainer.checkpoint_seconds=0", "pretrain.epochs=[40]", "method.epochs=[40]", "pretrain.lr=[1e-3]"),
    "method.lr=[1e-3]",
)
# Seconds within which a stopped run must end, and one that has lost a rank.
_STOPPED_S, _LOST_S = 15, 60
_SECONDS: list[float] = []


def trial(bench: Bench, references: References) -> Outcome:
    del references
    home = bench.folder.parent.parent / "two_ranks"
    if not _SECONDS:
        own = Bench(bench.kind, 0, bench.rng, home)
        home.mkdir(exist_ok=True)
        ended = own.run("train.py", *_WORDS)
        bench.history += own.history
        require_done(ended, "the undisturbed run on two ranks")
        _SECONDS.append(ended.seconds)
    number = bench.rng.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGINT))
    target = bench.rng.choice(("rank 0", "rank 1", "all ranks"))
    command = bench.start("train.py", *_WORDS)
    moment = bench.rng.uniform(0.1, 1) * _SECONDS[0]
    told = f"{number.name} to {target} after {moment:.1f} s"
    try:
        running = command.runs_for(moment)
        _send(command, number, target)
        alone = number == signal.SIGKILL and target == "rank 1"
        ended = command.end(_LOST_S if number == signal.SIGKILL else _STOPPED_S)
        if "Traceback" in ended.out + ended.err:
            raise WrongError(f"it printed a traceback: {ended.told[:200]}")
        if running and not alone:
            require_end(ended, number)
        command.require_nothing_left(10)
        require_done(bench.run("train.py", *_WORDS), "the restart")
        require_same_tree(home, bench.folder, exact=True)
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)


def _send(command: Running, number: signal.Signals, target: str) -> None:
    if target == "all ranks":
        command.send(number, to_group=True)
    elif target == "rank 0":
        command.send(number)
    else:
        with suppress(psutil.Error):
            for child in psutil.Process(command.pid).children(recursive=True):
                if "train.py" in " ".join(child.cmdline()):
                    child.send_signal(number)
