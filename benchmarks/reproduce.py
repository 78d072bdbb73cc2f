"""Run the studies of the paper in the order of their information; stop at any time, and go on from docs/results/*.csv.

    make reproduce HOURS=3
    make reproduce STUDIES=mnist_pollution,eta
    make reproduce ARGS=--pages

Words after these options, such as trainer=gpu, are passed on to sweep.py.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.commands import ROOT
from benchmarks.reproduce_pages import write_page
from benchmarks.reproduce_queue import QUEUE, Step, chosen_steps, read_queue, sweep
from benchmarks.reproduce_rows import add_rows, rows_of
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.signals import signals_exit
from deepsad_pl.study.result_rows import read_rows

# Seconds that a study has to end its processes and to write its results.
_CLOSE_S = 60.0


def run_step(step: Step, command: Sequence[str], deadline: float) -> int | None:
    """Run a step; return its exit code, or None if it was stopped at the deadline.

    Args:
        step: the step.
        command: its command.
        deadline: the time at which it is stopped, as ``time.monotonic`` has it.
    """
    print(f"\n== {step}", flush=True)
    # In a session of its own, so that Ctrl-C reaches this process alone, which then stops the study.
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            return process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let a study write what is finished and end; kill it if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_CLOSE_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run_queue(steps: Sequence[Step], options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run the steps one after the other, and write the page of each; return the number of steps that failed.

    Args:
        steps: the steps.
        options: the parsed command line.
        words: further words for sweep.py.

    Raises:
        DeepSADError: if a page cannot be made.
    """
    deadline = time.monotonic() + 3600 * options.hours
    failed = 0
    shared: set[str] = set()
    for step in steps:
        if not step.is_at_hand:
            print(f"\n== {step}\nleft out: the data folder has no folder {step.needs}", flush=True)
            continue
        csv = (options.results / f"{step.results}.csv").absolute()
        if step.results not in shared:
            # What another study has in common with this one need not be run again.
            everything = [row for path in sorted(options.results.glob("*.csv")) for row in read_rows(path)]
            add_rows(csv, rows_of(step.results, steps, everything))
            shared.add(step.results)
        before = read_rows(csv)
        code = run_step(step, sweep(step, csv, options.output_dir.absolute(), *words), deadline)
        is_new = read_rows(csv) != before or not csv.with_suffix(".md").exists()
        page = write_page(step.results, steps, options.results, options.figures) if is_new else None
        told = f", page {page}" if page else ""
        if code is None:
            print(f"stopped after {options.hours:g} hours{told}; the same command goes on", flush=True)
            return failed
        print(f"{'finished' if code == 0 else f'failed with exit code {code}'}{told}", flush=True)
        failed += code != 0
    return failed


def _hours(text: str) -> float:
    if not (hours := float(text)) > 0:
        raise ValueError
    return hours


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", metavar="NAMES", help="names of studies or CSV files, separated by commas")
    parser.add_argument("--hours", type=_hours, default=float("inf"), help="hours after which to stop (default: none)")
    parser.add_argument("--pages", action="store_true", help="only make the pages and figures from the CSV files")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results", help="folder of CSV files and pages")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures", help="folder of the figures")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "runs" / "reproduce", help="folder of the runs")
    parser.add_argument("--queue", type=Path, default=QUEUE, help="the steps (default: benchmarks/reproduce.yaml)")
    options, passed_on = parser.parse_known_args(words)
    if unknown := [word for word in passed_on if word.startswith("--")]:
        parser.error(f"unknown options: {' '.join(unknown)}")
    try:
        with signals_exit():
            steps = chosen_steps(read_queue(options.queue), options.studies)
            if not options.pages:
                return 1 if run_queue(steps, options, passed_on) else 0
            for name in dict.fromkeys(step.results for step in steps):
                page = write_page(name, steps, options.results, options.figures)
                print(f"{name}: {page or 'no results yet'}", flush=True)
    except DeepSADError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", flush=True)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
