"""The command ``export.py``: write the detector of a finished run as one file that other programs can run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING

from deepsad_pl.commands.loading import load, require_run
from deepsad_pl.commands.plain_words import parse_words, run_command
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.signals import signals_exit

# Repeated here because detector/export_file.py imports torch.
_SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}

HELP = """Export the detector of a finished run as one file: raw input in, scores out.

  python export.py run=<run folder> format=onnx output=detector.onnx
  python export.py run=<run folder> format=torch_export output=detector.pt2

run         folder of the run, which train.py prints at its end
format      onnx (runs without Python; needs deepsad-pl[export]) or torch_export (a program of torch.export)
output      the file, .onnx or .pt2; an existing one is replaced
data_dir    folder of the run's data, for runs of earlier releases (default: as in the run)
"""


@dataclass
class ExportWords:
    """The arguments of the command; see ``HELP``."""

    run: str = MISSING
    format: str = MISSING
    output: str = MISSING
    data_dir: str | None = None


@signals_exit()
def export() -> None:
    """Entry point of ``python export.py`` and ``deepsad-export``."""
    run_command(HELP, lambda words, _: export_run(parsed(words)))


def parsed(words: Sequence[str]) -> ExportWords:
    """Parse the arguments of the command.

    Raises:
        DeepSADError: with every problem found.
    """
    keys = ("run", "format", "output")
    found = parse_words(words, ExportWords, command="export.py", verbatim=(*keys, "data_dir"), required=keys)
    problems, output = [], Path(found.output).expanduser()
    suffix = _SUFFIXES.get(found.format)
    if suffix is None:
        problems.append(f"format is {found.format!r}; choose {' or '.join(_SUFFIXES)}")
    elif output.suffix != suffix:
        problems.append(f"output is {found.output}; with format={found.format} its name must end in {suffix}")
    if not output.parent.is_dir():
        problems.append(f"output: there is no folder {output.parent}; create it or choose another")
    elif output.is_dir():
        problems.append(f"output: {output} is a folder; give the name of a file")
    try:
        require_run(Path(found.run).expanduser())
    except DeepSADError as error:
        problems += error.problems
    if problems:
        raise DeepSADError(*problems)
    return found


def export_run(words: ExportWords) -> str:
    """Export a detector as specified, and return a summary.

    Raises:
        DeepSADError: if the detector cannot be loaded or exported, or the file cannot be written.
    """
    from deepsad_pl.training.fast_import import import_lightning

    import_lightning()
    from deepsad_pl.detector import export_file

    detector, output = load(words.run, data_dir=words.data_dir), Path(words.output).expanduser()
    metadata = export_file.export(detector, output, cast(Any, words.format))
    size = output.stat().st_size / 2**20
    taken = metadata["input"]
    shape = ", ".join(["batch", *map(str, taken["shape"])])
    parts = [f"{output} ({size:.1f} MiB): {taken['name']} {taken['type']} ({shape}) to score float64 (batch)"]
    if (threshold := metadata["threshold"]) is not None:
        parts.append(f"a sample is an anomaly if its score is above {threshold['score']:.6g}")
    if detector.facts.precision == "bf16-mixed":
        parts.append("the file computes in single precision, but the run in bf16, so scores differ slightly")
    return "; ".join(parts)
