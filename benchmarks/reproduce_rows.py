"""Which rows belong into the CSV file of a study: those of experiments in today's plan of the study."""

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.commands import ROOT
from benchmarks.reproduce_queue import Step, sweep
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study.result_rows import Row, merged, read_rows, write_rows


def rows_of(name: str, steps: Sequence[Step], rows: Sequence[Row]) -> list[Row]:
    """The rows that belong into a CSV file, by the hashes that today's plan of its study gives.

    Args:
        name: name of the file, without suffix.
        steps: the steps of the queue.
        rows: rows of any studies.

    Raises:
        DeepSADError: if the study cannot be planned.
    """
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.csv"
        write_rows(everything, rows)
        step = whole_step(name, steps, everything)
        if step is None:
            return []
        frame = results_frame(step, everything, Path(folder))
    if frame is None:
        return []
    done = frame[frame["finished"]]["experiment"]
    hashes = {Path(run_dir).name.rpartition("-")[2] for run_dir in done}
    return [row for row in rows if row["hash"] in hashes]


def add_rows(path: Path, rows: Sequence[Row]) -> int:
    """Add rows to a CSV file; return how many were not there before.

    Raises:
        DeepSADError: if the file cannot be read or written.
    """
    before = read_rows(path)
    if after := merged(before, rows):
        write_rows(path, after)
    return len(after) - len(before)


def whole_step(name: str, steps: Iterable[Step], csv: Path) -> Step | None:
    """All steps of a CSV file as one, narrowed to the methods and values that the file has; None without rows.

    Raises:
        DeepSADError: if the file cannot be read.
    """
    rows, parts = read_rows(csv), [step for step in steps if step.results == name]
    there = {row["method"] for row in rows}
    methods = dict.fromkeys(method for step in parts for method in step.methods if method in there)
    if not methods:
        return None
    asked = {axis: {value for step in parts for value in step.axes[axis]} for axis in parts[0].axes}
    in_file = {axis: {float(row[axis]) for row in rows if row[axis]} for axis in asked}
    # Where all methods are blind to labels, the rows have none of the values: each of these stands for all.
    # Values of the queue, not of the file: a set of 0 and 0.0 may keep either, and k_l=0.0 is no count.
    axes = {
        axis: sorted({value for value in values if value in in_file[axis]} or values) for axis, values in asked.items()
    }
    return replace(parts[0], methods=tuple(methods), axes=axes, sample=None)


def report(step: Step, csv: Path, output_dir: Path) -> Path:
    """Report a CSV file, and return the folder of the report.

    Raises:
        DeepSADError: if the command fails.
    """
    command = sweep(step, csv.absolute(), output_dir, "action=report")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeepSADError(f"{step.results} cannot be reported: {(done.stdout + done.stderr).strip()}")
    return output_dir / "studies" / step.study


def results_frame(step: Step, csv: Path, output_dir: Path) -> pd.DataFrame | None:
    """The results.csv of the report of a CSV file; None if the file has no experiment of the step.

    Raises:
        DeepSADError: if the study cannot be planned.
    """
    try:
        return pd.read_csv(report(step, csv, output_dir) / "results.csv")
    except DeepSADError as error:
        if "no experiment of the study" in str(error):
            return None
        raise
