"""Measure by how much scoring raises the peak memory, for one case in a separate process.

The module prints one number, in MB, or "unknown" on the CPU without Linux's /proc files.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.options import parse, parser
from benchmarks.scoring import FULL, QUICK, Case, Sizes
from benchmarks.subjects import cases

_TOP = Path(__file__).resolve().parent.parent
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
# Sizes of a first run, for libraries that load on first use.
_WARMUP = replace(QUICK, tests=10)


def peak(subject: str, case: str, *, device: str, quick: bool) -> float | None:
    """Measure the rise of the peak memory by a case in a new process, with as many threads as this one has.

    Args:
        subject: the model that scores, one of :func:`~benchmarks.subjects.subjects`.
        case: the way to score, one of :func:`~benchmarks.subjects.cases`.
        device: "cpu" for resident memory, or "cuda" for memory allocated by torch.
        quick: whether to use tiny sizes.

    Returns:
        MB, or None if unknown.

    Raises:
        subprocess.CalledProcessError: if the process fails; its error message is on stderr.
    """
    arguments = [subject, case, "--device", device, "--threads", str(torch.get_num_threads())]
    command = [sys.executable, "-m", "benchmarks.peak", *arguments, *(["--quick"] if quick else [])]
    told = subprocess.run(command, cwd=_TOP, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    return None if told == "unknown" else float(told)


def rise(case: Case, device: str) -> float | None:
    """Run a case in this process and return the rise of the peak memory in MB, or None if unknown."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case.run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not _CLEAR.exists():
        return None
    # Makes Linux forget the peak so far.
    _CLEAR.write_text("5")
    before = _resident("VmRSS")
    case.run()
    # Linux updates its counters in batches, so the difference may be slightly negative.
    return max(0, _resident("VmHWM") - before) / 2**10


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rise of the peak memory by one case.

    Args:
        arguments: arguments of the command line; None: those of this process.
    """
    made = parser("peak", __doc__)
    made.add_argument("subject")
    made.add_argument("case")
    options, parsed = parse(made, arguments)
    sizes: tuple[Sizes, Sizes] = (_WARMUP, QUICK if options.quick else FULL)
    small, measured = (cases(parsed.subject, options.device, size)[parsed.case] for size in sizes)
    small.run()
    found = rise(measured, options.device)
    print("unknown" if found is None else f"{found:.3f}")


if __name__ == "__main__":
    main()
