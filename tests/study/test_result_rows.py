"""Finished experiments as rows of a CSV file: what is written is read again, and only today's results are current."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import METRICS
from deepsad_pl.experiment.results_version import RESULTS_VERSION
from deepsad_pl.study.result_rows import (
    COLUMNS,
    Row,
    is_current,
    merged,
    read_rows,
    record_of_row,
    row_of,
    write_rows,
)

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
rates = st.floats(0, 1)
hashes = st.text("0123456789abcdef", min_size=8, max_size=8)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Records as an experiment writes them, with classes, or without where they are not known."""
    classes = draw(st.none() | st.dictionaries(names, st.tuples(st.integers(1, 2000), rates), min_size=1, max_size=4))
    apart = {name: draw(st.none() | rates) for name in ("auroc_known", "auroc_novel")}
    found = {**{name: draw(rates) for name in METRICS}, **apart}
    selection = draw(st.sampled_from([{}, {"selection": {"protocol": "test_subset", "gamma": 0.5}}]))
    each = {} if classes is None else {"classes": {k: {"test": n, "auroc": v} for k, (n, v) in classes.items()}}
    return {
        **found,
        "dataset": draw(names),
        "method": draw(names),
        "seed": draw(st.integers(0, 99)),
        "scenario": {
            "normal_class": [draw(names)],
            "anomaly_class": draw(st.lists(names, max_size=2)),
            "gamma_l": draw(rates),
            "gamma_p": 0.0,
            "k_l": 1,
        },
        "hash": draw(hashes),
        "results_version": RESULTS_VERSION,
        "identity": {"method": draw(st.sampled_from([{}, {"eta": 1.0}, {"nu": 0.1}]))},
        "counts": {"test_normal": draw(st.integers(1, 9999)), "test_anomalous": draw(st.integers(1, 9999))},
        "seconds": {"fit": draw(st.floats(0, 1e5)), "score": draw(st.floats(0, 9))},
        **selection,
        **each,
    }


@st.composite
def rows(draw: st.DrawFn) -> Row:
    record = draw(records())
    return row_of(record, auroc=record["auroc"], commit=draw(names), machine=draw(names))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("rows") / "results.csv"


@given(found=st.lists(rows(), max_size=4))
def test_rows_are_read_as_they_were_written(file: Path, found: list[Row]) -> None:
    once = merged((), found)
    write_rows(file, once)
    assert read_rows(file) == once
    before = file.read_bytes()
    write_rows(file, merged(read_rows(file), once))
    assert file.read_bytes() == before


@given(record=records())
def test_a_row_says_what_a_report_needs_of_a_record(record: dict[str, Any]) -> None:
    row = row_of(record, auroc=0.25, commit="c", machine="m")
    found = record_of_row(row)
    assert list(row) == list(COLUMNS)
    for name in (*METRICS[1:], "dataset", "method", "hash", "counts"):
        assert found[name] == record[name]
    assert found["auroc"] == 0.25
    assert found.get("classes") == record.get("classes")
    assert found.get("selection", {}).get("protocol") == record.get("selection", {}).get("protocol")
    assert sum(found["seconds"].values()) == pytest.approx(sum(record["seconds"].values()), abs=1e-3)


@given(row=rows(), other=hashes)
def test_a_row_is_current_only_with_today_s_hash_version_and_metrics(row: Row, other: str) -> None:
    planned = {row["hash"], "an experiment beside it"}
    assert is_current(row, planned)
    assert is_current({**row, "version": ""}, planned) == (RESULTS_VERSION == 1)
    assert not is_current({**row, "version": str(RESULTS_VERSION + 1)}, planned)
    assert not is_current({**row, "recall_fpr_5": ""}, planned)
    assert is_current(row, {other}) == (other == row["hash"])


@given(found=st.lists(rows(), max_size=6), at=st.integers(0, 6))
def test_merging_keeps_one_row_of_each_experiment_in_an_order_of_its_own(found: list[Row], at: int) -> None:
    once = merged(found[:at], found[at:])
    assert {row["hash"] for row in once} == {row["hash"] for row in found}
    assert len(once) == len({row["hash"] for row in once})
    assert merged(once, ()) == merged(reversed(once), ()) == once
    last = {row["hash"]: row for row in found}
    assert all(row == last[row["hash"]] for row in once)


def test_results_of_a_newer_version_say_so() -> None:
    record = {"results_version": 7, "seed": 0, "dataset": "d", "method": "m", "hash": "h"}
    rest = {"identity": {"method": {}}, "counts": {}, "seconds": {"fit": 1.0}}
    assert row_of({**record, **rest}, auroc=0.5, commit="c", machine="m")["version"] == "7"


def test_a_file_of_an_earlier_release_is_read_but_not_current(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("dataset,method,hash,auroc,seconds\nmnist,deep_sad,66a3d4b7,0.9,1.0\n")
    (row,) = read_rows(path)
    assert (row["auroc"], row["recall_fpr_5"]) == ("0.9", "")
    assert not is_current(row, {"66a3d4b7"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("mnist,deep_sad,66a3d4b7,1.5,1,", "auroc is '1.5', which is not a number in [0, 1]"),
        ("mnist,deep_sad,66a3d4b7,nan,1,", "auroc is 'nan'"),
        ("mnist,deep_sad,,0.5,1,", "it has no hash"),
        ("mnist,deep_sad,66a3d4b7,0.5,long,", "seconds is 'long'"),
        ("mnist,deep_sad,66a3d4b7,0.5,1,[1]", "classes is '[1]'"),
        ('mnist,deep_sad,66a3d4b7,0.5,1,"{""a"":[1]}"', "which are not a number of samples and an AUROC"),
    ],
)
def test_a_damaged_line_is_an_error(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"dataset,method,hash,auroc,seconds,classes\n{line}\n")
    with pytest.raises(DeepSADError, match="line 2 of the results") as caught:
        read_rows(path)
    assert problem in str(caught.value)


def test_another_table_is_no_file_of_results(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("index,y,score\n0,1,0.5\n")
    with pytest.raises(DeepSADError, match="have no column dataset, method, hash, auroc"):
        read_rows(path)
    assert read_rows(tmp_path / "none.csv") == []


def test_the_published_results_are_valid() -> None:
    for path in sorted((ROOT / "docs" / "results").glob("*.csv")):
        found = read_rows(path)
        assert found and merged(found, ()) == found, path
        with path.open(newline="") as text:
            assert next(csv.reader(text)) == list(COLUMNS)
