"""Rows with too many or too few cells are found at their position, for any size of the blocks that are read."""

import csv
import gzip
import io
import random
from pathlib import Path

import pandas as pd
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import table_files
from deepsad_pl.data.ragged_rows import RaggedRow
from deepsad_pl.data.table_files import read_table, table_chunks

Cells = list[list[str]]


def table(rows: int, wrong: set[int], seed: int = 0) -> Cells:
    """Rows of a number, a text that may hold line breaks, and a number; ragged rows have one cell more or fewer."""
    draw = random.Random(seed)
    texts = ["x", "a,b", "two\nlines", 'say "so"', "", "long " * 9]
    made = [[str(i), draw.choice(texts), str(i / 4)] for i in range(rows)]
    for row in wrong:
        made[row] = made[row][:2] if row % 2 else [*made[row], "surplus"]
    return made


def as_text(rows: Cells, seed: int = 0) -> str:
    """The rows as CSV, with some empty lines, which do not count as rows."""
    draw, text = random.Random(seed), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "what", "value"])
    for row in rows:
        text.write("\n" * (draw.random() < 0.1))
        writer.writerow(row)
    return text.getvalue()


def found_in(
    path: str | Path, rows: int, stream: io.StringIO | None = None
) -> tuple[pd.DataFrame, dict[int, RaggedRow]]:
    ragged: dict[int, RaggedRow] = {}
    chunks = []
    for chunk in table_chunks(path, rows, text=["id", "what"], stream=stream, ragged=ragged):
        # A ragged row is recorded before or together with its chunk.
        empty = chunk.index[chunk[["id", "value"]].isna().all(axis=1)]
        assert {*empty} == {row for row in ragged if row in chunk.index}
        chunks.append(chunk)
    assert [len(chunk) for chunk in chunks[:-1]] == [rows] * (len(chunks) - 1)
    return pd.concat(chunks), ragged


@pytest.mark.parametrize("way", ["a.csv", "a.csv.gz", "-"])
@pytest.mark.parametrize("block", [80, 83, 97, 113, 1000, 1 << 20])
def test_ragged_rows_are_found_in_their_places(
    way: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", block)
    monkeypatch.setattr(table_files, "_BLOCK_NAMES", 0)
    for seed in range(6):
        # The first and the last ones, many in a row, and some of the others.
        wrong = {0, 1, *range(100, 140), *random.Random(seed).sample(range(200), 20), 198, 199}
        rows = table(200, wrong, seed)
        text = as_text(rows, seed)
        path = tmp_path / way
        if way != "-":
            path.write_bytes(gzip.compress(text.encode()) if way.endswith(".gz") else text.encode())
        frame, ragged = found_in("-" if way == "-" else path, 13, io.StringIO(text))
        assert {*ragged} == wrong
        assert [list(ragged[row].cells) for row in sorted(wrong)] == [rows[row] for row in sorted(wrong)]
        right = [row for row in range(200) if row not in wrong]
        assert frame.index.tolist() == [*range(200)]
        assert frame["id"].dropna().tolist() == [rows[row][0] for row in right]
        assert frame["value"].dropna().tolist() == [row / 4 for row in right]


def test_a_wrong_row_is_reported_with_its_beginning() -> None:
    row = RaggedRow(3, ("7", "b"), "7,b")
    assert row.told() == (
        "it has 2 cells under 3 column names: '7,b'; put a cell that holds the separator into double quotes"
    )
    assert [row.cell(place) for place in range(3)] == ["7", "b", ""]


def test_a_thousand_ragged_rows_at_the_start_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(as_text(table(999, {*range(999)})))
    frame, ragged = found_in(path, 100)
    assert len(frame) == len(ragged) == 999
    path.write_text(as_text(table(5000, {*range(1000)})))
    with pytest.raises(DeepSADError, match=r"a.csv has 2 cells under 3 column names in row 999, counted from 0"):
        found_in(path, 100)
    # Later ragged rows are not an error.
    path.write_text(as_text(table(5000, {*range(10, 5000)})))
    assert len(found_in(path, 100)[1]) == 4990


def test_a_training_table_must_not_have_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(as_text(table(200, {150})))
    with pytest.raises(DeepSADError, match=r"a.csv has 4 cells under 3 column names in row 150, counted from 0: '150,"):
        read_table([path])
