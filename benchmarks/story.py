"""Seconds of the README's story: 5,000 parts of which 30 scrapped and 50 good ones are marked, then 5,000 new parts.

The commands run in separate processes, so the start of Python is included. "outcome" is the share of bad new parts that
are found, and the share of good ones that are called bad, at alpha .05.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks.commands import ROOT
from benchmarks.harness import Row, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from tests.own_tables import parts

TRAIN = "train.py: read, pre-train, train, calibrate, score"
SCORE = "score.py: 5,000 new parts"


def told(options: Options) -> list[Row]:
    """Run the story as often as requested; return the seconds of each command and the outcome."""
    found: dict[str, list[float]] = {TRAIN: [], SCORE: []}
    inside: list[str] = []
    results: list[str] = []
    for seed in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = parts(5000, scrap=30, good=50, bad_parts=150, seed=2 * seed).drop(columns="truth")
            table.to_csv(folder / "parts.csv", index=False)
            new = parts(5000, bad_parts=150, seed=2 * seed + 1)
            new.drop(columns=["quality", "truth"]).to_csv(folder / "new.csv", index=False)
            words = ["dataset=table", f"dataset.path={folder / 'parts.csv'}", "dataset.label=quality", "logger=none"]
            words += ["dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part", f"output_dir={folder}/runs"]
            words += [
                f"trainer.threads={torch.get_num_threads()}",
                *(["trainer.max_epochs=1"] if options.quick else []),
            ]
            found[TRAIN].append(seconds(partial(_run, "train.py", *words)))
            (record,) = (folder / "runs").glob("*/*/*/metrics.json")
            phases = json.loads(record.read_text())["seconds"]
            inside.append(", ".join(f"{phase} {took:.1f}" for phase, took in phases.items()))
            words = [f"run={record.parent}", f"input={folder / 'new.csv'}", f"output={folder / 'scores.csv'}"]
            found[SCORE].append(seconds(partial(_run, "score.py", *words)))
            bad, anomaly = new["truth"] == "scrap", pd.read_csv(folder / "scores.csv")["anomaly"]
            results.append(f"{anomaly[bad].mean():.3f} found, {anomaly[~bad].mean():.3f} false alarms")
    more = {TRAIN: {"inside": "; ".join(inside)}, SCORE: {"outcome": "; ".join(results)}}
    return [Row("story", case, "s", TRAIN, tuple(values), more=more[case]) for case, values in found.items()]


def _run(script: str, *words: str) -> None:
    subprocess.run([sys.executable, script, *words], cwd=ROOT, check=True, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    options, _ = parse(parser("story", __doc__), arguments)
    return report("story", told(options), options=options, notes=[f"load of the machine at the start: {options.load}"])


if __name__ == "__main__":
    main()
