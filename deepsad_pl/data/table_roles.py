"""Check the columns that the settings of a table name against the columns that its files have."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.column_kinds import quoted

# Files in which y are the labels of the rows.
ARRAYS = (".npz", ".mat")
# The largest number of columns that a message shows.
_SHOWN = 20


@dataclass(frozen=True)
class Header:
    """The columns of a file.

    Attributes:
        file: its path; of several files the first one's.
        columns: their names.
        arrays: the first of the files that is an array, in which y are the labels of the rows; None if none is.
    """

    file: str
    columns: Sequence[str]
    arrays: str | None = None


def arrays_in(files: Sequence[Path]) -> str | None:
    """The first of some files that is an array, if any is."""
    return next((str(file) for file in files if file.name.lower().endswith(ARRAYS)), None)


def features(columns: Sequence[str], roles: Mapping[str, str | None], drop: Sequence[str]) -> list[str]:
    """The columns to learn from: those that no setting names, in their order."""
    others = {*roles.values(), *drop}
    return [name for name in columns if name not in others]


def column_problems(
    trained: Header, tested: Header | None, roles: Mapping[str, str | None], drop: Sequence[str], *, given: bool = True
) -> Iterator[str]:
    """Yield a sentence for each named column that a file lacks, and for each other column that only one file has.

    If they are named, the label column must be in the training file, the truth column in the file of the test rows, and
    the id column in both. A column to drop may be in either file; any other column must be in both.

    Args:
        trained: header of the file with the training rows, or with all rows.
        tested: header of the file with the test rows; None if they are in the same file.
        roles: the columns that ``label``, ``truth`` and ``id`` name; None or no entry if a setting names none.
        drop: columns that are not used.
        given: whether the labels are used as they are; otherwise they are classes, and test rows need them, too.
    """
    files = [trained] if tested is None else [trained, tested]
    needed = {"label": [trained] if given else files, "truth": files[-1:], "id": files}
    for role, name in roles.items():
        for header in needed[role]:
            if name is not None and name not in header.columns:
                yield _missing(role, name, [header])
    for name in drop:
        if not any(name in header.columns for header in files):
            yield _missing("drop", name, files)
    names = features(trained.columns, roles, drop)
    if "y" in names and (arrays := [header.arrays for header in files if header.arrays is not None]):
        yield (
            f"{arrays[0]} has labels y, which would be learned from, since no setting names them; name them with "
            "dataset.label=y or dataset.truth=y, or leave them out: dataset.drop=[y]"
        )
    if not names:
        yield "no column is left to learn from; leave some out of dataset.drop"
    elif tested is not None:
        yield from _differences(names, trained, tested, roles, {*roles.values(), *drop})


def _missing(key: str, name: str, files: Sequence[Header]) -> str:
    found = list(dict.fromkeys(column for header in files for column in header.columns))
    way_out = suggested(name, found) or f"the columns are {', '.join(found[:_SHOWN])}"
    lack = f"{files[0].file} does not have" if len(files) == 1 else f"neither {files[0].file} nor {files[1].file} has"
    return f"dataset.{key} names the column {name!r}, which {lack}; {way_out}"


def _differences(
    names: Sequence[str],
    trained: Header,
    tested: Header,
    roles: Mapping[str, str | None],
    others: Collection[str | None],
) -> Iterator[str]:
    surplus = [name for name in tested.columns if name not in names and name not in others]
    for name in names:
        if name not in tested.columns:
            guess = suggested(name, surplus) or _way_out(name, "label", "the labels", roles)
            yield f"{tested.file} (dataset.test_path) has no column {name!r}, which {trained.file} has; {guess}"
    for name in surplus:
        way_out = _way_out(name, "truth", "the truth of the test rows", roles)
        yield f"{tested.file} (dataset.test_path) has a column {name!r}, which {trained.file} does not have; {way_out}"


def _way_out(name: str, role: str, what: str, roles: Mapping[str, str | None]) -> str:
    leave = f"leave it out with dataset.drop=[{quoted(name)}]"
    if roles.get(role) is not None:
        return leave
    return f"set dataset.{role}={quoted(name)} if it has {what}, or {leave}"
