"""Samples per second of score.py, from files to a file of scores, compared with a bare loop over samples in memory."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console

import deepsad_pl
from benchmarks.harness import Row, alternate, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.detector.detector import Detector

NOTES = (
    "score.py: all that the command does once it has started, from reading the file to writing scores.csv.",
    "loop: a plain loop over batches of 200 prepared samples in memory, with the run's network and without gradients.",
)
LOOP = "loop"
_COLUMNS = 20
_SIDE = 28


def measure(options: Options) -> list[Row]:
    """Measure rows of a table in three formats, and images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*_of_rows(folder, options), *_of_images(folder, options)]


def _of_rows(folder: Path, options: Options) -> list[Row]:
    count = 300 if options.quick else 300_000
    draw = np.random.default_rng(0)
    names = [f"x{i}" for i in range(_COLUMNS)]
    train = pd.DataFrame(draw.normal(size=(2000, _COLUMNS)), columns=names)
    train.assign(label=np.repeat(["scrap", ""], [20, 1980])).to_csv(folder / "train.csv", index=False)
    words = ["dataset.label=label", "dataset.anomaly=[scrap]"]
    run_dir = _trained("table", [f"dataset.path={folder / 'train.csv'}", *words], folder)
    x = draw.normal(size=(count, _COLUMNS))
    frame = pd.DataFrame(x, columns=names)
    frame.to_csv(folder / "new.csv", index=False)
    frame.to_parquet(folder / "new.parquet", index=False)
    np.savez(folder / "new.npz", X=x)
    detector = _detector(run_dir, options)
    prepared = torch.from_numpy(detector.facts.inputs.from_frame(frame).x)
    files = [folder / f"new.{ending}" for ending in ("csv", "parquet", "npz")]
    ways = {f"score.py, {file.suffix}": _command(run_dir, file, options) for file in files}
    return _compared(f"table, {count:,} rows x {_COLUMNS}", count, _loop(detector, prepared), ways, options)


def _of_images(folder: Path, options: Options) -> list[Row]:
    count = 40 if options.quick else 10_000
    draw = np.random.default_rng(0)
    for part, number in (("train/good", 400), ("test/good", 20), ("test/bad", 20), ("new", count)):
        (folder / "photos" / part).mkdir(parents=True)
        for place in range(number):
            # Smooth like photos, since noise would make the files large.
            blurred = Image.fromarray(draw.integers(0, 256, (7, 7), dtype=np.uint8)).resize((_SIDE, _SIDE))
            blurred.save(folder / "photos" / part / f"{place:05}.png")
    words = [f"dataset.root={folder / 'photos'}", f"dataset.image_size={_SIDE}", "dataset.channels=1"]
    words += ["scenario.normal_class=good", "scenario.anomaly_class=null", "scenario.gamma_l=0"]
    run_dir = _trained("image_folder", words, folder)
    detector = _detector(run_dir, options)
    new = folder / "photos" / "new"
    pixels = np.stack([np.asarray(Image.open(path))[None] for path in sorted(new.iterdir())])
    ways = {"score.py, .png": _command(run_dir, new, options)}
    what = f"images, {count:,} of {_SIDE} x {_SIDE}"
    return _compared(what, count, _loop(detector, torch.from_numpy(pixels)), ways, options)


def _trained(dataset: str, words: list[str], folder: Path) -> Path:
    few = ["trainer.max_epochs=1", "logger=none"]
    return deepsad_pl.run("deep_sad", dataset, [*words, *few], output_dir=folder / "runs", data_dir=folder).run_dir


def _detector(run_dir: Path, options: Options) -> Detector:
    return deepsad_pl.load(run_dir).to(options.device)


def _command(run_dir: Path, file: Path, options: Options) -> Callable[[], str]:
    words = [f"run={run_dir}", f"input={file}", f"output={run_dir.parent / 'scores.csv'}", f"device={options.device}"]
    return lambda: score_new(parsed(words), Console(stderr=True, quiet=True))


def _loop(detector: Detector, x: torch.Tensor) -> Callable[[], list[torch.Tensor]]:
    module: Any = detector._module
    scale, device = detector.facts.inputs.scale, next(module.parameters()).device

    @torch.no_grad()
    def loop() -> list[torch.Tensor]:
        found = []
        for batch in torch.split(x, detector.batch_size):
            batch = batch.to(device).float()
            found.append(module.score(batch if scale is None else batch.div_(scale)).cpu())
        return found

    return loop


def _compared(
    what: str, count: int, loop: Callable[[], Any], ways: dict[str, Callable[[], str]], options: Options
) -> list[Row]:
    def rate(way: Callable[[], Any]) -> Callable[[], float]:
        return lambda: count / seconds(way, options.device)

    measured = alternate(
        {LOOP: rate(loop), **{name: rate(way) for name, way in ways.items()}}, repeats=options.repeats, title=what
    )
    return rows(what, measured, baseline=LOOP, unit="samples/s", higher_is_better=True)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    options, _ = parse(parser("score_files", __doc__), arguments)
    return report("score_files", measure(options), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
