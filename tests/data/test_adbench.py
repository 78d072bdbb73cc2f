"""The tables of ADBench: their list, their names, their download, their content."""

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tiny_data import closed_url, table_of, write_adbench, write_table

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import adbench_tables as registry
from deepsad_pl.data.adbench import load_adbench, published_sum
from deepsad_pl.data.adbench_tables import AdbenchTable, adbench_tables, name_problem, table_named, units_for
from deepsad_pl.data.download import sha256_of
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.sources import adbench_source
from deepsad_pl.settings.about import own

WITHOUT_SUM = {"backdoor", "census", "fraud", "speech"}
CATEGORIES = (
    "bottle, cable, capsule, carpet, grid, hazelnut, leather, metal_nut, pill, screw, tile, toothbrush, transistor, "
    "wood, zipper"
)


class Requests(SimpleHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server that replaces GitHub."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setattr(Requests, "paths", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Requests, directory=str(folder))) as running:
        monkeypatch.setattr(registry, "ADBENCH_URL", f"http://127.0.0.1:{running.server_port}/")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield folder
        running.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ADBENCH_URL", closed_url())


def publish(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, *, rows: int = 60, outliers: int = 20
) -> AdbenchTable:
    """Put a tiny table on the server, and make it the one that the list expects."""
    known = adbench_tables()[name]
    kind = "CV_by_ResNet18" if name.startswith("MVTec") else "Classical"
    path = write_table(folder / kind / known.file, *table_of(rows, known.columns, outliers))
    sha256 = sha256_of(path) if known.sha256 is not None else None
    tiny = replace(known, rows=rows, anomalies=outliers, sha256=sha256)
    tables: Mapping[str, AdbenchTable] = MappingProxyType({**adbench_tables(), name: tiny})
    monkeypatch.setattr(registry, "adbench_tables", lambda: tables)
    return tiny


def files_in(data_dir: Path) -> list[str]:
    """The files of tables, without empty locks."""
    return sorted(path.name for path in (data_dir / "adbench").iterdir() if path.suffix != ".lock")


def test_there_are_47_tables_and_15_categories_of_mvtec_ad() -> None:
    tables = adbench_tables()
    classical = [table for table in tables.values() if not table.stem.startswith("MVTec-AD_")]
    assert [table.stem.partition("_")[0] for table in classical] == [str(number) for number in range(1, 48)]
    assert len(tables) == 47 + 15
    assert {table.name for table in tables.values() if table.sha256 is None} == WITHOUT_SUM
    sums = [table.sha256 for table in tables.values() if table.sha256 is not None]
    assert len({*sums}) == len(sums) == 43 + 15
    assert all(len(one) == 64 and int(one, 16) for one in sums)
    assert all(0 < table.anomalies < table.rows / 2 and table.columns > 0 for table in tables.values())


def test_the_thyroid_table_is_the_one_of_the_classic_set() -> None:
    table, known = adbench_tables()["thyroid"], ODDS_FILES["thyroid"]
    expected = (known.url, known.sha256, known.rows, known.columns, known.outliers)
    assert (table.url, table.sha256, table.rows, table.columns, table.anomalies) == expected


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("annthyroid", "2_annthyroid"),
        ("2_annthyroid", "2_annthyroid"),
        ("magic.gamma", "22_magic.gamma"),
        ("satimage-2", "31_satimage-2"),
        ("MVTec-AD_metal_nut", "MVTec-AD_metal_nut"),
    ],
)
def test_a_table_is_found_with_and_without_its_number(name: str, stem: str) -> None:
    table = table_named(name)
    assert table is not None
    assert table.stem == stem
    assert name_problem("table", name) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("anthyroid", "did you mean annthyroid?"),
        ("Thyroid", "did you mean thyroid?"),
        ("3_annthyroid", "did you mean 2_annthyroid?"),
        ("magic", "did you mean magic.gamma?"),
        ("cable", "did you mean MVTec-AD_cable?"),
        ("MVTec-AD_cabel", "did you mean MVTec-AD_cable?"),
    ],
)
def test_a_wrong_name_is_reported_with_the_nearest_one(name: str, near: str) -> None:
    assert table_named(name) is None
    assert name_problem("dataset.table", name) == f"dataset.table is '{name}', which is not a table of ADBench; {near}"


@pytest.mark.parametrize("name", ["", "xyz", None, 2])
def test_a_name_like_no_other_is_reported_with_all_names(name: object) -> None:
    problem = name_problem("dataset.table", name) or ""
    assert problem.startswith(f"dataset.table is {name!r}, which is not a table of ADBench; give one of 1_ALOI, 2_ann")
    assert problem.endswith(f"47_yeast, with or without the number, or MVTec-AD_ and one of {CATEGORIES}")


@pytest.mark.parametrize("name", ODDS_FILES)
def test_widths_of_the_papers_tables_give_the_papers_networks(name: str) -> None:
    assert units_for(ODDS_FILES[name].columns) == own("dataset")[name]["network"]["units"]


def test_every_table_has_more_columns_than_its_bottleneck_has_units() -> None:
    assert all(units_for(table.columns)[-1] < table.columns for table in adbench_tables().values())


@pytest.mark.parametrize("name", ["vowels", "MVTec-AD_grid"])
def test_a_table_is_downloaded_once_and_checked(
    name: str, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = publish(server, name, monkeypatch)
    x, y = load_adbench(table.stem, tmp_path / "data")
    np.testing.assert_array_equal(x, table_of(60, table.columns, 20)[0])
    assert int(y.sum()) == 20
    load_adbench(name, tmp_path / "data")
    assert Requests.paths == [table.url.removeprefix(registry.ADBENCH_URL.removesuffix("/"))]
    assert files_in(tmp_path / "data") == [table.file]


def test_a_file_other_than_the_published_one_is_refused(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = publish(server, "vowels", monkeypatch)
    write_table(server / "Classical" / table.file, *table_of(60, table.columns, 20, seed=1))
    with pytest.raises(DeepSADError, match=rf"40_vowels.npz from .*SHA-256 .*, expected {table.sha256}.* by hand"):
        load_adbench("vowels", tmp_path / "data")
    assert files_in(tmp_path / "data") == []


def test_a_table_without_a_sum_is_checked_by_shape_and_labels(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = publish(server, "speech", monkeypatch)
    assert published_sum(table, tmp_path) is None
    x, _ = load_adbench("speech", tmp_path)
    assert x.shape == (60, 400)
    path = tmp_path / "adbench" / "36_speech.npz"
    assert published_sum(table, tmp_path) == sha256_of(path)
    # From now on, the downloaded file counts as the published one; any other file does not.
    assert data_digest("adbench", tmp_path, "speech") is None
    write_table(path, *table_of(60, 400, 20, seed=1))
    assert data_digest("adbench", tmp_path, "speech") is not None


@pytest.mark.parametrize(
    ("rows", "columns", "outliers", "told"),
    [
        (61, 400, 20, "61 rows, 400 columns and 20 anomalies, expected 60 rows, 400 columns and 20 anomalies"),
        (60, 399, 20, "60 rows, 399 columns and 20 anomalies, expected"),
        (60, 400, 21, "60 rows, 400 columns and 21 anomalies, expected"),
    ],
)
def test_a_different_shape_or_different_labels_are_refused(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, outliers: int, told: str
) -> None:
    table = publish(server, "speech", monkeypatch)
    write_table(server / "Classical" / table.file, *table_of(rows, columns, outliers))
    with pytest.raises(DeepSADError, match=f"36_speech.npz from .* is not the expected file .{told}"):
        load_adbench("speech", tmp_path / "data")
    assert files_in(tmp_path / "data") == []


def test_an_html_page_instead_of_a_table_is_refused(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = publish(server, "speech", monkeypatch)
    (server / "Classical" / table.file).write_text("<html>Sign in</html>")
    with pytest.raises(DeepSADError, match=r"is not the expected file \(cannot be read .*put it at"):
        load_adbench("speech", tmp_path / "data")
    assert files_in(tmp_path / "data") == []


@pytest.mark.usefixtures("offline")
def test_a_failed_download_is_reported_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"2_annthyroid.npz could not be downloaded .* put it at .*2_annthyroid.npz"):
        load_adbench("annthyroid", tmp_path)


@pytest.mark.usefixtures("offline")
def test_a_file_put_there_by_hand_is_used_and_reported_if_it_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_adbench(tmp_path, "annthyroid")
    with caplog.at_level(logging.WARNING):
        assert load_adbench("annthyroid", tmp_path)[0].shape == (60, 6)
    (told,) = caplog.messages
    assert told == (
        "2_annthyroid.npz in this file has 60 rows, 6 columns and 20 outliers, but in ADBench 7200, 6 and 534"
    )
    assert data_digest("adbench", tmp_path, "annthyroid") is not None
    # For a table without a checksum, nobody knows whether the file is the published one.
    write_adbench(tmp_path, "speech")
    assert data_digest("adbench", tmp_path, "speech") is not None
    assert data_digest("adbench", tmp_path, "fraud") is None


def test_an_unknown_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="did you mean annthyroid"):
        load_adbench("anthyroid", tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("label", [np.int32, np.int64, np.uint8])
def test_whole_and_real_numbers_and_constant_columns_make_a_source(
    tmp_path: Path, dtype: type[np.generic], label: type[np.generic]
) -> None:
    x = np.random.default_rng(0).integers(0, 200, (50, 6)).astype(dtype)
    x[:, 2] = 7
    y = (np.arange(50) % 5 == 0).astype(label)
    write_table(tmp_path / "adbench" / "2_annthyroid.npz", x, y)
    source = adbench_source("annthyroid", data_dir=tmp_path, seed=0)
    assert (source.x_train.dtype, source.x_train.shape, source.x_test.shape) == (np.float32, (30, 6), (20, 6))
    assert not source.x_train[:, 2].any()
    assert not source.x_test[:, 2].any()
    varies = source.x_train[:, [0, 1, 3, 4, 5]]
    np.testing.assert_allclose(varies.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(varies.std(axis=0), 1, atol=1e-5)
    assert int(source.labels_train.sum() + source.labels_test.sum()) == 10


def test_every_real_table_is_the_published_one(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = [table for table in adbench_tables().values() if (real_data / "adbench" / table.file).exists()]
    if not found:
        pytest.skip("no table of ADBench in DEEPSAD_DATA_DIR")
    for table in found:
        source = adbench_source(table.name, data_dir=real_data, seed=0)
        labels = np.concatenate([source.labels_train, source.labels_test])
        assert (len(labels), *source.shape, int(labels.sum())) == (table.rows, table.columns, table.anomalies)
        assert np.isfinite(source.x_train).all()
        assert np.isfinite(source.x_test).all()
        if table.sha256 is not None:
            assert data_digest("adbench", real_data, table.name) is None, table
    assert caplog.messages == []
