"""Read new data in chunks of bounded size: tables, arrays and images, from files, folders, globs or standard input."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepsad_pl.common.counting import are
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.image_listing import images_below
from deepsad_pl.data.ragged_rows import RaggedRow
from deepsad_pl.data.table_files import STANDARD_INPUT, column_names, table_chunks
from deepsad_pl.data.table_roles import ARRAYS
from deepsad_pl.detector.inputs import Inputs, Prepared
from deepsad_pl.detector.npz_blocks import npz_blocks, npz_header

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
TABLES = (*_TEXT, ".parquet", *ARRAYS)
# In place of a column of names: the rows have none, and the output has their positions.
NO_IDS = ("none", "null")
# How many numbers a chunk has at most: 32 MB in double precision.
_NUMBERS = 1 << 22
_MOST_ROWS = 1 << 16


@dataclass
class Chunk:
    """Some samples of the input.

    Attributes:
        ids: name of each sample in the output: its position in the whole input, its id or its path.
        names: name of each sample in messages.
        prepared: the samples.
    """

    ids: Sequence[Any]
    names: Sequence[str]
    prepared: Prepared


def rows_at_once(inputs: Inputs) -> int:
    """The number of samples of a chunk."""
    return max(1, min(_MOST_ROWS, _NUMBERS // math.prod(inputs.shape)))


def files_of(words: Sequence[str | Path]) -> list[str]:
    """The files that an input names, each once; globs are expanded, folders are not.

    Raises:
        DeepSADError: for each word that names nothing.
    """
    found: list[str] = []
    problems = []
    for word in map(str, words):
        path = Path(word).expanduser()
        if word == STANDARD_INPUT or path.exists():
            found.append(word if word == STANDARD_INPUT else str(path))
        elif matches := sorted(glob(str(path), recursive=True)):  # noqa: PTH207 (absolute or not)
            found += matches
        else:
            problems.append(f"input: there is no file or folder {word}; correct the path, or give - for standard input")
    if problems:
        raise DeepSADError(*problems)
    return _once(found)


def _once(files: Sequence[str]) -> list[str]:
    """Leave out what is named before, and images in a folder that is named; a folder has no tables or hidden images."""
    places = {file: None if file == STANDARD_INPUT else Path(file).absolute() for file in dict.fromkeys(files)}
    places = {file: place and Path(os.path.normpath(place)) for file, place in places.items()}
    folders = {place for place in places.values() if place is not None and place.is_dir()}
    kept: list[str] = []
    seen: set[Path] = set()
    for file, place in places.items():
        if place is not None:
            below = [place.relative_to(folder) for folder in folders if folder in place.parents]
            is_listed = any(not any(part.startswith(".") for part in path.parts) for path in below)
            if place in seen or (is_listed and not is_table(file)):
                continue
            seen.add(place)
        kept.append(file)
    return kept


def is_table(file: str) -> bool:
    """Whether a file is read as a table or an array, not as an image."""
    return file == STANDARD_INPUT or file.lower().endswith(TABLES)


def input_problems(
    files: Sequence[str], inputs: Inputs, *, id_column: str | None, drop: Sequence[str], needs_ids: bool = False
) -> list[str]:
    """Reasons why the input cannot be scored, found before any row: wrong columns, files of the wrong kind.

    Args:
        files: as :func:`files_of` returns them.
        inputs: raw input that the detector takes.
        id_column: column with the name of each row, or one of :data:`NO_IDS`.
        drop: columns to leave out.
        needs_ids: whether a table without the training table's column of names is a problem.
    """
    problems = []
    if id_column is not None or drop:
        named = [*(["id"] if id_column is not None else []), *(["drop"] if drop else [])]
        if not any(is_table(file) and not file.lower().endswith(ARRAYS) for file in files):
            what = "is an array without named columns" if is_table(files[0]) else "holds images"
            problems.append(
                f"{' and '.join(named)} {are(len(named))} set for the columns of a table, but {files[0]} {what}; "
                f"leave {'it' if len(named) == 1 else 'them'} out"
            )
    names_in: dict[bool, str] = {}
    for file in files:
        if not is_table(file):
            if not inputs.are_image_files:
                kind = "a folder" if Path(file).is_dir() else "not a table"
                problems.append(
                    f"input: {file} is {kind}, but the detector scores {inputs.described()}; give "
                    f"{'a table (.csv, .parquet) or ' if inputs.are_rows else ''}X in a .npz file"
                )
        elif file != STANDARD_INPUT and not file.lower().endswith(ARRAYS):
            try:
                names = column_names(Path(file))
            except DeepSADError as error:
                problems += error.problems
            else:
                found = _column_problems(names, inputs, id_column, drop, needs_ids)
                problems += [f"input: {file}: {one}" for one in found]
                names_in.setdefault(_id_of(names, inputs, id_column) is not None, file)
        elif file.lower().endswith(".npz"):
            try:
                with _told(Path(file)):
                    shape, dtype = npz_header(Path(file), "X")
            except DeepSADError as error:
                problems += error.problems
            else:
                problems += [f"input: {file}: {one}" for one in inputs.array_problems(shape, dtype)]
        if file.lower().endswith(ARRAYS):
            names_in.setdefault(False, file)
    if not problems and len(names_in) == 2:
        problems.append(
            f"input: {names_in[True]} has a column with the names of its rows, but {names_in[False]} has none; score "
            "them one after the other, or number all rows with id=none"
        )
    return problems


def chunks_of(
    words: Sequence[str | Path],
    inputs: Inputs,
    *,
    id_column: str | None = None,
    drop: Sequence[str] = (),
    needs_ids: bool = False,
) -> Iterator[Chunk]:
    """Read the input in chunks, in its order, with bounded memory; a ``.mat`` file is read whole.

    Args:
        words: files, folders, globs, or ``-`` for CSV on standard input.
        inputs: what the detector takes.
        id_column: column with the name of each row; None: that of the training table, or else ``id``, if there is such
            a column that the detector does not use; positions otherwise, or with one of :data:`NO_IDS`.
        drop: columns to leave out.
        needs_ids: whether a table without the training table's column of names is an error.

    Raises:
        DeepSADError: if a file is missing or cannot be read, or its columns are wrong.
    """
    files = files_of(words)
    if problems := input_problems(files, inputs, id_column=id_column, drop=drop, needs_ids=needs_ids):
        raise DeepSADError(*problems)
    first = 0
    for file in files:
        if not is_table(file):
            yield from _image_chunks(file, inputs)
            continue
        shown = "standard input" if file == STANDARD_INPUT else file
        for position, ids, prepared in _table_chunks(file, inputs, id_column, drop, needs_ids):
            n = len(prepared.x)
            rows = range(position, position + n)
            named = [f"row {row} of {shown}" for row in rows]
            if ids is not None:
                named = [f"{one} (id {name})" for one, name in zip(named, ids, strict=True)]
            yield Chunk(list(range(first, first + n)) if ids is None else ids, named, prepared)
            first += n


def _table_chunks(
    file: str, inputs: Inputs, id_column: str | None, drop: Sequence[str], needs_ids: bool
) -> Iterator[tuple[int, list[Any] | None, Prepared]]:
    """The position of each chunk's first row, the ids of its rows, and the prepared rows."""
    if file.lower().endswith(ARRAYS):
        first = 0
        for x in _array_blocks(Path(file), rows_at_once(inputs)):
            yield first, None, inputs.from_array(x)
            first += len(x)
        return
    first = 0
    text = [*inputs.text, id_column or inputs.id_column or "id"]
    ragged: dict[int, RaggedRow] = {}
    for frame in table_chunks(file, rows_at_once(inputs), text=text, ragged=ragged):
        names = list(map(str, frame.columns))
        if file == STANDARD_INPUT and first == 0:
            problems = _column_problems(names, inputs, id_column, drop, needs_ids)
            if problems:
                raise DeepSADError(*(f"input: standard input: {problem}" for problem in problems))
        chosen = _id_of(names, inputs, id_column)
        ids = None if chosen is None else frame[chosen].astype(object).where(frame[chosen].notna(), "").tolist()
        frame = frame.drop(columns=_others(names, chosen, drop))
        # Only those up to here: the table is read ahead.
        wrong = {row - first: ragged.pop(row) for row in sorted(ragged) if row < first + len(frame)}
        if not wrong:
            yield first, ids, inputs.from_frame(frame)
        else:
            if ids is not None:
                place = names.index(str(chosen))
                ids = [wrong[i].cell(place) if i in wrong else name for i, name in enumerate(ids)]
            yield first, ids, _without(wrong, frame, inputs)
        first += len(frame)


def _without(wrong: Mapping[int, RaggedRow], frame: "pd.DataFrame", inputs: Inputs) -> Prepared:
    """Prepare the rows of a table, of which some cannot be scored regardless of their cells."""
    right = np.setdiff1d(np.arange(len(frame)), list(wrong))
    found = inputs.from_frame(frame.iloc[right])
    x = np.zeros((len(frame), *found.x.shape[1:]), found.x.dtype)
    x[right] = found.x
    problems = {int(right[row]): told for row, told in found.problems.items()}
    return Prepared(x, problems | {row: one.told() for row, one in wrong.items()}, found.unusual)


def _column_problems(
    names: Sequence[str], inputs: Inputs, id_column: str | None, drop: Sequence[str], needs_ids: bool
) -> list[str]:
    if inputs.are_rows and names and all(map(_is_number, names)) and not {*names} & {*(inputs.columns or ())}:
        return [
            f"its first line holds the numbers {', '.join(names[:3])}, ...; add a line with the names of the columns"
        ]
    problems = []
    for key, name in _asked(id_column, drop):
        if name not in names:
            problems.append(f"it has no column {name!r}; {suggested(name, names) or f'correct {key}'}")
        elif name in (inputs.columns or ()):
            problems.append(f"{key} names the column {name!r}, which the detector needs; give another one")
    if problems:
        return problems
    chosen = _id_of(names, inputs, id_column)
    if needs_ids and id_column is None and chosen is None and inputs.id_column is not None:
        others = [name for name in names if name not in (inputs.columns or ())]
        guess = f"{suggested(inputs.id_column, others)} Give" if suggested(inputs.id_column, others) else "give"
        problems.append(
            f"it lacks the column {inputs.id_column!r}, which had the names of the training rows (dataset.id); {guess} "
            f"id=<column>, or id={NO_IDS[0]} to number the rows from 0"
        )
    kept = [name for name in names if name not in _others(names, chosen, drop)]
    wrong = inputs.column_problems(kept)
    # A table that has none of the columns lacks this one for the same reason.
    return wrong if inputs.columns and not {*inputs.columns} & {*kept} else problems + wrong


def _asked(id_column: str | None, drop: Sequence[str]) -> list[tuple[str, str]]:
    of_id = [] if id_column is None or id_column in NO_IDS else [("id", id_column)]
    return [*of_id, *(("drop", name) for name in drop)]


def _id_of(names: Sequence[str], inputs: Inputs, id_column: str | None) -> str | None:
    if id_column is not None:
        return None if id_column in NO_IDS else id_column
    usual = [inputs.id_column] if inputs.id_column is not None else ["id"]
    return next((name for name in usual if name in names and name not in (inputs.columns or ())), None)


def _others(names: Sequence[str], id_column: str | None, drop: Sequence[str]) -> list[str]:
    return [name for name in names if name in drop or name == id_column]


def _image_chunks(file: str, inputs: Inputs) -> Iterator[Chunk]:
    paths = [Path(file)]
    if paths[0].is_dir():
        paths = images_below(Path(file))
        if not paths:
            raise DeepSADError(f"input: the folder {file} holds no image; give a folder of images")
    # Few enough that progress is visible.
    step = min(256, rows_at_once(inputs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(paths), step):
            part = paths[first : first + step]
            prepared = Prepared(np.zeros((len(part), *inputs.shape), np.uint8))
            for place, found in enumerate(pool.map(lambda path: _decoded(path, inputs), part)):
                if isinstance(found, str):
                    prepared.problems[place] = found
                else:
                    prepared.x[place] = found
            names = list(map(str, part))
            yield Chunk(names, names, prepared)


def _decoded(path: Path, inputs: Inputs) -> Any:
    try:
        return inputs.from_image(path)
    except DeepSADError as error:
        return str(error).removeprefix(f"{path} ")


def _array_blocks(path: Path, rows: int) -> Iterator[Any]:
    """X in blocks of rows; at least one block, so that an array without rows is checked too."""
    with _told(path):
        if path.suffix.lower() == ".npz":
            yield from npz_blocks(path, "X", rows)
            return
        from scipy.io import loadmat

        x = loadmat(str(path), variable_names=["X"])["X"]
        for first in range(0, max(1, len(x)), rows):
            yield x[first : first + rows]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the errors of array readers about a wrong file into one sentence with its name."""
    try:
        yield
    except (DeepSADError, MemoryError):
        raise
    except KeyError as error:
        raise DeepSADError(f"input: {path} has no array X ({error}); save the samples as X") from error
    except Exception as error:  # each reader raises its own kinds of errors for damaged files
        raise _unreadable(str(path), error) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unreadable(file: str, error: Exception) -> DeepSADError:
    said = str(error).strip().partition("\n")[0].rstrip(".")
    shown = "standard input" if file == STANDARD_INPUT else file
    return DeepSADError(f"input: {shown} cannot be read ({type(error).__name__}: {said}); repair it")
