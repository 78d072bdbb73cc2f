"""Disks that become full at some moment, files that may not grow, and a small real disk where one can be mounted."""

import subprocess
from contextlib import suppress

from torture.file_events import at
from torture.trial import Bench, Outcome, WrongError, require_done, require_sentences, right
from torture.workloads import WORKLOADS, References, require_results

WHAT = "a disk that is full from some write on, a limit of the file size, a small real disk; then restarted with space"


def trial(bench: Bench, references: References) -> Outcome:
    names = tuple(WORKLOADS)
    name = names[bench.turn % len(names)]
    reference = references.of(name)
    sizes = [path.stat().st_size for path in reference.after.rglob("*") if path.is_file()]
    way = bench.rng.choice(("event", "limit", "mount"))
    if way == "mount":
        # A file takes whole pages, a folder one page.
        needed = sum(_pages(path.stat().st_size) for path in reference.before.rglob("*")) + _pages(1)
        space = needed + int(bench.rng.uniform(0.05, 1.0) * sum(sizes))
        if _mounted(bench, space):
            try:
                return _trial(bench, references, name, f"a disk of {space:,} bytes", {}, remount=True)
            finally:
                subprocess.run(["umount", "--lazy", str(bench.folder)], check=False, capture_output=True)
        way = "limit"
    if way == "limit":
        limit = int(max(sizes) ** bench.rng.uniform(0, 1))
        env = {"DEEPSAD_TEST_HOOK": "torture.hook", "TORTURE_FSIZE": str(limit)}
        return _trial(bench, references, name, f"files of at most {limit:,} bytes", env)
    event = bench.rng.randint(1, reference.events)
    env = at(str(bench.folder.parent / "events"), event, "full")
    return _trial(bench, references, name, f"a full disk from file event {event} of {reference.events} on", env)


def _pages(size: int) -> int:
    return (size // 4096 + 1) * 4096


def _mounted(bench: Bench, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(bench.folder)]
    with suppress(OSError):
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    return False


def _trial(
    bench: Bench, references: References, name: str, told: str, env: dict[str, str], *, remount: bool = False
) -> Outcome:
    workload = WORKLOADS[name]
    references.put(name, bench.folder)
    try:
        full = bench.run(workload.script, *references.words(name), env=env)
        require_sentences(full)
        if remount:
            command = ["mount", "-o", "remount,size=256m", str(bench.folder)]
            subprocess.run(command, check=True, capture_output=True)
        require_done(bench.run(workload.script, *references.words(name)), "the restart with space")
        require_results(name, references, bench.folder, times=(1, 2) if full.code == 0 else (1,))
    except WrongError as error:
        raise WrongError(f"{name}, {told}: {error}") from None
    return right(f"{name}: {told}, exit code {full.code}")
