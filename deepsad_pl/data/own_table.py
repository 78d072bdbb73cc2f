"""``dataset=table``: a table of one's own, with labels, truth and names of the rows in columns of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Share
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.marks import semi_labels, truths
from deepsad_pl.data.sources import Source, split_rows
from deepsad_pl.data.table_columns import TableColumns
from deepsad_pl.data.table_files import column_names, read_table

Settings = Mapping[str, Any]
IntArray = npt.NDArray[np.int64]

# The settings that name a column.
_ROLES = ("label", "truth", "id")
# Rows shown in a message.
_SHOWN = 5


def own_table(
    path: Any,
    *,
    given: bool,
    seed: int,
    label: str | None = None,
    normal: Sequence[str] = (),
    anomaly: Sequence[str] = (),
    truth: str | None = None,
    test_path: Any = None,
    train_share: Share = 0.6,
    id: str | None = None,
    drop: Sequence[str] = (),
    scaling: Literal["zscore", "minmax"] = "zscore",
) -> Source:
    """Read a table, tell its labels, split it and encode its columns.

    Test rows are those of ``test_path``, or else a stratified part of the rows if there is truth, or else all rows.

    Args:
        path: file or list of files, see :func:`~deepsad_pl.data.table_files.read_table`.
        given: whether the labels are used as they are (``scenario=given``); otherwise they are the classes from which
            a scenario draws.
        seed: seed of the split.
        label: column with the labels; None: no row is labeled.
        normal: labels that mean known normal, see :func:`~deepsad_pl.data.marks.semi_labels`.
        anomaly: labels that mean known anomaly.
        truth: column with the truth of test rows, see :func:`~deepsad_pl.data.marks.truths`; it may be ``label``.
        test_path: file or list of files with the test rows.
        train_share: share of the rows that train if they are split.
        id: column with the names of the rows.
        drop: columns that are not used.
        scaling: see :class:`~deepsad_pl.data.scaling.Scaling`.

    Raises:
        DeepSADError: if a file cannot be read, or a column cannot be used; names every such column.
    """
    roles = {"label": label, "truth": truth, "id": id}
    frame = _read(path, roles, drop)
    tested = None if test_path is None else _read(test_path, roles, drop, optional=("label", "truth"))
    if given:
        semi_y = np.zeros(len(frame), np.int64)
        if label is not None:
            semi_y = semi_labels(_texts(frame, label), normal, anomaly, key=f"dataset.label={label}")
        train, test, y = _given_split(frame, tested, roles, (normal, anomaly), train_share, seed)
        semi_y = semi_y[train]
        labels_train = (semi_y == -1).astype(np.int64)
    else:
        train, test, labels_train, y = _class_split(frame, tested, label, train_share, seed)
        semi_y = None
    rows = frame if tested is None else tested
    names = [name for name in map(str, frame) if name not in (others := {*roles.values(), *drop})]
    if tested is not None and (problems := list(_other_columns(names, tested, others))):
        raise DeepSADError(*problems)
    x = frame[names].iloc[train]
    same = rows is frame and np.array_equal(train, test)
    ids = None
    if id is not None:
        ids_train = np.array(_texts(frame, id))[train]
        ids = ids_train, ids_train if same else np.array(_texts(rows, id))[test]
    return encoded_source(x, labels_train, x if same else rows[names].iloc[test], y, semi_y, ids, id, scaling)


def encoded_source(
    train: pd.DataFrame,
    labels_train: IntArray,
    test: pd.DataFrame,
    y: IntArray,
    semi_y: IntArray | None,
    ids: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None,
    id_column: str | None,
    scaling: Literal["zscore", "minmax"],
    kept: IntArray | None = None,
    *,
    all_numbers: bool = False,
) -> Source:
    """Encode training and test rows by what the training rows say, or those of them that are kept.

    Args:
        train: training rows, features alone, N of them.
        labels_train: 1 for known anomalies, else 0, or the class, shape (N,).
        test: test rows with the same columns, M of them; ``train`` itself if these are the same.
        y: truth or class of the test rows, shape (M,).
        semi_y: semi-labels of the training rows, shape (N,); None: there are none.
        ids: names of the test rows, shape (M,); None: they have none.
        id_column: the column of the names.
        scaling: see :class:`~deepsad_pl.data.scaling.Scaling`.
        kept: positions of the training rows that are learned from; None: all.
        all_numbers: see :meth:`~deepsad_pl.data.table_columns.TableColumns.fit`.

    Raises:
        DeepSADError: if a column cannot be learned from, or a cell is no number where one is needed.
    """
    learned_from = train if kept is None else train.iloc[kept]
    columns = TableColumns.fit(learned_from, scaling=scaling, all_numbers=all_numbers)
    x_train = _readable(columns, train, "training")
    x_test = x_train if test is train else _readable(columns, test, "test")
    refit = partial(
        encoded_source, train, labels_train, test, y, semi_y, ids, id_column, scaling, all_numbers=all_numbers
    )
    return Source(
        x_train,
        labels_train,
        x_test,
        y,
        None,
        semi_y,
        ids_train=None if ids is None else ids[0],
        ids_test=None if ids is None else ids[1],
        columns=tuple(columns.names),
        preparation=columns,
        id_column=id_column,
        refit=refit,
    )


def _readable(columns: TableColumns, frame: pd.DataFrame, what: str) -> npt.NDArray[np.float32]:
    found = columns.transform(frame)
    if found.unreadable:
        shown = "; ".join(f"row {row + 1}, column {name}: {text!r}" for row, name, text in found.unreadable[:_SHOWN])
        raise DeepSADError(
            f"{counted(len(found.unreadable), f'{what} row has', f'{what} rows have')} text in a column of numbers "
            f"({shown}); correct or remove these rows, or drop the column with dataset.drop"
        )
    return found.x


def _given_split(
    frame: pd.DataFrame,
    tested: pd.DataFrame | None,
    roles: Mapping[str, str | None],
    names: tuple[Sequence[str], Sequence[str]],
    train_share: float,
    seed: int,
) -> tuple[IntArray, IntArray, IntArray]:
    """Positions of the training rows and of the test rows, and the truth of the latter."""
    label, truth = roles["label"], roles["truth"]
    every, normal, anomaly = np.arange(len(frame)), *names
    if tested is not None and (truth is None or truth not in tested):
        return every, np.arange(len(tested)), np.full(len(tested), -1)
    if truth is None:
        return every, every, np.full(len(frame), -1)
    key, strict = f"dataset.truth={truth}", truth == label
    if tested is not None:
        return every, np.arange(len(tested)), truths(_texts(tested, truth), normal, anomaly, key=key, strict=strict)
    y = truths(_texts(frame, truth), normal, anomaly, key=key, strict=strict)
    train, test = split_rows(y, seed, train_share)
    return train, test, y[test]


def _class_split(
    frame: pd.DataFrame, tested: pd.DataFrame | None, label: str | None, train_share: float, seed: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Positions of the training rows and of the test rows, and the class of each."""
    assert label is not None
    texts, more = _texts(frame, label), [] if tested is None else _texts(tested, label)
    places = {name: place for place, name in enumerate(_classes([*texts, *more]))}
    labels = np.array([places[name] for name in texts], np.int64)
    if tested is not None:
        return (
            np.arange(len(frame)),
            np.arange(len(tested)),
            labels,
            np.array([places[name] for name in more], np.int64),
        )
    train, test = split_rows(labels, seed, train_share)
    return train, test, labels[train], labels[test]


def _read(
    path: Any, roles: Mapping[str, str | None], drop: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    frame = read_table(_paths(path), text=[name for name in roles.values() if name is not None])
    needed = {role: name for role, name in roles.items() if role not in optional}
    if problems := list(_column_problems(list(map(str, frame)), needed, drop)):
        raise DeepSADError(*problems)
    if len(frame) == 0:
        raise DeepSADError(f"{_paths(path)[0]} has no rows")
    return frame


def _paths(path: Any) -> list[Path]:
    return [Path(one).expanduser() for one in (path if isinstance(path, list | tuple) else [path])]


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    """The cells of a column as text; empty where there are none."""
    texts: list[str] = frame[name].fillna("").astype(str).str.strip().map(composed).tolist()
    return texts


def _classes(texts: Sequence[str]) -> list[str]:
    return sorted(set(texts))


def class_names(dataset: Settings) -> list[str]:
    """The classes of a table, which are the labels that occur in it, in sorted order.

    Raises:
        DeepSADError: if no column has labels, or a row has none.
    """
    label = dataset["label"]
    if label is None:
        raise DeepSADError("a scenario draws from classes; name the column that has them: dataset.label=...")
    paths = [*_paths(dataset["path"]), *([] if dataset["test_path"] is None else _paths(dataset["test_path"]))]
    names = _classes(_texts(read_table(paths, columns=[label], text=[label]), label))
    if "" in names:
        raise DeepSADError(
            f"some rows have no class in the column {label}; fill them in, or use scenario=given, where they are "
            "unlabeled"
        )
    return names


def column_count(dataset: Settings) -> int:
    """The number of columns of a table that are used.

    Raises:
        DeepSADError: if the file cannot be read.
    """
    others = {*(dataset[role] for role in _ROLES), *dataset["drop"]}
    return len([name for name in column_names(_paths(dataset["path"])[0]) if name not in others])


def table_problems(dataset: Settings) -> Iterator[str]:
    """Yield a sentence for each problem with the settings of a table: files that do not exist, wrong columns."""
    for key in ("path", "test_path"):
        value = dataset[key]
        if value is not None and not _paths(value):
            yield f"dataset.{key} is an empty list; name at least one file"
        for path in [] if value is None else _paths(value):
            if not path.is_file():
                yield f"dataset.{key} is {path}, which is not a file; give a CSV, TSV, Parquet, .npz or .mat file"
    paths = _paths(dataset["path"])
    if not paths or not paths[0].is_file():
        return
    try:
        found = column_names(paths[0])
    except DeepSADError as error:
        yield from error.problems
        return
    optional = ("truth",) if dataset["test_path"] is not None else ()
    roles = {role: dataset[role] for role in _ROLES if role not in optional}
    yield from _column_problems(found, roles, dataset["drop"])


def _other_columns(names: Sequence[str], tested: pd.DataFrame, others: Collection[str | None]) -> Iterator[str]:
    """Yield a sentence for each column that the test rows lack, or have besides those of the training rows."""
    found = list(map(str, tested))
    for name in names:
        if name not in found:
            way_out = suggested(name, found) or "add it"
            yield f"dataset.test_path has no column {name!r}, which the training rows have; {way_out}"
    for name in found:
        if name not in names and name not in others:
            yield f"dataset.test_path has a column {name!r}, which the training rows do not have; remove it"


def _column_problems(found: Sequence[str], roles: Mapping[str, str | None], drop: Sequence[str]) -> Iterator[str]:
    for key, name in [*roles.items(), *(("drop", name) for name in drop)]:
        if name is not None and name not in found:
            way_out = suggested(name, found) or f"the columns are {', '.join(found[:20])}"
            yield f"dataset.{key} names the column {name!r}, which the table does not have; {way_out}"
    if not [name for name in found if name not in {*roles.values(), *drop}]:
        yield "no column is left to learn from; leave some out of dataset.drop"
