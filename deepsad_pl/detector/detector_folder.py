"""A detector's folder in its run: ``detector.json`` and the trained module or model, without a pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.arrays import write_arrays
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import read_json, write_atomic
from deepsad_pl.detector.inputs import Inputs

DETECTOR, FACTS = "detector", "detector.json"
# Scores and semi-labels of the samples that were kept out of training to set the threshold.
CALIBRATION = "calibration.npz"
MODULE, MODEL = "module.ckpt", "model.npz"
# Training samples with which explanations compare; detectors of earlier releases have none.
REFERENCES = "references.npz"

# Increased when the meaning of a folder changes.
FORMAT = 1


@dataclass(frozen=True)
class Facts:
    """The contents of ``detector.json``.

    Attributes:
        dataset: name of the data set.
        method: name of the method.
        hash: hash of the run's identity.
        versions: versions of the packages that trained it.
        inputs: raw input that the detector takes.
        target: class of the trained module; None for a shallow method on raw input.
        package: top-level package of the class in ``model.npz``; None without that file.
        precision: precision in which the module scores, as in ``trainer.precision``.
        threshold: the settings of the threshold, as in the record; None if there is none.
        files: SHA-256 of each file, by name.
    """

    dataset: str
    method: str
    hash: str
    versions: Mapping[str, str]
    inputs: Inputs
    target: str | None
    package: str | None
    precision: str
    threshold: Mapping[str, Any] | None
    files: Mapping[str, str]


def write_detector(
    folder: Path,
    sources: Mapping[str, Path],
    inputs: Inputs,
    facts: Mapping[str, Any],
    references: npt.NDArray[np.float32],
) -> None:
    """Copy the trained files into a detector's folder; ``detector.json`` is written last and marks it as complete.

    Args:
        folder: created if missing.
        sources: path of each file to copy, by its name in the folder.
        inputs: raw input that the detector takes.
        facts: the fields of :class:`Facts` besides ``inputs`` and ``files``, serializable as JSON.
        references: samples with which explanations compare, as a network sees them, shape (R, ...).

    Raises:
        DeepSADError: if a file cannot be read or written.
    """
    digests = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)
        for name, source in sources.items():
            content = source.read_bytes()
            digests[name] = hashlib.sha256(content).hexdigest()
            write_atomic(folder / name, content)
        write_arrays(folder / REFERENCES, {"x": references})
        digests[REFERENCES] = hashlib.sha256((folder / REFERENCES).read_bytes()).hexdigest()
        described = {"format": FORMAT, **facts, "inputs": inputs.as_dict(), "files": digests}
        write_atomic(folder / FACTS, json.dumps(described, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise DeepSADError(
            f"{error.filename or folder} cannot be read or written ({error.strerror}); make it readable and {folder} "
            "writable"
        ) from error


def keep_threshold(folder: Path, threshold: Mapping[str, Any]) -> None:
    """Replace the threshold in a detector's folder atomically, so that a copy of the folder decides as the run does.

    A folder without ``detector.json`` is left as it is; the file is written later, with the threshold of the record.

    Args:
        folder: the folder.
        threshold: the settings and the value of the threshold, as in the record.

    Raises:
        DeepSADError: if ``detector.json`` is damaged or cannot be written.
    """
    path = folder / FACTS
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        write_atomic(path, json.dumps({**content, "threshold": threshold}, indent=1, allow_nan=False) + "\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeepSADError(
            f"{path} cannot be read or written ({error.strerror}); make it readable and {folder} writable"
        ) from error
    except ValueError as error:
        raise DeepSADError(
            f"{path} is damaged ({error}); remove {folder}, and the run's command writes it again from its checkpoints"
        ) from error


def read_facts(folder: Path) -> Facts:
    """Read a detector's folder and check its files.

    Raises:
        DeepSADError: if a file is missing, damaged or of another release.
    """
    path = folder / FACTS
    way_out = f"copy it again, or remove {folder} so that it is made again from the run's checkpoints and data"
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, but this release reads {FORMAT}")
        inputs = Inputs.from_dict(content["inputs"])
        others = {name: content[name] for name in Facts.__dataclass_fields__ if name != "inputs"}
        facts = Facts(inputs=inputs, **others)
        for name, digest in facts.files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"the SHA-256 of {name} differs")
        # The run itself writes this file, and rewrites it if it is lost; an archive has its own checksums.
        if facts.threshold and not (folder / CALIBRATION).exists():
            raise ValueError(f"{CALIBRATION} is missing")
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise DeepSADError(f"the detector {folder} has no file {name}; {way_out}") from None
    except OSError as error:
        raise DeepSADError(f"{error.filename} cannot be read ({error.strerror}); make it readable") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DeepSADError(f"the detector {folder} is damaged: {told}; {way_out}") from error
    return facts
