"""Milliseconds per batch of 1 and of 1,000 samples of a detector: in PyTorch, exported by torch.export, and as ONNX.

Each detector is trained for one epoch; the times do not depend on how well it was trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness import Row, alternate, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.report import report

BATCHES = (1, 1000)
DETECTORS = {
    "table of 50 columns, MLP": ("deep_sad", "table"),
    "table of 50 columns, SSAD": ("ssad_raw", "table"),
    "digits, LeNet": ("deep_sad", "digits"),
}
NOTES = (
    "PyTorch: Detector.score on an array in memory, with its checks of the input. torch_export: the loaded program. "
    "ONNX: onnxruntime on the CPU. All three take raw input and return the same scores to a relative 1e-5.",
)


def measure(options: Options) -> list[Row]:
    """Measure all detectors, one after the other."""
    found: list[Row] = []
    with TemporaryDirectory() as folder:
        for name, (method, dataset) in DETECTORS.items():
            found += _of(name, method, dataset, Path(folder), options)
    return found


def _of(name: str, method: str, dataset: str, folder: Path, options: Options) -> list[Row]:
    import deepsad_pl
    from deepsad_pl.detector.export_file import export, onnx_scorer, program_scorer, raw_samples

    overrides = ["logger=none", "trainer.max_epochs=1"]
    if dataset == "table":
        overrides += [f"dataset.path={_table(folder, rows=200 if options.quick else 2000)}", "threshold=none"]
        overrides += ["dataset.label=label"]
    run = deepsad_pl.run(method, dataset, overrides, output_dir=folder / "runs").run_dir
    detector = deepsad_pl.load(run)
    ways: dict[str, Callable[[np.ndarray], object]] = {"PyTorch": detector.score}
    for way, kind, suffix, read in (
        ("torch_export", "torch_export", ".pt2", program_scorer),
        ("ONNX", "onnx", ".onnx", onnx_scorer),
    ):
        path = folder / f"{run.name}{suffix}"
        export(detector, path, kind)  # type: ignore[arg-type]
        ways[way] = read(path)
    found: list[Row] = []
    for size in BATCHES:
        x, times = raw_samples(detector.facts.inputs, size), 20 if size == 1 else 3
        cases = {way: _milliseconds(score, x, times) for way, score in ways.items()}
        what = f"{name}, batch {size:,}"
        measured = alternate(cases, repeats=options.repeats, title=what)
        found += rows(what, measured, baseline="PyTorch", unit="ms")
    return found


def _milliseconds(score: Callable[[np.ndarray], object], x: np.ndarray, times: int) -> Callable[[], float]:
    def work() -> None:
        for _ in range(times):
            score(x)

    return lambda: 1000 * seconds(work) / times


def _table(folder: Path, rows: int) -> Path:
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(rows, 50)), np.zeros(rows, int)
    label[:50] = np.repeat([-1, 1], 25)
    path = folder / "table.csv"
    header = ",".join(["label", *(f"x{place}" for place in range(50))])
    np.savetxt(path, np.column_stack([label, x]), delimiter=",", header=header, comments="", fmt="%.6g")
    return path


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    options, _ = parse(parser("export", __doc__), arguments)
    return report("export", measure(options), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
