"""Write scores chunk by chunk to CSV, JSON lines or Parquet.

They go to a temporary file, which in the end becomes the output or is appended to it.
"""

import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8, clear_parts, part_of, put_in_place
from deepsad_pl.detector.append_rows import append, undo_interrupted

OUTPUTS = (".csv", ".jsonl", ".parquet")
# Format of a number in text, with more digits than a single-precision score has.
_DIGITS = "%.9g"
# A CSV cell with one of these characters is quoted.
_QUOTED = re.compile('[,"\r\n]')

Values = Sequence[Any] | npt.NDArray[Any]


def columns_of_output(name: str, more: Sequence[str] = ()) -> list[str]:
    """The names of the columns: ``id`` or ``path`` first, and further columns of text last."""
    return [name, "score", "p_value", "anomaly", *more]


def output_problems(path: Path, *, append: bool, asks: bool = False) -> list[str]:
    """Reasons why a file cannot be written, found before any work.

    Args:
        path: the file.
        append: whether rows are appended to an existing file; otherwise it is replaced, if it is one of scores.
        asks: whether the file asks for labels instead; one without an answer may be replaced.
    """
    if path.suffix.lower() not in OUTPUTS:
        return [f"output: {path} has an unknown format; let its name end in one of {', '.join(OUTPUTS)}"]
    problems = []
    if not path.expanduser().parent.is_dir():
        problems.append(f"output: there is no folder {path.parent}; create it or choose another")
    if path.expanduser().is_dir():
        problems.append(f"output: {path} is a folder; give a file")
    if append and path.suffix.lower() == ".parquet":
        problems.append("append is true, but nothing can be appended to a Parquet file; write .csv or .jsonl")
    if not problems and not append:
        problems += _losses(path.expanduser(), asks=asks)
    return problems


def _losses(path: Path, *, asks: bool) -> Iterator[str]:
    """Yield a sentence if replacing a file would lose more than scores: a table, or answers."""
    if not path.is_file() or not path.stat().st_size:
        return
    names = _names_in(path)
    if asks and len(names) == 3 and names[1] in ("score", "anomaly_score"):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            answers = sum(bool("".join(row[2:]).strip()) for row in csv.reader(file)) - 1
        if answers > 0:
            labels = counted(answers, "label that was filled in", "labels that were filled in")
            yield f"output: {path} has {labels} and would be lost; choose another file"
    elif asks or names[1:4] != columns_of_output("id")[1:]:
        held = f"has the columns {', '.join(names[:8])}" if names else "cannot be read as a table"
        what = "questions about labels" if asks else "scores"
        yield (
            f"output: {path} exists and {held}, so it is no file of {what} and would be lost; choose another file, or "
            "remove it first"
        )


def _names_in(path: Path) -> list[str]:
    """The columns of an existing file; empty if it has none."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
        return list(json.loads(line)) if path.suffix.lower() == ".jsonl" else next(csv.reader([line]), [])
    except (OSError, ValueError, TypeError, csv.Error):
        return []


class Output:
    """A file of scores that appears once it is complete; an error or a kill leaves an existing file unchanged.

    Args:
        path: path of the file; its suffix is one of :data:`OUTPUTS`.
        first: name of the first column: ``id`` or ``path``.
        more: names of further columns of text.
        append: whether rows are appended to an existing file.

    Attributes:
        undone: number of bytes removed because a killed process had appended them; None if there was no such process.

    Raises:
        DeepSADError: if an existing file has other columns, or a file cannot be written.
    """

    def __init__(self, path: Path, first: str, *, more: Sequence[str] = (), append: bool = False) -> None:
        self.path, self._columns = path.expanduser(), columns_of_output(first, more)
        self._kind = self.path.suffix.lower()
        self._appends = append and self.path.exists() and self.path.stat().st_size > 0
        self._parquet: Any = None
        self._empty: pd.DataFrame | None = None
        self.undone: int | None = None
        try:
            if self._appends:
                self._check_header()
                self.undone = undo_interrupted(self.path)
                # It has no name, so it disappears with the process.
                self._file: Any = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed on leaving)
                return
            clear_parts(self.path.parent)
            descriptor, name = tempfile.mkstemp(**part_of(self.path))
        except OSError as error:
            raise DeepSADError(f"output: {path} cannot be written ({error.strerror}); choose another file") from error
        self._temporary = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        if self._kind == ".csv":
            # This stays in the buffer; it reaches the disk with the first rows, or at the end.
            self._file.write(",".join(self._columns).encode() + b"\n")

    def _check_header(self) -> None:
        """Raise an error if the columns of an existing file differ."""
        with self.path.open("r+b") as file:
            line = file.readline().decode(errors="replace").strip()
        names = line.split(",")
        if self._kind == ".jsonl":
            try:
                names = list(json.loads(line))
            except (ValueError, TypeError):
                names = []
        if names != self._columns:
            raise DeepSADError(
                f"output: {self.path} begins with {line[:80]!r}, but the columns are {', '.join(self._columns)}; "
                "choose another file, or append=false to replace it"
            )

    def write(self, *columns: Values) -> None:
        """Write a chunk: for each column one value per row, NaN or NA for a blank.

        Raises:
            DeepSADError: if it cannot be written, such as on a full disk.
        """
        with self._told():
            self._write(*columns)

    def _write(self, *columns: Values) -> None:
        ids = [as_utf8(one) if isinstance(one, str) else one for one in columns[0]]
        if self._kind == ".csv":
            self._file.write(_as_csv(ids, *columns[1:]).encode())
            return
        frame = pd.DataFrame(dict(zip(self._columns, (ids, *columns[1:]), strict=True)))
        frame["anomaly"] = frame["anomaly"].astype("Int8")
        if self._kind == ".parquet":
            # The first rows tell whether their names are numbers.
            if len(frame) or self._parquet is not None:
                self._write_parquet(frame)
            else:
                self._empty = frame
        else:
            self._file.write(_as_json_lines(self._columns, ids, *columns[1:]).encode())

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        kinds = [pa.int64() if pd.api.types.is_integer_dtype(frame.iloc[:, 0].dtype) else pa.string()]
        kinds += [pa.float64(), pa.float64(), pa.int8()]
        kinds += [pa.string()] * (len(self._columns) - len(kinds))
        schema = pa.schema(list(zip(self._columns, kinds, strict=True)))
        table = pa.Table.from_pandas(frame, schema, preserve_index=False)
        if self._parquet is None:
            self._parquet = pyarrow.parquet.ParquetWriter(self._file, schema)
        self._parquet.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._told():
                self._complete(failed=error is not None)
        except DeepSADError:
            # Report an earlier error instead, of which this one may be a consequence, as on a full disk.
            if error is None:
                raise
        finally:
            self._discard()

    def _complete(self, *, failed: bool) -> None:
        """Put the rows into the output, unless writing them failed."""
        if self._parquet is None and self._empty is not None and not failed:
            self._write_parquet(self._empty)
        if self._parquet is not None:
            self._parquet.close()
        if failed:
            return
        if self._appends:
            append(self.path, self._file, before=b"\n")
            return
        self._file.flush()
        # mkstemp creates files with mode 0600; the output gets the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        self._temporary.chmod(0o666 & ~umask)
        put_in_place(self._temporary, self.path)

    def _discard(self) -> None:
        """Close the temporary file, and remove it if it is still there."""
        # Closing tries to write what is left in the buffer; that is not needed, so it may fail.
        with suppress(OSError):
            self._file.close()
        if not self._appends:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the file system into a ``DeepSADError``."""
        try:
            yield
        except OSError as error:
            done = "appended to" if self._appends else "written"
            as_before = ", and is as it was" if self.path.exists() else ""
            raise DeepSADError(
                f"output: {self.path} cannot be {done} ({error.strerror or error}){as_before}; make room, or choose "
                "another file"
            ) from error


def _as_csv(ids: Values, score: Values, p_value: Values, anomaly: Values, *more: Values) -> str:
    """Format rows as the CSV lines that pandas would write, but four times as fast."""
    are_anomalies = ["" if one is pd.NA else str(one) for one in anomaly]
    columns = [_quoted(ids), _digits(score), _digits(p_value), are_anomalies, *map(_quoted, more)]
    lines = map(",".join, zip(*columns, strict=True))
    return "".join([f"{line}\n" for line in lines])


def _as_json_lines(names: Sequence[str], ids: Values, score: Values, p_value: Values, *more: Values) -> str:
    """Format rows as JSON lines; numbers have as many digits as in CSV."""
    numbers = [[float(text) if text else None for text in _digits(values)] for values in (score, p_value)]
    anomaly, *texts = [[None if one is pd.NA else one for one in values] for values in more]
    columns = (ids, *numbers, [None if one is None else int(one) for one in anomaly], *texts)
    encode = json.JSONEncoder(
        ensure_ascii=False, default=lambda one: one.item() if isinstance(one, np.generic) else str(one)
    ).encode
    return "".join([f"{encode(dict(zip(names, row, strict=True)))}\n" for row in zip(*columns, strict=True)])


def _quoted(values: Values) -> list[str]:
    texts = [str(one) for one in values]
    if _QUOTED.search("".join(texts)):
        return ['"' + one.replace('"', '""') + '"' if _QUOTED.search(one) else one for one in texts]
    return texts


def _digits(values: Values) -> list[str]:
    """Each number as text, blank for NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    blank = np.isnan(numbers)
    if blank.all():
        return [""] * len(numbers)
    text = [_DIGITS % number for number in numbers.tolist()]
    for row in np.flatnonzero(blank):
        text[row] = ""
    return text
