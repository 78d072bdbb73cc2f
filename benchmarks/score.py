"""Samples per second and peak memory of scoring: as an experiment does it, in the plain way, and one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Row, alternate, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.peak import peak
from benchmarks.report import report
from benchmarks.scoring import FULL, QUICK, Case
from benchmarks.subjects import cases, subjects

NOTES = (
    "loop: a plain loop over batches of 200 without gradients. trainer.test: what an experiment does, with the Trainer "
    "that it builds and the metrics that follow.",
    "ours: KernelModel or DensityModel. table: D = 21, images: D = 784; 3,000 training rows, random.",
    "peak MB: by how much a run exceeds the memory before it, in a process of its own. scores: the largest difference "
    "from the baseline's, in standard deviations.",
)


def measure(options: Options) -> list[Row]:
    """Measure all subjects, one after the other."""
    sizes = QUICK if options.quick else FULL
    found: list[Row] = []
    for subject in subjects(options.device, options.quick):
        ways = cases(subject, options.device, sizes)
        rates = {name: _rate(case, options.device) for name, case in ways.items()}
        measured = alternate(rates, repeats=options.repeats, title=subject)
        baseline, *_ = ways
        expected = ways[baseline].run()
        more: dict[str, dict[str, float | str | None]] = {}
        for name, case in ways.items():
            memory = peak(subject, name, device=options.device, quick=options.quick)
            more[name] = {"peak MB": "unknown" if memory is None else memory}
            if name != baseline:
                difference = np.abs(case.run() - expected[: case.samples]).max()
                more[name]["scores"] = float(difference / expected.std())
        what = f"{subject}, {ways[baseline].samples} samples"
        notes = {name: f"{case.samples} of them" for name, case in ways.items() if case.samples < len(expected)}
        found += rows(
            what, measured, baseline=baseline, unit="samples/s", higher_is_better=True, notes=notes, more=more
        )
    return found


def _rate(case: Case, device: str) -> Callable[[], float]:
    return lambda: case.samples / seconds(case.run, device)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    options, _ = parse(parser("score", __doc__), arguments)
    return report("score", measure(options), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
