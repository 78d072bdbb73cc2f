"""Write scores chunk by chunk to CSV, JSON lines or Parquet: into a temporary file that is moved, or appended."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt
import pandas as pd

from deepsad_pl.common.errors import DeepSADError

OUTPUTS = (".csv", ".jsonl", ".parquet")
# Format of a number in text, with more digits than a single-precision score has.
_DIGITS = "%.9g"


def columns_of_output(name: str) -> list[str]:
    """The names of the columns; the first one is ``id`` or ``path``."""
    return [name, "score", "p_value", "anomaly"]


def output_problems(path: Path, *, append: bool) -> list[str]:
    """Reasons why a file cannot be written, found before any work."""
    if path.suffix.lower() not in OUTPUTS:
        return [f"output: {path} has an unknown format; let its name end in one of {', '.join(OUTPUTS)}"]
    problems = []
    if not path.expanduser().parent.is_dir():
        problems.append(f"output: there is no folder {path.parent}; create it or choose another")
    if path.expanduser().is_dir():
        problems.append(f"output: {path} is a folder; give a file")
    if append and path.suffix.lower() == ".parquet":
        problems.append("append is true, but nothing can be appended to a Parquet file; write .csv or .jsonl")
    return problems


class Output:
    """A file of scores; after an error it is as it was before.

    Args:
        path: its suffix is one of :data:`OUTPUTS`.
        first: name of the first column: ``id`` or ``path``.
        append: whether rows are appended to an existing file, a whole chunk at a time.

    Raises:
        DeepSADError: if an existing file has other columns, or a file cannot be written.
    """

    def __init__(self, path: Path, first: str, *, append: bool = False) -> None:
        self.path, self._columns = path.expanduser(), columns_of_output(first)
        self._kind = self.path.suffix.lower()
        self._appends = append and self.path.exists() and self.path.stat().st_size > 0
        self._parquet: Any = None
        try:
            if self._appends:
                self._file: Any = self.path.open("r+b")
                ends = self._check_header()
                self._size = self._file.seek(0, os.SEEK_END)
                self._file.write(b"" if ends else b"\n")
                return
            descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise DeepSADError(f"output: {path} cannot be written ({error.strerror}); choose another file") from error
        self._temporary = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        if self._kind == ".csv":
            self._file.write(",".join(self._columns).encode() + b"\n")

    def _check_header(self) -> bool:
        """Demand the same columns; returns whether the file ends with a line end."""
        line = self._file.readline().decode(errors="replace").strip()
        names = line.split(",")
        if self._kind == ".jsonl":
            try:
                names = list(json.loads(line))
            except (ValueError, TypeError):
                names = []
        if names != self._columns:
            self._file.close()
            raise DeepSADError(
                f"output: {self.path} begins with {line[:80]!r}, but the columns are {', '.join(self._columns)}; "
                "choose another file, or append=false to replace it"
            )
        self._file.seek(-1, os.SEEK_END)
        return bool(self._file.read(1) == b"\n")

    def write(self, *columns: Sequence[Any] | npt.NDArray[Any]) -> None:
        """Write a chunk: one value for each row in each column, NaN or NA for what is blank."""
        frame = pd.DataFrame(dict(zip(self._columns, columns, strict=True)))
        frame["anomaly"] = frame["anomaly"].astype("Int8")
        if self._kind == ".parquet":
            self._write_parquet(frame)
            return
        if self._kind == ".csv":
            text = frame.to_csv(index=False, header=False, float_format=_DIGITS, lineterminator="\n")
        else:
            text = frame.to_json(orient="records", lines=True, double_precision=15, force_ascii=False)
        if len(frame):
            self._file.write(text.encode())
            self._file.flush()

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        kinds = [pa.int64() if pd.api.types.is_integer_dtype(frame.iloc[:, 0].dtype) else pa.string()]
        schema = pa.schema(list(zip(self._columns, [*kinds, pa.float64(), pa.float64(), pa.int8()], strict=True)))
        table = pa.Table.from_pandas(frame, schema, preserve_index=False)
        if self._parquet is None:
            self._parquet = pyarrow.parquet.ParquetWriter(self._file, schema)
        self._parquet.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self._appends:
            if error is not None:
                self._file.truncate(self._size)
            self._file.close()
            return
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        if error is not None:
            self._temporary.unlink(missing_ok=True)
            return
        # mkstemp creates files with mode 0600.
        umask = os.umask(0)
        os.umask(umask)
        self._temporary.chmod(0o666 & ~umask)
        self._temporary.replace(self.path)
