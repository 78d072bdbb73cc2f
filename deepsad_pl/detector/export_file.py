"""Write a detector as one file that other programs can run: ONNX, or a program of ``torch.export``."""

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import clear_parts, part_of, put_in_place
from deepsad_pl.data.scaling import Scaling
from deepsad_pl.data.table_columns import TableColumns
from deepsad_pl.detector.detector import Detector, UnusualInputWarning
from deepsad_pl.detector.inputs import Inputs
from deepsad_pl.detector.score_graph import ScoreGraph, input_graph, model_graph

log = logging.getLogger(__name__)

Format = Literal["onnx", "torch_export"]
# The suffix of each format's files.
FORMATS: Mapping[str, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
# Largest difference between the scores of the file and those of the detector, relative to the largest score.
PARITY = 1e-5
# Key of the metadata in an ONNX file, and name of the extra file with the metadata in a program.
METADATA = "deepsad_pl"
# Number of samples in the trace and in the check. The trace would take a batch size of 1 for a constant.
_TRACED, _CHECKED = 3, 64

Raw = npt.NDArray[Any]
Scorer = Callable[[Raw], npt.NDArray[np.float64]]


def export(detector: Detector, path: Path, kind: Format) -> dict[str, Any]:
    """Write a detector as one file, and check its scores against the detector's on random input.

    Args:
        detector: the detector, on the CPU.
        path: path of the file; an existing one is replaced once the new one is complete.
        kind: ``onnx`` or ``torch_export``.

    Returns:
        The metadata in the file, see :func:`metadata_of`.

    Raises:
        DeepSADError: if the detector cannot be exported, its scores differ, or the file cannot be written.
    """
    graph = score_graph(detector)
    metadata = metadata_of(detector)
    write, read = (_write_onnx, onnx_scorer) if kind == "onnx" else (_write_program, program_scorer)
    try:
        clear_parts(path.parent)
        with tempfile.TemporaryDirectory(**part_of(path)) as folder:
            made = Path(folder) / f"detector{FORMATS[kind]}"
            with _quiet(), _as_one_sentence(detector, kind):
                write(graph, raw_samples(detector.facts.inputs, _TRACED), made, metadata)
            if others := sorted(one.name for one in made.parent.iterdir() if one != made):
                raise DeepSADError(f"the export needs more than one file ({', '.join(others)}); use torch_export")
            _require_same_scores(detector, read(made))
            put_in_place(made, path)
    except OSError as error:
        raise DeepSADError(f"{path} cannot be written ({error.strerror or error}); choose another output") from error
    return metadata


def score_graph(detector: Detector) -> ScoreGraph:
    """The detector as a module from raw input to scores, see :class:`~deepsad_pl.detector.score_graph.ScoreGraph`.

    Raises:
        DeepSADError: if a part of it computes outside torch.
    """
    inputs, model = detector.facts.inputs, detector.model
    prepare = input_graph(inputs.scale, inputs.preparation)
    graph = ScoreGraph(prepare, detector.module, None if model is None else model_graph(model))
    return graph.eval()


def metadata_of(detector: Detector) -> dict[str, Any]:
    """What a program that runs the file needs to know, as plain values.

    ``columns`` lists the table's columns in the order of the input, each with its kind and, for a category, the texts
    that the codes 0, 1, ... stand for; None: the input has no named columns. ``threshold`` has the kind, the level and
    the score above which a sample is an anomaly, raised by what scores may differ; None: the run has no threshold.
    """
    inputs, facts = detector.facts.inputs, detector.facts
    example = raw_samples(inputs, 1)
    columns: list[dict[str, Any]] | None = None
    if isinstance(inputs.preparation, TableColumns):
        columns = [
            {"name": one.name, "kind": one.kind} | ({"categories": list(one.categories)} if one.categories else {})
            for one in inputs.preparation.columns
        ]
    elif inputs.columns is not None:
        columns = [{"name": name, "kind": "number"} for name in inputs.columns]
    threshold = None
    if detector.has_threshold:
        threshold = {**detector.threshold.described, "score": detector.threshold_value(tolerance=PARITY)}
    return {
        "dataset": facts.dataset,
        "method": facts.method,
        "hash": facts.hash,
        "input": {"name": "x", "type": str(example.dtype), "shape": list(example.shape[1:])},
        "output": {"name": "score", "type": "float64"},
        "columns": columns,
        "threshold": threshold,
        "versions": {**facts.versions, "exported with deepsad_pl": version("deepsad-pl")},
    }


def raw_samples(inputs: Inputs, count: int, seed: int = 0) -> Raw:
    """Random raw input near the training data, in the form that an exported file takes, shape (count, ...)."""
    rng = np.random.default_rng(seed)
    if inputs.scale is not None:
        return rng.integers(0, int(inputs.scale), (count, *inputs.shape), dtype=np.uint8, endpoint=True)
    preparation = inputs.preparation
    if not isinstance(preparation, TableColumns):
        x = rng.normal(size=(count, *inputs.shape))
        return preparation.inverse(x.reshape(count, -1)).reshape(x.shape) if isinstance(preparation, Scaling) else x
    scaled: Iterator[Raw] = iter(())
    if preparation.scaling is not None:
        scaled = iter(preparation.scaling.inverse(rng.normal(size=(count, len(preparation.scaling.shift)))).T)
    x = np.empty((count, len(preparation.columns)))
    for place, column in enumerate(preparation.columns):
        if column.kind == "category":
            x[:, place] = rng.integers(-1, len(column.categories), count)
            continue
        values = next(scaled)
        x[:, place] = rng.integers(0, 2, count) if column.kind == "boolean" else values
    x[(rng.random(x.shape) < 0.05) & np.array([column.missing for column in preparation.columns])] = np.nan
    return x


def as_frame(columns: TableColumns, x: Raw) -> pd.DataFrame:
    """Turn an exported file's input, float64 (n, columns), into rows of a table; category codes become texts."""
    cells: dict[str, Any] = {}
    for column, codes in zip(columns.columns, x.T, strict=True):
        texts = dict(enumerate(column.categories))
        unknown = "?".join(["", *column.categories, ""])
        spelled = [None if np.isnan(code) else texts.get(code, unknown) for code in codes]
        cells[column.name] = pd.Series(spelled, dtype=object) if column.kind == "category" else codes
    return pd.DataFrame(cells)


def onnx_scorer(path: Path) -> Scorer:
    """A function that runs an exported ONNX file on the CPU.

    Raises:
        DeepSADError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _lacks(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def score(x: Raw) -> npt.NDArray[np.float64]:
        (found,) = session.run(["score"], {"x": x})
        return np.asarray(found)

    return score


def program_scorer(path: Path) -> Scorer:
    """A function that runs an exported program of ``torch.export``."""
    module = torch.export.load(path).module()

    def score(x: Raw) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            found: npt.NDArray[np.float64] = module(torch.from_numpy(x)).numpy()
        return found

    return score


def _write_onnx(graph: ScoreGraph, x: Raw, path: Path, metadata: Mapping[str, Any]) -> None:
    try:
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise _lacks(error) from error
    program = torch.onnx.export(
        graph,
        (torch.from_numpy(x),),
        dynamo=True,
        input_names=["x"],
        output_names=["score"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(metadata)
    program.save(path)


def _write_program(graph: ScoreGraph, x: Raw, path: Path, metadata: Mapping[str, Any]) -> None:
    shapes = {"x": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(graph, (torch.from_numpy(x),), dynamic_shapes=shapes)
    # On a full disk, torch would abort with a stack trace of its own.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def _require_same_scores(detector: Detector, score: Scorer) -> None:
    """Raise an error unless a file gives random samples, in a batch or alone, the detector's full-precision scores."""
    facts = replace(detector.facts, precision="32-true")
    reference = Detector(facts, detector.module, detector.model)
    x = raw_samples(facts.inputs, _CHECKED)
    columns = facts.inputs.preparation
    with warnings.catch_warnings():
        # Some of the random categories are unknown on purpose.
        warnings.simplefilter("ignore", UnusualInputWarning)
        expected = reference.score(as_frame(columns, x) if isinstance(columns, TableColumns) else x)
    for found, wanted in ((score(x), expected), (score(x[:1]), expected[:1])):
        # Relative to the largest score, because a score of SSAD is a difference that may be near 0 by chance.
        worst = float(np.max(np.abs(found - wanted)) / np.abs(expected).max())
        if not worst <= PARITY:
            raise DeepSADError(
                f"the exported scores differ from the detector's by a relative {worst:.1e}, more than {PARITY:g}; "
                "score with score.py or deepsad_pl.load, and report this"
            )


@contextlib.contextmanager
def _as_one_sentence(detector: Detector, kind: Format) -> Iterator[None]:
    try:
        yield
    except (DeepSADError, OSError):
        raise
    except Exception as error:  # tracing a class from outside can raise nearly anything
        said = str(error).partition("\n")[0]
        raise DeepSADError(
            f"{detector.facts.target or detector.facts.method} cannot be exported as {kind} "
            f"({type(error).__name__}: {said}); score with score.py or deepsad_pl.load"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress output and the warnings of tracing, which are not meant for users."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _lacks(error: ImportError) -> DeepSADError:
    return DeepSADError(f"format=onnx needs {error.name}; install deepsad-pl[export], or use format=torch_export")
