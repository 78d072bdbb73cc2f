"""Seconds per experiment in a sweep: one by one, in parallel, and stacked; and how stacks scale with K, n and D."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.commands import LAUNCHERS, ONE_BY_ONE, sweep_case
from benchmarks.deep_training import BARE, PHASES, Length, training_cases
from benchmarks.harness import Row, alternate, quiet_console, rows
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from benchmarks.stacking import doublings, stacked_case

PARTS = ("commands", "replicas", "growth")
NOTES = (
    "commands: train.py -m over ten seeds, both phases in full, start-up included, seconds an experiment.",
    "replicas: ms a step of one replica when K train as one through the Trainer, set-up included, beside the bare loop "
    "for one network. A phase ends where twice as many replicas gain less than 5 %.",
    "growth: seconds an epoch of one replica of 16, tables of n rows and D columns, the autoencoder of cardio.",
)
_LENGTHS = {
    "cardio": Length(1000, 40),
    "thyroid": Length(2200, 20),
    "digits": Length(130, 60),
    "mnist": Length(1000, 2),
}
_QUICK_LENGTH = Length(420, 2)
_ROWS, _COLUMNS = (500, 1000, 2000, 4000, 8000), (8, 32, 128, 512)
# Doubling K is worthwhile only above this speed-up.
_GAIN = 1.05
# Number of experiments per command; stacks of this size are measured, too.
_SEEDS = 10


def commands(options: Options, datasets: Sequence[str], launchers: Sequence[str]) -> list[Row]:
    """Measure whole sweeps over seeds, one by one and with the other launchers."""
    seeds, epochs = (2, 1) if options.quick else (_SEEDS, None)
    found: list[Row] = []
    for dataset in datasets:
        names = [name for name in LAUNCHERS if name == ONE_BY_ONE or name in launchers]
        cases = {name: sweep_case(name, dataset, options.device, seeds, epochs) for name in names}
        measured = alternate(cases, repeats=options.repeats, title=f"{dataset} commands")
        found += rows(f"{dataset}, {seeds} seeds", measured, baseline=ONE_BY_ONE, unit="s")
    return found


def replicas(options: Options, datasets: Sequence[str], most: int) -> list[Row]:
    """Measure the time per step of one replica in a stack of K, compared with the bare loop."""
    found: list[Row] = []
    for dataset in datasets:
        length = _QUICK_LENGTH if options.quick else _LENGTHS[dataset]
        for phase in PHASES:
            with quiet_console(), ExitStack() as keep:
                bare = training_cases(dataset, phase, options.device, length, [BARE], keep)
                measured: dict[str, list[float]] = {}
                for count in sorted({*doublings(most), *([_SEEDS] if most > _SEEDS else [])}):
                    run, _ = stacked_case(dataset, phase, options.device, length, count, keep)
                    # Each K is compared with measurements of the baseline from the same rounds.
                    pair = alternate({**bare, f"K = {count}": run}, repeats=options.repeats, title=f"{dataset} {phase}")
                    found += [
                        row
                        for row in rows(f"{dataset} {phase}", pair, baseline=BARE, unit="ms")
                        if row.case != BARE or count == 1
                    ]
                    measured |= pair
                    if count > 2 and count != _SEEDS:
                        half = measured[f"K = {count // 2}"]
                        if median(half) < _GAIN * median(pair[f"K = {count}"]):
                            break
    return found


def growth(options: Options) -> list[Row]:
    """Measure how the time of a replica grows with the rows and the columns of a table."""
    replicas_ = 2 if options.quick else 16
    sizes = {"n": _ROWS[:2] if options.quick else _ROWS, "D": _COLUMNS[:2] if options.quick else _COLUMNS}
    found: list[Row] = []
    for name, values in sizes.items():
        with quiet_console(), ExitStack() as keep:
            cases = {}
            for value in values:
                n, columns = (value, None) if name == "n" else (1000, value)
                length = Length(n, 2 if options.quick else 20)
                run, steps = stacked_case("cardio", "pretrain", options.device, length, replicas_, keep, columns)
                cases[f"{name} = {value}"] = lambda run=run, steps=steps: run() * steps / 1e3
            measured = alternate(cases, repeats=options.repeats, title=f"growth with {name}")
        found += rows(f"growth with {name}", measured, baseline=f"{name} = {values[0]}", unit="s")
    return found


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("sweep", __doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=f"of {', '.join(PARTS)} (all)")
    made.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="of commands (default: cardio thyroid) and replicas"
    )
    made.add_argument(
        "--launchers", nargs="+", choices=LAUNCHERS, default=tuple(LAUNCHERS), metavar="NAME",
        help=f"of the commands, beside the first: {', '.join(LAUNCHERS)} (all)",
    )  # fmt: skip
    made.add_argument("--most", type=int, help="replicas (default: 64, on a GPU 512)")
    options, chosen = parse(made, arguments)
    most = chosen.most or (2 if options.quick else 512 if options.device == "cuda" else 64)
    found: list[Row] = []
    if "commands" in chosen.parts:
        datasets = chosen.datasets or (["digits"] if options.quick else ["cardio", "thyroid"])
        found += commands(options, datasets, chosen.launchers)
    if "replicas" in chosen.parts:
        known = [name for name in _LENGTHS if name in (chosen.datasets or _LENGTHS)]
        found += replicas(options, ["cardio"] if options.quick else known, most)
    if "growth" in chosen.parts:
        found += growth(options)
    return report("sweep", found, options=options, notes=NOTES)


if __name__ == "__main__":
    main()
