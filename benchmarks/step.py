"""ms per training step of a network: in a bare loop, with a per-sample data set, and with our Trainer."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.deep_training import BARE, CASES, FULL, OURS, PHASES, QUICK, training_cases
from benchmarks.harness import Row, alternate, quiet_console, rows
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from deepsad_pl.training.compiling import missing_for_compiling

NOTES = (
    "bare loop: the same network, index batches and losses, fused Adam, no Lightning. ours: through the Trainer, with "
    "the callbacks of an experiment.",
    "filters channels-first: the networks have channels-last filters, and so maps, unless one changes it as here.",
    "per-sample data set: what is common, as we would write it: an image through PIL and ToTensor at a time, "
    "DataLoader without workers, Adam not fused, filters not channels-last, loss.item() after each step.",
    "pretrain: the autoencoder. fit: Deep SAD. Batches of at most 200; random samples; the first step is not counted.",
)


def measure(options: Options, datasets: Sequence[str], cases: Sequence[str]) -> list[Row]:
    """Measure all networks and phases, one after the other.

    Args:
        options: the shared options.
        datasets: data sets whose networks are trained.
        cases: cases to compare with the bare loop.
    """
    lengths = QUICK if options.quick else FULL
    missing = missing_for_compiling(options.device == "cuda")
    found: list[Row] = []
    for dataset in datasets:
        for phase in PHASES:
            with quiet_console(), ExitStack() as keep:
                names = [name for name in CASES if name == BARE or name in cases]
                can = [name for name in names if not (missing and "trainer.compile=true" in OURS.get(name, ()))]
                runs = training_cases(dataset, phase, options.device, lengths[dataset], can, keep)
                measured = alternate(runs, repeats=options.repeats, title=f"{dataset} {phase}")
            notes = {name: f"not run: torch.compile needs {missing}" for name in names if name not in can}
            every = {name: measured.get(name, []) for name in names}
            found += rows(f"{dataset} {phase}", every, baseline=BARE, unit="ms", notes=notes)
    return found


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("step", __doc__)
    made.add_argument("--datasets", nargs="+", choices=FULL, metavar="NAME", help=f"of {', '.join(FULL)} (all)")
    made.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=f"of {'; '.join(CASES)} (all)")
    options, chosen = parse(made, arguments)
    datasets = chosen.datasets or (QUICK if options.quick else FULL)
    if options.quick and not set(datasets) <= set(QUICK):
        made.error(f"--quick has {', '.join(QUICK)} only; leave --datasets out")
    return report("step", measure(options, list(datasets), chosen.cases or CASES), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
