"""Read tables from files: CSV, TSV, Parquet, NumPy and MATLAB, whole or in chunks of rows."""

import csv
import gzip
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.ragged_rows import RaggedRow, RaggedRows
from deepsad_pl.data.table_cells import Arrow, numbers_or_text, trimmed
from deepsad_pl.data.table_roles import ARRAYS

STANDARD_INPUT = "-"
# The name of standard input in messages.
_SHOWN = Path("standard input")
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", *ARRAYS)
ROWS_A_CHUNK = 65536
# Size of a block of CSV; arrow reads 32 ahead. A row must fit into a block, so long column names need a larger one.
_BLOCK_BYTES, _BLOCK_NAMES = 1 << 20, 64
_LONGEST_HEADER = 16 << 20
# The last bytes of a file, by which a closed cell is recognized.
_END_BYTES = 64
# First bytes of files that are not text, with what messages say about them.
_MAGIC = {
    b"PAR1": "is a Parquet file, which is read if it is named .parquet",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; export it as CSV",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet of Excel; export it as CSV",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
}


def read_table(
    paths: Sequence[str | Path], columns: Sequence[str] | None = None, *, text: Collection[str] = ()
) -> pd.DataFrame:
    """Read files with the same columns, one after the other, as one table.

    Args:
        paths: names end in one of ``SUFFIXES``. CSV and TSV are UTF-8 with column names in the first row. A
            ``.npz`` or ``.mat`` file has X (N, D), read as columns x0, x1, ..., and may have y (N,), read as column y.
        columns: columns to read, in this order; None reads all, in the order of the first file.
        text: columns of names or labels, whose cells stay as they are spelled, such as 007, 1e3 or NA.

    Returns:
        A frame with the index 0, 1, .... A column of CSV is float64 if each cell is a number or missing (see
        ``MISSING_WORDS``); otherwise it is trimmed text, with empty cells as NA. Other formats keep their types.

    Raises:
        DeepSADError: if a file is missing or cannot be read, if the files have no rows, or if their columns differ.
    """
    if not paths:
        raise DeepSADError("no file is given; name at least one table")
    if STANDARD_INPUT in map(str, paths):
        raise DeepSADError(f"{STANDARD_INPUT} is standard input, which can only be read in chunks; name a file")
    wanted = None if columns is None else list(columns)
    as_text = {*text}
    while True:
        batches: list[Arrow] = []
        for path in map(Path, paths):
            for batch in _batches(path, columns, as_text, ROWS_A_CHUNK):
                wanted = batch.schema.names if wanted is None else wanted
                if {*batch.schema.names} != {*wanted}:
                    raise DeepSADError(_difference(path, batch.schema.names, Path(paths[0]), wanted))
                batches.append(batch)
        assert wanted is not None
        found = {name: _common_type({batch.schema.field(name).type for batch in batches}) for name in wanted}
        mixed = {name for name, kind in found.items() if kind is None}
        if not mixed:
            break
        # Numbers in one part, text in another: read again as text, since parsed numbers have lost their spelling.
        as_text |= mixed
    if not sum(batch.num_rows for batch in batches):
        raise DeepSADError(f"{', '.join(map(str, paths))} has column names but no rows; add rows")
    schema = pa.schema(list(found.items()))
    table = pa.Table.from_batches([batch.select(wanted).cast(schema) for batch in batches], schema)
    batches.clear()
    return _as_frame(table)


def table_chunks(
    path: str | Path,
    rows: int = ROWS_A_CHUNK,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    stream: TextIO | None = None,
    ragged: dict[int, RaggedRow] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read a table in chunks, with memory bounded by the size of a chunk; ``.npz`` and ``.mat`` files are read whole.

    Args:
        path: see :func:`read_table`; ``-`` reads CSV from ``stream``.
        rows: number of rows of every chunk but the last, at least 1.
        columns: see :func:`read_table`.
        text: see :func:`read_table`. The type of any other column of CSV may differ from chunk to chunk.
        stream: text stream for ``-``; None means standard input.
        ragged: receives, by position, each row of CSV with more or fewer cells than columns, before the chunk that has
            an empty row in its place; None: such a row is an error.

    Yields:
        Frames like those of :func:`read_table`, whose index continues from chunk to chunk. For a table without rows,
        one frame without rows.

    Raises:
        DeepSADError: at the first chunk, if the file is missing or its columns are wrong; at a later one, if the rest
            of the file cannot be read.
    """
    first = 0
    for batch in _batches(Path(path), columns, text, rows, stream, ragged):
        frame = _as_frame(pa.Table.from_batches([batch]))
        frame.index = pd.RangeIndex(first, first + len(frame))
        first += len(frame)
        yield frame


def column_names(path: Path) -> list[str]:
    """The names of a table's columns, without its rows; ``.npz`` and ``.mat`` files are read whole.

    Raises:
        DeepSADError: if the file is missing or cannot be read, or its column names are missing or repeated.
    """
    with _told(path), _opened(path) as (names, _, _):
        _check_names(path, names, None)
        return names


def _as_frame(table: Arrow) -> pd.DataFrame:
    kinds = {pa.large_string(): pd.StringDtype("pyarrow"), pa.bool_(): pd.BooleanDtype()}
    # Converts column by column and frees the memory of each before the next one.
    return cast(
        pd.DataFrame,
        table.to_pandas(types_mapper=kinds.get, date_as_object=False, split_blocks=True, self_destruct=True),
    )


def _common_type(kinds: set[Arrow]) -> Arrow | None:
    """The type of a column, from the types of its parts; None if only text can hold all of them."""
    kinds = kinds - {pa.null()}
    if len(kinds) < 2:
        return next(iter(kinds), pa.float64())
    return pa.float64() if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds) else None


def _difference(path: Path, names: list[str], first: Path, wanted: list[str]) -> str:
    parts = [("lacks", [name for name in wanted if name not in names])]
    parts += [("has", [name for name in names if name not in wanted])]
    told = " and ".join(f"{verb} {_listed(which)}" for verb, which in parts if which)
    return f"{path} has other columns than {first}: it {told}; give tables with the same columns"


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _batches(
    path: Path,
    columns: Sequence[str] | None,
    text: Collection[str],
    rows: int,
    stream: TextIO | None = None,
    ragged: dict[int, RaggedRow] | None = None,
) -> Iterator[Arrow]:
    """Yield typed record batches of ``rows`` rows, the last one possibly with fewer; at least one batch."""
    shown = _SHOWN if str(path) == STANDARD_INPUT else path
    with _told(shown), _opened(path, stream, ragged) as (names, untyped, is_csv):
        _check_names(shown, names, columns)
        wanted = names if columns is None else list(columns)
        none = True
        for batch in _of_rows(untyped(wanted, rows), rows):
            none = False
            yield _typed(shown, batch.select(wanted), text, is_csv)
        if none:
            yield pa.RecordBatch.from_arrays([pa.nulls(0)] * len(wanted), names=wanted)


def _of_rows(batches: Iterator[Arrow], rows: int) -> Iterator[Arrow]:
    pending: list[Arrow] = []
    count = 0
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(pending)
            yield from table.slice(0, rows).combine_chunks().to_batches()
            pending, count = table.slice(rows).to_batches(), count - rows
    if count:
        yield from pa.Table.from_batches(pending).combine_chunks().to_batches()


def _typed(path: Path, batch: Arrow, text: Collection[str], is_csv: bool) -> Arrow:
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
            kind = array.type
        if name in text and pa.types.is_floating(kind):
            # Of an array, NaN is the only way to leave a cell empty.
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if name in text or is_text:
            try:
                array = array.cast(pa.large_string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DeepSADError(
                    f"{path} has cells of type {kind} in column {name!r}, not text; convert it"
                ) from error
            array = numbers_or_text(array) if is_csv and name not in text else trimmed(array)
        elif pa.types.is_decimal(kind):
            array = array.cast(pa.float64())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _check_names(path: Path, names: list[str], columns: Sequence[str] | None) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DeepSADError(
            f"{path} has several columns named {_listed(repeated)}; give each column a unique name, or, if the "
            "first line is a row, add a line of names"
        )
    problems = []
    for name in columns or ():
        if name not in names:
            guess = suggested(name, names) or f"it has {_listed(names)}"
            problems.append(f"{path} has no column {name!r}; {guess}")
    if problems:
        raise DeepSADError(*problems)


# The names of the columns, a function that yields the batches of some columns, and whether all cells are text.
_Opened = tuple[list[str], Callable[[list[str], int], Iterator[Arrow]], bool]


@contextmanager
def _opened(path: Path, stream: TextIO | None = None, ragged: dict[int, RaggedRow] | None = None) -> Iterator[_Opened]:
    if str(path) == STANDARD_INPUT:
        with _open_csv(_SHOWN, _BytesOf(stream or sys.stdin), ",", ragged) as opened:
            yield opened
        return
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise DeepSADError(f"{path} has none of the endings {', '.join(SUFFIXES)}; convert it to one of these formats")
    if not path.exists():
        raise DeepSADError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise DeepSADError(f"{path} is a folder; name a file in it")
    if not path.stat().st_size:
        raise DeepSADError(f"{path} is empty; a table needs column names and rows")
    if name.endswith(".parquet"):
        with pa.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield (
                file.schema_arrow.names,
                lambda columns, rows: file.iter_batches(batch_size=rows, columns=columns),
                False,
            )
    elif name.endswith(ARRAYS):
        yield _opened_arrays(path)
    else:
        with (
            path.open("rb") as raw,
            _open_csv(path, raw, "," if name.removesuffix(".gz").endswith(".csv") else "\t", ragged) as opened,
        ):
            yield opened


@contextmanager
def _open_csv(
    path: Path, raw: io.RawIOBase | io.BufferedReader, delimiter: str, ragged: dict[int, RaggedRow] | None
) -> Iterator[_Opened]:
    file: Any = io.BufferedReader(cast(io.RawIOBase, raw))
    if file.peek(2)[:2] == b"\x1f\x8b":
        file = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
    names = _header(path, file, delimiter)

    def batches(columns: list[str], rows: int) -> Iterator[Arrow]:
        if not file.peek(1):
            return
        # One thread, since with several an error message does not name the row.
        quotes = _CountedQuotes(file)
        block = max(_BLOCK_BYTES, _BLOCK_NAMES * sum(map(len, names)))
        kept = None if ragged is None else RaggedRows(ragged, delimiter)
        reader = pa.csv.open_csv(
            quotes,
            read_options=pa.csv.ReadOptions(column_names=names, block_size=block, use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=kept and kept.handler
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), include_columns=columns
            ),
        )
        row, last = -1, None
        with reader:
            for batch in reader if kept is None else kept.put_back(reader, reader.schema):
                if batch.num_rows:
                    row, last = row + batch.num_rows, batch
                yield batch
        # arrow ends a quoted cell at the end of the file.
        if last is not None and quotes.ends_open and names[-1] in columns:
            cell = (last.column(names[-1])[-1].as_py() or "").rstrip()
            if lines := cell.count("\n"):
                raise DeepSADError(
                    f"{path} has a double quote in row {row}, counted from 0, that is never closed, so "
                    f"{counted(lines, 'further line')} would be part of its cell {cell[:40]!r}; close the quote, or "
                    "write it twice in a quoted cell"
                )

    yield names, batches, True


def _header(path: Path, file: Any, delimiter: str) -> list[str]:
    """Read the column names, and no further than their row."""
    start = file.peek(4)
    if not start:
        raise DeepSADError(f"{path} is empty; a table needs column names and rows")
    for magic, told in _MAGIC.items():
        if start.startswith(magic):
            raise DeepSADError(f"{path} {told}")

    def lines() -> Iterator[str]:
        encoding = "utf-8-sig"
        while line := file.readline(_LONGEST_HEADER):
            if b"\0" in line or len(line) == _LONGEST_HEADER:
                raise DeepSADError(f"{path} is not text, or its first row never ends; export the table as CSV")
            yield line.decode(encoding)
            encoding = "utf-8"

    cells = next((row for row in csv.reader(lines(), delimiter=delimiter) if row), [])
    names = [cell.strip() or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    if not any(cell.strip() for cell in cells):
        raise DeepSADError(f"{path} has no column names in its first row; put a row of names first")
    if all(_is_number(cell) for cell in cells):
        raise DeepSADError(
            f"{path} has no column names: its first row holds only numbers ({_listed(cells, 5)}); put a row of names "
            "first, such as x0, x1, ..."
        )
    if len(names) == 1 and (other := next((d for d in (";", "\t", "|", ",") if d in names[0]), None)):
        raise DeepSADError(
            f"{path} has one column, named {names[0][:80]!r}, whose cells seem to be divided by {other!r}; write "
            "commas in a .csv and tabs in a .tsv"
        )
    return names


def _is_number(cell: str) -> bool:
    return bool(pa.types.is_floating(numbers_or_text(pa.array([cell])).type))


def _opened_arrays(path: Path) -> _Opened:
    """Read ``X`` and, if there is one, ``y`` from a ``.npz`` or ``.mat`` file."""
    if path.suffix.lower() == ".mat":
        from scipy.io import loadmat

        content: dict[str, Any] = loadmat(str(path))
    else:
        with np.load(path, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
    x, y = content.get("X"), content.get("y")
    if x is None:
        keys = [key for key in content if not key.startswith("__")]
        raise DeepSADError(f"{path} has no X, but {_listed(keys)}; save the table as X (N, D), its labels as y (N,)")
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind not in "biuf" or 0 in x.shape:
        raise DeepSADError(f"{path} holds X {_array_told(x)}; save it as numbers (N, D) with rows and columns")
    table = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    if y is not None:
        if (
            not isinstance(y, np.ndarray)
            or y.dtype.kind not in "biufU"
            or not y.size == max(y.shape, default=1) == len(x)
        ):
            raise DeepSADError(f"{path} holds y {_array_told(y)}; save one label for each of the {len(x)} rows of X")
        table["y"] = y.ravel()

    def batches(columns: list[str], rows: int) -> Iterator[Arrow]:
        for first in range(0, len(x), rows):
            parts = [np.ascontiguousarray(table[name][first : first + rows]) for name in columns]
            yield pa.RecordBatch.from_arrays([pa.array(part) for part in parts], names=columns)

    return list(table), batches, False


def _array_told(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"of shape {value.shape} and type {value.dtype}"
    return f"as a {type(value).__name__}"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn any error of a reader into one sentence with the name of the file."""
    try:
        yield
    except (DeepSADError, MemoryError):
        raise
    except Exception as error:  # each reader raises its own exceptions on damaged files
        message = " ".join(str(error).split())
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in message:
            raise DeepSADError(f"{path} is not UTF-8 text; save it as UTF-8") from error
        if ragged := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", message):
            row, expected, found, start = ragged.groups()
            raise DeepSADError(
                f"{path} has {found} cells under {expected} column names in row {int(row) - 1}, counted from 0: "
                f"{start[:80]!r}; correct the row, and put a cell that holds the separator into double quotes"
            ) from error
        raise DeepSADError(
            f"{path} cannot be read ({type(error).__name__}: {message[:200]}); replace it with an intact file"
        ) from error


class _CountedQuotes:
    """A binary file that counts the double quotes that are read from it."""

    closed = False

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._quotes = 0
        self._end = b""

    @property
    def ends_open(self) -> bool:
        """Whether what was read may end within quotes: their number is odd, and the last character is none."""
        return self._quotes % 2 == 1 and not self._end.rstrip(b" \t\r\n").endswith(b'"')

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes."""
        found = self._file.read(size)
        self._quotes += found.count(b'"')
        self._end = (self._end + found[-_END_BYTES:])[-_END_BYTES:]
        return found

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def close(self) -> None:
        """Leave the file open, which its owner closes."""


class _BytesOf(io.RawIOBase):
    """A text stream as a stream of bytes; the text stream stays open."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            below = getattr(self._stream, "buffer", None)
            self._left = self._stream.read(len(buffer)).encode() if below is None else below.read1(len(buffer))
        part = self._left[: len(buffer)]
        buffer[: len(part)] = part
        self._left = self._left[len(part) :]
        return len(part)
