"""``dataset=table``: a table of your own, which may have columns with labels, truth and names of the rows."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.named_files import files_named
from deepsad_pl.common.ranges import Paths, Share
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.column_notes import (
    columns_told,
    mostly_empty,
    names_warning,
    nearly_numbers,
    truth_told,
    unseen_told,
)
from deepsad_pl.data.image_folder import once
from deepsad_pl.data.label_files import LABEL, ROW, Answers, read_answers, spellings
from deepsad_pl.data.marks import all_labeled, semi_labels, spelled, truths
from deepsad_pl.data.sources import Source, split_rows
from deepsad_pl.data.table_cells import MISSING_WORDS, are_booleans
from deepsad_pl.data.table_columns import Encoded, TableColumns
from deepsad_pl.data.table_files import column_names, read_table
from deepsad_pl.data.table_roles import Header, arrays_in, column_problems, features

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]
IntArray = npt.NDArray[np.int64]

# The settings that name a column.
_ROLES = ("label", "truth", "id")
# The largest number of rows that a message shows.
_SHOWN = 5


def own_table(
    path: Paths,
    *,
    given: bool,
    seed: int,
    label: str | None = None,
    normal: Sequence[str] = (),
    anomaly: Sequence[str] = (),
    truth: str | None = None,
    test_path: Paths | None = None,
    train_share: Share = 0.6,
    id: str | None = None,
    drop: Sequence[str] = (),
    labels: Paths | None = None,
    scaling: Literal["zscore", "minmax"] = "zscore",
) -> Source:
    """Read a table and its labels, split its rows and encode its columns.

    Test rows are those of ``test_path``. Without it, a part of the rows is split off, stratified by truth or class;
    with neither truth nor classes, all rows are test rows, too.

    Args:
        path: file, glob or list of them (:func:`~deepsad_pl.common.named_files.files_named`), in a format of
            :func:`~deepsad_pl.data.table_files.read_table`.
        given: whether the labels are used as they are (``scenario=given``); otherwise they are the classes from which
            a scenario draws.
        seed: seed of the split.
        label: column with the labels; None: no row is labeled.
        normal: labels that mean known normal, see :func:`~deepsad_pl.data.marks.semi_labels`.
        anomaly: labels that mean known anomaly.
        truth: column with the truth of test rows, see :func:`~deepsad_pl.data.marks.truths`; it may be ``label``.
        test_path: file, glob or list of them, with the test rows.
        train_share: share of training rows if the rows are split.
        id: column with the names of the rows.
        drop: columns that are not used.
        labels: file, glob or list of them, with labels that were filled in later and override those of the table
            (:mod:`~deepsad_pl.data.label_files`). Their rows are matched by ``id`` or, without it, by position.
        scaling: see :class:`~deepsad_pl.data.scaling.Scaling`.

    Raises:
        DeepSADError: if a file is named twice or cannot be read, or a column cannot be used; names every such file or
            column.
    """
    roles = {"label": label, "truth": truth, "id": id}
    if problems := list(_repeated({"path": path, "test_path": test_path})):
        raise DeepSADError(*problems)
    frame, tested = _read_both(path, test_path, roles, drop)
    headers = _header(path, frame), None if tested is None else _header(test_path, tested)
    if problems := list(column_problems(*headers, roles, drop, given=given)):
        raise DeepSADError(*problems)
    semi_y: IntArray | None = None
    before: IntArray | None = None
    if given:
        marks = [""] * len(frame) if label is None else _texts(frame, label)
        answers = None
        if labels is not None:
            answers = _answers(labels, marks, None if id is None else _texts(frame, id), roles, (normal, anomaly))
        rows = frame if tested is None else tested
        true = [] if truth is None else _texts(rows, truth)
        of_table, of_all = _semi_labels(marks, answers, label, (normal, anomaly), true)
        train, test, y = _given_split(frame, tested, roles, (normal, anomaly), train_share, seed)
        before, semi_y = of_table[train], of_all[train]
        labels_train = (semi_y == -1).astype(np.int64)
        if answers is not None:
            how = id if id is not None else "the position of the row, since dataset.id is not set"
            used = np.isin(answers.rows, train).sum()
            log.info("dataset.labels: %d labels of training rows, matched by %s", used, how)
    else:
        train, test, labels_train, y = _class_split(frame, tested, label, train_share, seed)
    rows = frame if tested is None else tested
    names = features(headers[0].columns, roles, drop)
    x = frame[names].iloc[train]
    same = rows is frame and np.array_equal(train, test)
    facts: dict[str, Any] = {"semi_y_train": semi_y, "semi_y_before": before, "rows_train": train, "id_column": id}
    if (
        given
        and truth is None
        and label is not None
        and label in rows
        and all_labeled(_texts(rows, label), normal, anomaly)
    ):
        facts["told"] = (truth_told(label),)
    if id is not None:
        ids = _texts(frame, id)
        ids_tested = ids if tested is None else _texts(tested, id)
        ids_train = np.array(ids)[train]
        facts |= {"ids_train": ids_train, "ids_test": ids_train if same else np.array(ids_tested)[test]}
        tables = {headers[0].file: ids} | ({} if headers[1] is None else {headers[1].file: ids_tested})
        facts["warned"] = tuple(filter(None, (names_warning(file, id, names) for file, names in tables.items())))
    unused: dict[str, list[str]] = {}
    for use, name in [*((role, name) for role, name in roles.items()), *(("drop", name) for name in drop)]:
        if name is not None:
            unused.setdefault(name, []).append(use)
    return encoded_source(x, labels_train, x if same else rows[names].iloc[test], y, facts, scaling, unused=unused)


def encoded_source(
    train: pd.DataFrame,
    labels_train: IntArray,
    test: pd.DataFrame,
    y: IntArray,
    facts: Mapping[str, Any],
    scaling: Literal["zscore", "minmax"],
    kept: IntArray | None = None,
    *,
    all_numbers: bool = False,
    unused: Mapping[str, Sequence[str]] | None = None,
) -> Source:
    """Learn an encoding from training rows, and encode training and test rows with it.

    Args:
        train: the N training rows, only their features.
        labels_train: 1 for known anomalies and 0 for other rows, or the class of each row, shape (N,).
        test: the M test rows, with the same columns; ``train`` itself if these are the same rows.
        y: truth or class of the test rows, shape (M,).
        facts: other attributes of the source: labels and names of the rows.
        scaling: see :class:`~deepsad_pl.data.scaling.Scaling`.
        kept: positions of the training rows that are learned from; None: all.
        all_numbers: see :meth:`~deepsad_pl.data.table_columns.TableColumns.fit`.
        unused: columns that are not learned from, see :func:`~deepsad_pl.data.column_notes.columns_told`; None: no
            notes about columns are made.

    Raises:
        DeepSADError: if a column cannot be learned from, or a cell is not a number or boolean where one is needed.
    """
    learned_from = train if kept is None else train.iloc[kept]
    named = facts.get("id_column") is not None
    columns = TableColumns.fit(learned_from, scaling=scaling, all_numbers=all_numbers, named=named)
    of_train = _readable(columns, train, "training")
    of_test = of_train if test is train else _readable(columns, test, "test")
    refit = partial(
        encoded_source, train, labels_train, test, y, facts, scaling, all_numbers=all_numbers, unused=unused
    )
    notes: dict[str, Any] = {}
    if unused is not None:
        notes["told"] = (columns_told(columns.columns, unused), *facts.get("told", ()))
        notes["warned"] = (
            *mostly_empty(learned_from, columns.columns),
            *nearly_numbers(learned_from, columns.columns),
            *(() if of_test is of_train else unseen_told(of_test.unknown, of_test.missing)),
            *facts.get("warned", ()),
        )
    return Source(
        of_train.x,
        labels_train,
        of_test.x,
        y,
        None,
        columns=tuple(columns.names),
        preparation=columns,
        refit=refit,
        **{**facts, **notes},
    )


def _answers(
    labels: Any,
    marks: Sequence[str],
    ids: Sequence[str] | None,
    roles: Mapping[str, str | None],
    names: tuple[Sequence[str], Sequence[str]],
) -> Answers:
    """The labels that were filled in later, with the positions of their rows in the table."""
    label, id = roles["label"] or LABEL, roles["id"]
    # If no labels are named, they have to be -1, 0 and +1, which _semi_labels checks.
    allowed = [*map(spelled, spellings([*names[0], *names[1]], marks))] if names[0] or names[1] else None
    by = (ROW,) if id is None else (id, "id")
    of_rows = list(map(str, range(len(marks)))) if ids is None else ids
    return read_answers(labels, of_rows, by=by, label=label, allowed=allowed, what="row", mark_of=spelled)


def _semi_labels(
    marks: Sequence[str],
    answers: Answers | None,
    label: str | None,
    names: tuple[Sequence[str], Sequence[str]],
    true: Sequence[str],
) -> tuple[IntArray, IntArray]:
    """The semi-labels without and with the labels that were filled in later, shape (N,) each.

    A named label may occur in the truth alone, and if the table itself has no label, it need not occur: the answers to
    the first questions may be of one kind.
    """
    given = () if answers is None else answers.marks
    if label is None and not given:
        unlabeled = np.zeros(len(marks), np.int64)
        return unlabeled, unlabeled
    # All labels are read together, since one that was filled in may not occur in the table yet.
    key = "dataset.labels" if label is None else f"dataset.label={label}"
    found = semi_labels([*marks, *given], *names, key=key, others=true, one_kind=bool(given) and not any(marks))
    before = found[: len(marks)]
    after = before.copy()
    if answers is not None:
        after[answers.rows] = found[len(marks) :]
    return before, after


def _readable(columns: TableColumns, frame: pd.DataFrame, what: str) -> Encoded:
    found = columns.transform(frame)
    if found.unreadable:
        rows = counted(len({cell.row for cell in found.unreadable}), f"{what} row")
        shown = "; ".join(f"row {frame.index[cell.row]}: {cell.told}" for cell in found.unreadable[:_SHOWN])
        raise DeepSADError(
            f"{rows} cannot be read ({shown}; rows are counted from 0); correct or remove these rows, or drop the "
            "column with dataset.drop"
        )
    return found


def _given_split(
    frame: pd.DataFrame,
    tested: pd.DataFrame | None,
    roles: Mapping[str, str | None],
    names: tuple[Sequence[str], Sequence[str]],
    train_share: float,
    seed: int,
) -> tuple[IntArray, IntArray, IntArray]:
    """Positions of the training rows and of the test rows, and the truth of the test rows."""
    label, truth = roles["label"], roles["truth"]
    every, normal, anomaly = np.arange(len(frame)), *names
    if truth is None:
        rows = len(frame if tested is None else tested)
        return every, np.arange(rows), np.full(rows, -1)
    meant = partial(truths, normal=normal, anomaly=anomaly, key=f"dataset.truth={truth}", strict=truth == label)
    if label is not None:
        meant = partial(meant, labels=_texts(frame, label), label=f"dataset.label={label}")
    if tested is not None:
        return every, np.arange(len(tested)), meant(_texts(tested, truth))
    y = meant(_texts(frame, truth))
    train, test = split_rows(y, seed, train_share)
    return train, test, y[test]


def _class_split(
    frame: pd.DataFrame, tested: pd.DataFrame | None, label: str | None, train_share: float, seed: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Positions of the training rows and of the test rows, and the class of each."""
    assert label is not None
    texts, more = ([] if rows is None else [spelled(text) for text in _texts(rows, label)] for rows in (frame, tested))
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


def _read_both(
    path: Any, test_path: Any, roles: Mapping[str, str | None], drop: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The table and, if there are any, the test rows, with the spelling of a text such as 01 in both."""
    named = [name for name in roles.values() if name is not None]
    frame = read_table(files_named(path), text=named)
    if test_path is None:
        return frame, None
    tested = read_table(files_named(test_path), text=named)
    used = features(list(map(str, tested)), roles, drop)
    text = [name for name in used if _holds_categories(frame, name) and not _is_text(tested, name)]
    return frame, read_table(files_named(test_path), text=[*named, *text]) if text else tested


def _is_text(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and isinstance(frame[name].dtype, pd.StringDtype)


def _holds_categories(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column has text other than the words for booleans, which test rows may have as 0 and 1."""
    return _is_text(frame, name) and not are_booleans(set(frame[name].dropna().unique()) - {*MISSING_WORDS})


def _header(path: Any, frame: pd.DataFrame) -> Header:
    files = files_named(path)
    return Header(str(files[0]), list(map(str, frame)), arrays_in(files))


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    """The cells of a column as text; empty where there are none."""
    texts: list[str] = frame[name].fillna("").astype(str).str.strip().map(composed).tolist()
    return texts


def _classes(texts: Sequence[str]) -> list[str]:
    return sorted(set(map(spelled, texts)))


def class_names(dataset: Settings) -> list[str]:
    """The classes of a table, which are the labels that occur in it, in sorted order.

    Raises:
        DeepSADError: if no column has labels, or a row has none.
    """
    label = dataset["label"]
    if label is None:
        raise DeepSADError("a scenario draws from classes; name the column that has them: dataset.label=...")
    paths = [*files_named(dataset["path"]), *files_named(dataset["test_path"])]
    names = _classes(_texts(read_table(paths, columns=[label], text=[label]), label))
    for _, alike in groupby(sorted(names, key=lambda name: (name.casefold(), name)), key=str.casefold):
        if len(same := list(alike)) > 1:
            raise DeepSADError(
                f"the column {label} has the classes {' and '.join(map(repr, same))}, which differ only in case; "
                "correct the table, or give the classes different names"
            )
    if "" in names:
        raise DeepSADError(
            f"some rows have no class in the column {label}; fill them in, or use scenario=given, where they are "
            "unlabeled"
        )
    return names


def column_count(dataset: Settings) -> int:
    """The number of columns of a table that are used.

    Raises:
        DeepSADError: if no file is named, or it cannot be read.
    """
    files = files_named(dataset["path"])
    if not files:
        raise DeepSADError("dataset.path is an empty list; name at least one file")
    columns = column_names(files[0])
    return len(features(columns, {role: dataset[role] for role in _ROLES}, dataset["drop"]))


def table_problems(dataset: Settings, *, given: bool = True) -> Iterator[str]:
    """Yield a sentence for each problem with the settings of a table: files that do not exist, wrong columns or labels.

    Args:
        dataset: settings of the data set.
        given: whether the labels are used as they are (``scenario=given``).
    """
    labels = dataset.get("labels")
    if labels is not None and not given:
        yield "dataset.labels holds labels, which only scenario=given uses; choose it, or leave dataset.labels out"
    if not given:
        # A study takes its normal classes from dataset.normal.
        for key in ("anomaly", "truth"):
            if dataset[key]:
                yield (
                    f"dataset.{key} is {dataset[key]}, which only scenario=given uses; choose it, or leave "
                    f"dataset.{key} out and choose among the classes, the values of dataset.label, with "
                    "scenario.normal_class and scenario.anomaly_class"
                )
    if labels is not None and not files_named(labels):
        yield "dataset.labels is an empty list; name at least one file, or leave it out"
    for key in ("path", "test_path"):
        value = dataset[key]
        if value is not None and not files_named(value):
            yield f"dataset.{key} is an empty list; name at least one file"
        for path in files_named(value):
            if not path.is_file():
                what = "names no file" if any(sign in str(path) for sign in "*?") else "is not a file"
                yield f"dataset.{key} is {path}, which {what}; give a CSV, TSV, Parquet, .npz or .mat file"
    yield from _repeated({key: dataset[key] for key in ("path", "test_path")})
    headers: list[Header] = []
    unread: list[str] = []
    for files in (files_named(dataset[key]) for key in ("path", "test_path") if dataset[key] is not None):
        if not files or not files[0].is_file():
            return
        try:
            headers.append(Header(str(files[0]), column_names(files[0]), arrays_in(files)))
        except DeepSADError as error:
            unread += error.problems
    if unread:
        yield from unread
        return
    roles = {role: dataset[role] for role in _ROLES}
    trained, tested = headers[0], headers[1] if len(headers) > 1 else None
    problems = list(column_problems(trained, tested, roles, dataset["drop"], given=given))
    yield from problems
    if not problems and given and labels is not None and files_named(labels):
        keys = ("path", "test_path", "label", "truth", "id", "normal", "anomaly", "labels")
        asked = {key: dataset[key] for key in keys}
        yield from once(("answers", repr(asked)), lambda: _answer_problems(asked))


def _repeated(tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each file that is named more than once, since its rows would count several times."""
    places: dict[Path, list[str]] = {}
    for key, files in tables.items():
        for path in files_named(files):
            places.setdefault(path.resolve(), []).append(key)
    for path, keys in places.items():
        if len({*keys}) > 1:
            yield (
                f"{path} is a file of dataset.path and of dataset.test_path, so its rows would be training and test "
                "rows; leave it out of one, or leave dataset.test_path out to split the rows"
            )
        elif len(keys) > 1:
            yield f"dataset.{keys[0]} names {path} {len(keys)} times, so its rows would count as often; name it once"


def _answer_problems(dataset: Settings) -> list[str]:
    """A sentence for each problem with labels that were filled in later."""
    roles, names = {"label": dataset["label"], "id": dataset["id"]}, (dataset["normal"], dataset["anomaly"])
    # Without a column of labels or names, some other column is read to count the rows.
    columns = [name for name in roles.values() if name is not None] or column_names(files_named(dataset["path"])[0])[:1]
    try:
        frame = read_table(files_named(dataset["path"]), columns=columns, text=columns)
        texts = {role: None if name is None else _texts(frame, name) for role, name in roles.items()}
        marks = texts["label"] or [""] * len(frame)
        answers = _answers(dataset["labels"], marks, texts["id"], roles, names)
        truth, paths = dataset["truth"], files_named(dataset["test_path"] or dataset["path"])
        true = [] if truth is None else _texts(read_table(paths, columns=[truth], text=[truth]), truth)
        _semi_labels(marks, answers, dataset["label"], names, true)
    except DeepSADError as error:
        return error.problems
    return []
