"""Tables from files: equal from every format, text as spelled, and one sentence about a wrong file."""

import gzip
import io
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import table_files
from deepsad_pl.data.table_files import read_table, table_chunks

CSV = 'part,size,color,ok\n007,1.5,red,true\n1e3,,"a, b",false\nNA,-2,,true\n'
EXPECTED = {
    "part": ["007", "1e3", "NA"],
    "size": [1.5, None, -2.0],
    "color": ["red", "a, b", None],
    "ok": ["true", "false", "true"],
}


def plain(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Cells by column, None for missing ones."""
    return {str(name): [None if pd.isna(cell) else cell for cell in cells] for name, cells in frame.items()}


def write(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_as(folder: Path, name: str) -> Path:
    """The table EXPECTED in the format of a name."""
    path = folder / name
    if name.endswith(".parquet"):
        table = pa.table(EXPECTED)
        pq.write_table(table.set_column(2, "color", table["color"].dictionary_encode()), path)
        return path
    if ".tsv" in name:
        return write(path, "part\tsize\tcolor\tok\n007\t1.5\tred\ttrue\n1e3\t\ta, b\tfalse\nNA\t-2\t\ttrue\n")
    return write(path, CSV)


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.parquet"])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_every_format_gives_the_same_table_at_once_and_in_chunks(tmp_path: Path, name: str, rows: int) -> None:
    path = write_as(tmp_path, name)
    assert plain(read_table([path], text=["part"])) == EXPECTED
    chunks = list(table_chunks(path, rows, text=["part"]))
    assert [len(chunk) for chunk in chunks] == [rows] * (3 // rows) + [3 % rows] * (3 % rows > 0)
    assert [i for chunk in chunks for i in chunk.index] == [0, 1, 2]
    assert {key: [cell for chunk in chunks for cell in plain(chunk)[key]] for key in EXPECTED} == EXPECTED


@pytest.mark.parametrize("suffix", ["npz", "mat"])
@pytest.mark.parametrize("labels", [np.array([0, 1, 1]), None])
def test_arrays_are_columns_x0_x1_and_y(tmp_path: Path, suffix: str, labels: np.ndarray | None) -> None:
    x = np.array([[1.5, np.nan], [2.0, 3.0], [1e300, -0.0]])
    content = {"X": x} if labels is None else {"X": x, "y": labels}
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, **content)
    else:
        savemat(path, content)  # keeps y as (1, 3)
    frame = read_table([path])
    assert list(frame) == ["x0", "x1", *["y"] * (labels is not None)]
    assert np.array_equal(frame[["x0", "x1"]].to_numpy(), x, equal_nan=True)
    assert labels is None or frame["y"].tolist() == [0, 1, 1]
    assert [len(chunk) for chunk in table_chunks(path, 2)] == [2, 1]
    if labels is not None:
        assert read_table([path], text=["y"])["y"].tolist() == ["0", "1", "1"]


def test_standard_input_is_csv_on_a_stream_of_text_that_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO(CSV)
    (chunk,) = table_chunks("-", stream=stream, text=["part"])
    assert plain(chunk) == EXPECTED
    assert not stream.closed
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(CSV.encode())))
    (chunk,) = table_chunks("-", text=["part"])
    assert plain(chunk) == EXPECTED


def test_cells_with_line_breaks_across_blocks_and_a_byte_order_mark_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", 100)
    cells = [f"one\n{i}\n\ntwo" for i in range(200)]
    path = write(tmp_path / "a.csv", "\ufeffa,b\n" + "".join(f'"{cell}",{i}\n' for i, cell in enumerate(cells)))
    assert plain(read_table([path])) == {"a": cells, "b": [float(i) for i in range(200)]}


def test_columns_are_chosen_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        path = write_as(tmp_path, name)
        assert list(read_table([path], ["ok", "size"])) == ["ok", "size"]
        assert [list(chunk) for chunk in table_chunks(path, 2, columns=["ok", "size"])] == [["ok", "size"]] * 2


def test_files_with_the_same_columns_in_any_order_are_one_table(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", "a,b\n1,01\n2,02\n")
    other = write(tmp_path / "b.csv", "b,a\nx,3\n")
    frame = read_table([one, str(other)])
    assert frame.index.tolist() == [0, 1, 2]
    # Text in one file keeps the spelling of the numbers in the other.
    assert plain(frame) == {"a": [1.0, 2.0, 3.0], "b": ["01", "02", "x"]}


def test_a_column_with_text_far_below_its_numbers_keeps_their_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS_A_CHUNK", 100)
    path = write(tmp_path / "a.csv", "a,b\n" + "007,1\n" * 1000 + "x,2\n")
    frame = read_table([path])
    assert frame["a"].tolist() == ["007"] * 1000 + ["x"]
    assert frame["b"].tolist() == [1.0] * 1000 + [2.0]


def test_other_columns_than_the_first_file_are_an_error_with_file_and_columns(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", "a,b\n1,2\n")
    other = write(tmp_path / "b.csv", "a,c\n1,2\n")
    with pytest.raises(DeepSADError, match=r"b.csv has other columns than .*a.csv: it lacks 'b' and has 'c'; give"):
        read_table([one, other])
    assert plain(read_table([one, other], ["a"])) == {"a": [1.0, 1.0]}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_survive_to_the_bit(values: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.csv", "a\n" + "".join(f"{value!r}\n" for value in values))
        found = read_table([path])["a"]
    assert found.to_numpy().tobytes() == np.array(values).tobytes()


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS | st.sampled_from(["a\nb", 'say "x"', "1,5", "01", "nan"])), min_size=1))
def test_text_survives_as_it_is_spelled(rows: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b"])
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(path := Path(folder) / "a.csv", index=False, quoting=1)
        found = read_table([path], text=["a", "b"])
        chunks = [plain(chunk) for chunk in table_chunks(path, 3, text=["a", "b"])]
    expected = {name: [cell.strip() or None for cell in cells] for name, cells in frame.items()}
    assert plain(found) == expected
    assert {name: [cell for chunk in chunks for cell in chunk[name]] for name in ("a", "b")} == expected


@pytest.mark.parametrize("word", ["", "NA", "nan", "NULL", "n/a", "  "])
def test_missing_words_are_missing_numbers_and_stay_text_in_text(tmp_path: Path, word: str) -> None:
    frame = read_table([write(tmp_path / "a.csv", f"a,b\n1,x\n{word},{word}\n 3 ,y \n")])
    assert plain(frame) == {"a": [1.0, None, 3.0], "b": ["x", word.strip() or None, "y"]}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "b": [True, None],
            "d": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "c": pd.Categorical(["u", "v"]),
        }
    )
    frame["b"] = frame["b"].astype("boolean")
    frame.to_parquet(tmp_path / "a.parquet")
    found = read_table([tmp_path / "a.parquet"])
    assert [dtype.kind for dtype in found.dtypes[["i", "d"]]] == ["i", "M"]
    assert plain(found)["b"] == [True, None]
    assert plain(found)["c"] == ["u", "v"]
    assert read_table([tmp_path / "a.parquet"], text=["i", "b"])["i"].tolist() == ["1", "2"]


def test_columns_without_a_name_get_the_names_of_pandas(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "a.csv")
    assert list(read_table([tmp_path / "a.csv"])) == ["Unnamed: 0", "a"]


def test_a_table_without_rows_is_one_empty_chunk_and_no_table(tmp_path: Path) -> None:
    for content in ("a,b\n", "a,b", "a,b\n\n\n"):
        path = write(tmp_path / "a.csv", content)
        (chunk,) = table_chunks(path)
        assert (list(chunk), len(chunk)) == (["a", "b"], 0)
        with pytest.raises(DeepSADError, match=r"a.csv has column names but no rows; add rows"):
            read_table([path])
    full = write(tmp_path / "b.csv", "a,b\n1,x\n")
    assert plain(read_table([path, full])) == {"a": [1.0], "b": ["x"]}


def damaged_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(EXPECTED), buffer)
    return buffer.getvalue()[:-20]


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


WRONG: list[tuple[str, bytes, str]] = [
    ("a.txt", b"a,b\n1,2\n", r"has none of the endings .csv, .tsv, .csv.gz, .*; convert it"),
    ("a.csv", b"", r"is empty; a table needs column names and rows"),
    ("a.csv.gz", b"", r"is empty; a table needs column names and rows"),
    ("a.csv", b"a,b,a\n1,2,3\n", r"has several columns named 'a'; give each column a unique name, or, if"),
    ("a.csv", b"1.5,2,-3e4\n1,2,3\n", r"has no column names: its first row holds only numbers \('1.5', '2', '-3e4'\)"),
    ("a.csv", b",,\n1,2,3\n", r"has no column names in its first row"),
    ("a.csv", b"a;b\n1;2\n", r"has one column, named 'a;b', whose cells seem to be divided by ';'; write commas"),
    ("a.tsv", b"a,b\n1,2\n", r"divided by ','; write commas in a .csv and tabs in a .tsv"),
    ("a.csv", "größe\n1\n".encode("latin-1"), r"is not UTF-8 text; save it as UTF-8"),
    ("a.csv", "a,b\n1,ä\n".encode("latin-1"), r"is not UTF-8 text; save it as UTF-8"),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), r"is UTF-16 text; save it as UTF-8"),
    ("a.csv", b"PAR1\x15\x04", r"is a Parquet file, which is read if it is named .parquet"),
    ("a.csv", b"PK\x03\x04\x14\x00", r"is a zip archive or a spreadsheet; export it as CSV"),
    ("a.csv", b"\x00\x01\x02\xff" * 100, r"is not text, or its first row never ends; export the table as CSV"),
    (
        "a.csv",
        b"a,b\n1,2\n1,2,3\n",
        r"has 3 cells under 2 column names in row 1, counted from 0: '1,2,3'; correct the row",
    ),
    ("a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9999, mtime=0)[:-9], r"cannot be read \(EOFError"),
    ("a.parquet", b"a,b\n1,2\n", r"cannot be read \(ArrowInvalid: .*\); replace it with an intact file"),
    ("a.parquet", damaged_parquet(), r"cannot be read \(ArrowInvalid: .*\); replace it with an intact file"),
    ("a.npz", b"a,b\n1,2\n", r"cannot be read \(ValueError: .*\); replace it with an intact file"),
    ("a.mat", b"a,b\n1,2\n", r"cannot be read \(.*\); replace it with an intact file"),
    ("a.npz", saved(x=np.ones((2, 2))), r"has no X, but 'x'; save the table as X \(N, D\), its labels as y \(N,\)"),
    ("a.npz", saved(X=np.ones(3)), r"holds X of shape \(3,\) and type float64; save it as numbers \(N, D\)"),
    ("a.npz", saved(X=np.ones((3, 0))), r"holds X of shape \(3, 0\)"),
    ("a.npz", saved(X=np.ones((3, 2)), y=np.ones(2)), r"holds y of shape \(2,\) .*one label for each of the 3 rows"),
]


@pytest.mark.parametrize("name, content, message", WRONG)
def test_a_wrong_file_is_one_sentence_with_its_name_and_the_way_out(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (lambda: read_table([path]), lambda: list(table_chunks(path))):
        with pytest.raises(DeepSADError, match=message) as caught:
            read()
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_missing_column_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"a.csv does not exist; check the path"):
        read_table([tmp_path / "a.csv"])
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DeepSADError, match=r"b.csv is a folder; name a file in it"):
        next(table_chunks(tmp_path / "b.csv"))
    with pytest.raises(DeepSADError, match="no file is given"):
        read_table([])
    with pytest.raises(DeepSADError, match="- is standard input, which can only be read in chunks; name a file"):
        read_table(["-"])
    path = write_as(tmp_path, "c.csv")
    with pytest.raises(DeepSADError) as caught:
        read_table([path], ["sizes", "weight", "ok"])
    assert caught.value.problems == [
        f"{path} has no column 'sizes'; did you mean size?",
        f"{path} has no column 'weight'; it has 'part', 'size', 'color', 'ok'",
    ]


def test_the_position_of_a_wrong_row_counts_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", 1000)
    path = write(tmp_path / "a.csv", "a,b\n" + "1,2\n" * 5000 + "1\n")
    chunks = table_chunks(path, 100)
    assert len(next(chunks)) == 100
    with pytest.raises(DeepSADError, match=r"has 1 cells under 2 column names in row 5000, counted from 0: '1'"):
        list(chunks)


def test_reading_in_chunks_is_lazy_and_can_be_left_early() -> None:
    class Endless(io.TextIOBase):
        read_so_far = 0

        def read(self, size: int | None = -1, /) -> str:
            assert size is not None and size > 0
            self.read_so_far += size
            return "a,b\n" + "1,2\n" * (size // 4) if self.read_so_far == size else "1,2\n" * (size // 4)

    stream = Endless()
    chunks: Iterator[pd.DataFrame] = table_chunks("-", 1000, stream=stream)  # type: ignore[arg-type]
    assert [len(next(chunks)) for _ in range(3)] == [1000] * 3
    assert stream.read_so_far < 64 << 20
    assert math.isclose(next(chunks)["b"].sum(), 2000)
