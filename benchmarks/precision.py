"""How much AUROC changes if experiments are trained another way: stacked, compiled, in bf16, or with other rounding."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.commands import ROOT
from benchmarks.harness import Row, errors
from benchmarks.options import Options, parse, parser
from benchmarks.report import report

REFERENCE = "fp32"
_ALONE = ("hydra/launcher=joblib",)
# Each way to train, with its overrides. Two threads instead of one add up the same sums with other rounding.
WAYS: Mapping[str, tuple[str, ...]] = {
    REFERENCE: (*_ALONE, "trainer.threads=1"),
    "other rounding": (*_ALONE, "hydra.launcher.n_jobs=1", "trainer.threads=2"),
    "stacked": ("hydra/launcher=stacked", "trainer.threads=1"),
    "compile": (*_ALONE, "trainer.threads=1", "trainer.compile=true"),
    "bf16": (*_ALONE, "trainer.threads=1", "trainer.precision=bf16-mixed"),
    "compile, bf16": (*_ALONE, "trainer.threads=1", "trainer.compile=true", "trainer.precision=bf16-mixed"),
}
# Ten cells per data set: seeds for a table, normal classes for images, whose known anomaly class the seed draws.
_TABLE = ("scenario.gamma_l=0.01", "seed=0,1,2,3,4,5,6,7,8,9")
_IMAGES = ("scenario.gamma_l=0.05", "scenario.normal_class=0,1,2,3,4,5,6,7,8,9", "scenario.anomaly_class=null")
CELLS: Mapping[str, tuple[str, ...]] = {
    **{name: (f"dataset={name}", *_TABLE) for name in ("cardio", "thyroid")},
    **{name: (f"dataset={name}", *_IMAGES) for name in ("digits", "mnist", "fmnist", "cifar10")},
    "cifar10_jpeg": (
        "dataset=image_folder",
        "dataset.name=cifar10_jpeg",
        "dataset.root=${data_dir}/cifar10-jpeg",
        "scenario.gamma_l=0.05",
        "scenario.normal_class=airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
        "scenario.anomaly_class=null",
    ),
}
NOTES = (
    "Absolute differences of AUROC to fp32 on one thread, in points (hundredths), over the same cells; shift: their "
    "mean with its sign. other rounding: two threads, which is as good a figure as that of one.",
)
_QUICK = ("dataset=digits", "scenario.normal_class=0,1", "scenario.anomaly_class=null", "trainer.max_epochs=1")


def aurocs(way: str, cells: Sequence[str], device: str) -> list[float]:
    """Train all cells and return their AUROCs, in [0, 1], ordered by scenario and seed.

    Args:
        way: one of :data:`WAYS`.
        cells: overrides that define the data set and the cells.
        device: "cpu" or "cuda".

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    words = [*cells, *WAYS[way], f"trainer={'gpu' if device == 'cuda' else 'cpu'}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "-m", *words, "logger=none", f"output_dir={folder}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        records = [json.loads(path.read_text()) for path in Path(folder).rglob("metrics.json")]
    records.sort(key=lambda record: (json.dumps(record["scenario"]), record["seed"]))
    return [float(record["auroc"]) for record in records]


def measure(options: Options, datasets: Sequence[str], ways: Sequence[str], extra: Sequence[str]) -> list[Row]:
    """Compare all ways with the reference, one data set after the other."""
    found: list[Row] = []
    for dataset in datasets:
        reference: list[float] = []
        for way in (REFERENCE, *(way for way in WAYS if way in ways and way != REFERENCE)):
            errors.print(f"{dataset}, {way}", markup=False)
            cells = _QUICK if options.quick else CELLS[dataset]
            values = aurocs(way, [*cells, *extra], options.device)
            if way == REFERENCE:
                reference = values
                continue
            shifts = [100 * (value - before) for value, before in zip(values, reference, strict=True)]
            moved = tuple(map(abs, shifts))
            more: dict[str, float | str | None] = {"mean": mean(moved), "shift": mean(shifts)}
            found.append(Row(f"{dataset}, {len(moved)} cells", way, "points", REFERENCE, moved, more=more))
    return found


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("precision", __doc__)
    made.add_argument(
        "--datasets", nargs="+", choices=CELLS, default=("cardio", "thyroid", "digits"), metavar="NAME",
        help=f"of {', '.join(CELLS)} (default: cardio thyroid digits)",
    )  # fmt: skip
    made.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS), metavar="WAY", help="(all)")
    made.add_argument("--extra", nargs="+", default=(), metavar="KEY=VALUE", help="overrides of train.py for all cells")
    options, chosen = parse(made, arguments)
    datasets = ["digits"] if options.quick else chosen.datasets
    return report("precision", measure(options, datasets, chosen.ways, chosen.extra), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
