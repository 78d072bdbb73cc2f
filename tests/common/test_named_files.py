"""Files named by settings: paths, lists and globs."""

from pathlib import Path

import pytest

from deepsad_pl.common.named_files import files_named


def test_a_glob_stands_for_the_matching_files_in_sorted_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("day2.csv", "day1.csv", "night.csv", "odd[1].csv"):
        (tmp_path / name).touch()
    days = [tmp_path / "day1.csv", tmp_path / "day2.csv"]
    assert files_named(str(tmp_path / "day*.csv")) == days
    assert files_named([str(tmp_path / "night.csv"), f"{tmp_path}/day?.csv"]) == [tmp_path / "night.csv", *days]
    # A file may be called like a glob.
    assert files_named(str(tmp_path / "odd[1].csv")) == [tmp_path / "odd[1].csv"]
    assert files_named("none*.csv") == [Path("none*.csv")]
    assert files_named(None) == files_named([]) == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files_named("~/day*.csv") == days
    monkeypatch.chdir(tmp_path)
    assert files_named("day*.csv") == [Path("day1.csv"), Path("day2.csv")]
