"""Seconds an experiment of many: one by one, side by side, as one training; how it grows with K, n and D."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.commands import LAUNCHERS, ONE_BY_ONE, sweep_case
from benchmarks.deep_training import BARE, PHASES, Length, training_cases
from benchmarks.harness import Row, alternate, rows
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from benchmarks.stacking import doublings, stacked_case
from deepsad_pl.console import console

PARTS = ("commands", "replicas", "growth")
NOTES = (
    "commands: train.py -m over ten seeds, both phases in full, start-up included, seconds an experiment.",
    "replicas: ms a step of one replica when K train as one through the Trainer, set-up included, beside the bare loop "
    "for one network. It ends where twice as many replicas gain less than 5 % in both phases.",
    "growth: seconds an epoch of one replica of 16, tables of n rows and D columns, the autoencoder of cardio.",
)
_LENGTHS = {"cardio": Length(1000, 40), "digits": Length(130, 60), "mnist": Length(1000, 2)}
_QUICK_LENGTH = Length(420, 2)
_ROWS, _COLUMNS = (500, 1000, 2000, 4000, 8000), (8, 32, 128, 512)
# Doubling that gains less than this does not pay.
_GAIN = 1.05


def commands(options: Options, datasets: Sequence[str]) -> list[Row]:
    """Whole sweeps over seeds."""
    seeds, epochs = (2, 1) if options.quick else (10, None)
    found: list[Row] = []
    for dataset in datasets:
        cases = {name: sweep_case(name, dataset, options.device, seeds, epochs) for name in LAUNCHERS}
        measured = alternate(cases, repeats=options.repeats, title=f"{dataset} commands")
        found += rows(f"{dataset}, {seeds} seeds", measured, baseline=ONE_BY_ONE, unit="s")
    return found


def replicas(options: Options, datasets: Sequence[str], most: int) -> list[Row]:
    """How much of a step is left to a replica of K."""
    found: list[Row] = []
    for dataset in datasets:
        length = _QUICK_LENGTH if options.quick else _LENGTHS[dataset]
        for phase in PHASES:
            with _quiet(), ExitStack() as keep:
                bare = training_cases(dataset, phase, options.device, length, [BARE], keep)
                measured: dict[str, list[float]] = {}
                for count in doublings(most):
                    run = stacked_case(dataset, phase, options.device, length, count, keep)
                    # Each with its own measurements of the baseline, at the same time.
                    pair = alternate({**bare, f"K = {count}": run}, repeats=options.repeats, title=f"{dataset} {phase}")
                    found += [
                        row
                        for row in rows(f"{dataset} {phase}", pair, baseline=BARE, unit="ms")
                        if row.case != BARE or count == 1
                    ]
                    measured |= pair
                    if count > 2 and median(measured[f"K = {count // 2}"]) < _GAIN * median(pair[f"K = {count}"]):
                        break
    return found


def growth(options: Options) -> list[Row]:
    """How the cost of a replica grows with the rows and the columns of a table."""
    replicas_ = 2 if options.quick else 16
    sizes = {"n": _ROWS[:2] if options.quick else _ROWS, "D": _COLUMNS[:2] if options.quick else _COLUMNS}
    found: list[Row] = []
    for name, values in sizes.items():
        with _quiet(), ExitStack() as keep:
            cases = {}
            for value in values:
                n, columns = (value, None) if name == "n" else (1000, value)
                length = Length(n, 2 if options.quick else 20)
                ms = stacked_case("cardio", "pretrain", options.device, length, replicas_, keep, columns)
                cases[f"{name} = {value}"] = lambda ms=ms, n=n: ms() * -(-(n * 21 // 20) // 200) / 1e3
            measured = alternate(cases, repeats=options.repeats, title=f"growth with {name}")
        found += rows(f"growth with {name}", measured, baseline=f"{name} = {values[0]}", unit="s")
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """The progress bars of trainings are not shown beside that of the benchmark."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: of the command line; None for those of this process.

    Returns:
        The JSON file.
    """
    made = parser("sweep", __doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=f"of {', '.join(PARTS)} (all)")
    made.add_argument("--datasets", nargs="+", metavar="NAME", help="of the commands (default: cardio thyroid)")
    made.add_argument("--most", type=int, help="replicas (default: 64, on a GPU 512)")
    options, chosen = parse(made, arguments)
    most = chosen.most or (2 if options.quick else 512 if options.device == "cuda" else 64)
    found: list[Row] = []
    if "commands" in chosen.parts:
        found += commands(options, chosen.datasets or (["digits"] if options.quick else ["cardio", "thyroid"]))
    if "replicas" in chosen.parts:
        found += replicas(options, ["cardio"] if options.quick else list(_LENGTHS), most)
    if "growth" in chosen.parts:
        found += growth(options)
    return report("sweep", found, options=options, notes=NOTES)


if __name__ == "__main__":
    main()
