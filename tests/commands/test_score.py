"""score.py: formats in and out, rows that cannot be scored, wrong words, no incomplete output."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from processes import ROOT
from scored import refused, scored
from stacks import alone
from tiny_data import write_image_folder, write_odds

from deepsad_pl.commands.score import parsed
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores
from deepsad_pl.common.signals import STOPS, signals_exit
from deepsad_pl.data.odds import load_odds, read_table
from deepsad_pl.data.sources import split_rows

Cli = Callable[..., subprocess.CompletedProcess[str]]
COLUMNS = [*"abcdef"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("table")
    write_odds(where, "thyroid", rows=200, outliers=50)
    words = ("dataset=thyroid", f"data_dir={where}", "trainer.max_epochs=2", "logger=none")
    return alone(where / "runs", *words).run_dir


@pytest.fixture(scope="module")
def rows(run_dir: Path) -> np.ndarray:
    return read_table(run_dir.parents[3] / "odds" / "thyroid.npz")[0]


@pytest.fixture(scope="module")
def expected(run_dir: Path, rows: np.ndarray) -> np.ndarray:
    import deepsad_pl

    return deepsad_pl.load(run_dir).score(rows)


@pytest.fixture
def raw(rows: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "raw.csv"
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    return path


def test_raw_rows_of_the_file_get_the_scores_of_the_run(run_dir: Path, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    assert scored(run_dir, f"input={raw}", f"output={out}") == f"200 scored: {out}"
    found = pd.read_csv(out)
    assert list(found.columns) == ["id", "score", "p_value", "anomaly"]
    assert found["id"].tolist() == list(range(200))
    assert found[["p_value", "anomaly"]].isna().all(axis=None)
    test = split_rows(read_table(run_dir.parents[3] / "odds" / "thyroid.npz")[1], 0)[1]
    assert found["score"].to_numpy()[test] == pytest.approx(read_scores(run_dir)[1], rel=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_raw_thyroid_rows_get_the_scores_of_the_run(real_data: Path, tmp_path: Path) -> None:
    x, y = load_odds("thyroid", real_data)
    words = ("dataset=thyroid", f"data_dir={real_data}", "scenario.gamma_l=0.01", "trainer.max_epochs=20")
    outcome = alone(tmp_path / "runs", *words, "logger=none")
    pd.DataFrame(x).add_prefix("x").to_csv(tmp_path / "raw.csv", index=False)
    scored(outcome.run_dir, f"input={tmp_path / 'raw.csv'}", f"output={tmp_path / 'out.csv'}")
    found = pd.read_csv(tmp_path / "out.csv")["score"].to_numpy()[split_rows(y, 0)[1]]
    assert found == pytest.approx(read_scores(outcome.run_dir)[1], rel=1e-5)
    assert outcome.record["auroc"] > 0.9


@pytest.mark.parametrize("name", ["new.tsv", "new.csv.gz", "new.parquet", "new.npz", "new.mat"])
def test_every_format_is_read(run_dir: Path, rows: np.ndarray, expected: np.ndarray, tmp_path: Path, name: str) -> None:
    path, frame = tmp_path / name, pd.DataFrame(rows, columns=COLUMNS)
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".npz"):
        np.savez(path, X=rows)
    elif name.endswith(".mat"):
        from scipy.io import savemat

        savemat(path, {"X": rows})
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    scored(run_dir, f"input={path}", f"output={tmp_path / 'out.csv'}")
    assert pd.read_csv(tmp_path / "out.csv")["score"].to_numpy() == pytest.approx(expected, rel=1e-6)


def test_every_format_is_written(run_dir: Path, raw: Path, expected: np.ndarray, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.parquet"):
        scored(run_dir, f"input={raw}", f"output={tmp_path / name}")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[7] == {"id": 7, "score": pytest.approx(expected[7]), "p_value": None, "anomaly": None}
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert np.array_equal(table["score"].to_numpy(), expected)
    assert table["anomaly"].isna().all()


def test_an_array_in_several_blocks_gets_the_scores_of_a_single_block(
    run_dir: Path, rows: np.ndarray, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepsad_pl.detector.read_input._NUMBERS", 6 * 30)
    np.savez_compressed(tmp_path / "new.npz", X=rows)
    scored(run_dir, f"input={tmp_path / 'new.npz'}", f"output={tmp_path / 'out.csv'}")
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["id"].tolist() == list(range(200))
    assert found["score"].to_numpy() == pytest.approx(expected, rel=1e-6)
    damaged = (tmp_path / "new.npz").read_bytes()
    (tmp_path / "new.npz").write_bytes(damaged[:1000] + b"????????" + damaged[1008:])
    told = refused(run_dir, f"input={tmp_path / 'new.npz'}", f"output={tmp_path / 'other.csv'}")
    assert "new.npz cannot be read" in told
    assert not (tmp_path / "other.csv").exists()


def test_a_list_a_glob_and_small_chunks_are_one_output(
    run_dir: Path, rows: np.ndarray, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (0, 1):
        pd.DataFrame(rows[part * 100 :][:100], columns=COLUMNS).to_csv(tmp_path / f"part{part}.csv", index=False)
    monkeypatch.setattr("deepsad_pl.detector.read_input._NUMBERS", 6 * 7)
    for word in (f"[{tmp_path}/part0.csv,{tmp_path}/part1.csv]", f"{tmp_path}/part*.csv"):
        scored(run_dir, f"input={word}", f"output={tmp_path / 'out.csv'}")
        found = pd.read_csv(tmp_path / "out.csv")
        assert found["id"].tolist() == list(range(200))
        assert found["score"].to_numpy() == pytest.approx(expected, rel=1e-5)


def test_rows_that_cannot_be_scored_do_not_affect_others(
    run_dir: Path, rows: np.ndarray, expected: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(object)
    frame.insert(0, "id", ["NA", *(f"00{i}" for i in range(1, 200))])
    frame.loc[3, "b"], frame.loc[5, "f"], frame.loc[7, "a"] = "broken", None, 1e300
    frame.to_csv(tmp_path / "new.csv", index=False)
    told = scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={tmp_path / 'out.csv'}")
    assert told.startswith("197 scored, 3 could not be scored")
    said = capsys.readouterr().err
    assert "row 3 of" in said
    assert "(id 003) cannot be scored: column 'b' holds 'broken', which is not a number" in said
    assert "(id 005) cannot be scored: column 'f' is empty" in said
    assert "(id 007) cannot be scored: column 'a' holds 1e+300, too far from the training rows" in said
    found = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}, keep_default_na=False, na_values={"score": ""})
    assert found["id"].tolist() == frame["id"].tolist()
    assert np.flatnonzero(found["score"].isna()).tolist() == [3, 5, 7]
    rest = np.delete(np.arange(200), [3, 5, 7])
    assert found["score"].to_numpy()[rest] == pytest.approx(expected[rest], rel=1e-5)


@pytest.mark.parametrize("append", ["false", "true"])
def test_an_input_of_which_nothing_can_be_scored_is_an_error(
    run_dir: Path, raw: Path, tmp_path: Path, append: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    words = (f"output={out}", f"append={append}")
    lines = raw.read_text().splitlines()
    (new := tmp_path / "new.csv").write_text("\n".join([lines[0], *['"1,5"' + ",1" * 5] * 100]))
    told = f"none of the 100 samples of the input can be scored, so nothing is written to {out}; correct the input"
    assert refused(run_dir, f"input={new}", *words) == told
    assert not out.exists()
    assert "row 0 of" in (said := capsys.readouterr().err) and "column 'a' holds '1,5', which is not a number" in said
    scored(run_dir, f"input={raw}", *words)
    before = out.read_bytes()
    assert refused(run_dir, f"input={new}", *words) == told
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw.csv", "new.csv", "out.csv"}
    new.write_text(lines[0])
    assert scored(run_dir, f"input={new}", *words) == f"0 scored: {out}"


@pytest.mark.parametrize("way", ["new.csv", "new.tsv.gz", "-"])
def test_ragged_rows_do_not_affect_others(
    run_dir: Path,
    rows: np.ndarray,
    expected: np.ndarray,
    tmp_path: Path,
    way: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deepsad_pl.data.table_files._BLOCK_BYTES", 400)
    monkeypatch.setattr("deepsad_pl.data.table_files._BLOCK_NAMES", 0)
    monkeypatch.setattr("deepsad_pl.detector.read_input._NUMBERS", 6 * 50)
    separator, wrong = "\t" if "tsv" in way else ",", [0, 49, 50, *range(100, 140), 199]
    cells = [[f"P{i:03}", *map(repr, row)] for i, row in enumerate(rows.tolist())]
    for row in wrong:
        cells[row] = [*cells[row], "surplus"] if row % 2 else cells[row][:3]
    cells[7][2], cells[199] = "broken", []
    lines = [separator.join(row) for row in [["id", *COLUMNS], *cells]]
    # The last line is not a row: it has no cell.
    content = "\n".join([*lines[:-1], separator])
    if way == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    else:
        (tmp_path / way).write_bytes(gzip.compress(content.encode()) if way.endswith(".gz") else content.encode())
    word = way if way == "-" else str(tmp_path / way)
    told = scored(run_dir, f"input={word}", f"output={tmp_path / 'out.csv'}")
    assert told.startswith(f"{200 - len(wrong) - 1} scored, {len(wrong) + 1} could not be scored")
    said = " ".join(capsys.readouterr().err.split())
    named = "standard input" if way == "-" else word
    assert f"row 0 of {named} (id P000) cannot be scored: it has 3 cells under 7 column names: 'P000" in said
    assert f"row 49 of {named} (id P049) cannot be scored: it has 8 cells under 7 column names" in said
    assert "(id P007) cannot be scored: column 'b' holds 'broken', which is not a number" in said
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["id"].fillna("").tolist() == [*(row[0] for row in cells[:-1]), ""]
    assert np.flatnonzero(found["score"].isna()).tolist() == sorted([*wrong, 7])
    kept = found["score"].notna().to_numpy()
    assert found["score"].to_numpy()[kept] == pytest.approx(expected[kept], rel=1e-5)


def test_appending_keeps_existing_rows(run_dir: Path, raw: Path, tmp_path: Path) -> None:
    for name in ("daily.csv", "daily.jsonl"):
        out = tmp_path / name
        words = (f"input={raw}", f"output={out}", "append=true")
        scored(run_dir, *words)
        first = out.read_bytes()
        out.write_bytes(first.rstrip(b"\n"))
        scored(run_dir, *words)
        header = first.splitlines()[:1] if name.endswith(".csv") else []
        assert out.read_bytes().splitlines() == first.splitlines() + first.splitlines()[len(header) :]
        out.write_text("name,score\nx,1\n")
        assert "begins with 'name,score', but the columns are id, score" in refused(run_dir, *words)
        assert out.read_text() == "name,score\nx,1\n"
    assert "nothing can be appended to a Parquet file" in refused(
        run_dir, f"input={raw}", "append=true", f"output={tmp_path / 'o.parquet'}"
    )


def test_a_killed_append_is_reported_and_undone(
    run_dir: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "daily.csv"
    words = (f"input={raw}", f"output={out}", "append=true")
    scored(run_dir, *words)
    once = out.read_text()
    # The state after a kill while rows are appended, as test_write_output shows.
    note = {"size": len(once), "tail": hashlib.sha256(once[-4096:].encode()).hexdigest(), "most": len(once) + 99}
    (tmp_path / ".daily.csv.appending").write_text(json.dumps(note))
    out.write_text(f"{once}0,0.1,,\n1,0.")
    scored(run_dir, *words)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"killed while it appended to {out}; the rows that it had written are removed, so score its input again" in said
    )
    assert out.read_text() == once + once.partition("\n")[2]


@pytest.mark.parametrize("append", ["false", "true"])
def test_an_input_that_breaks_off_leaves_the_output_unchanged(
    run_dir: Path, raw: Path, tmp_path: Path, append: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepsad_pl.detector.read_input._NUMBERS", 6 * 50)
    out, broken = tmp_path / "out.csv", tmp_path / "broken.csv.gz"
    scored(run_dir, f"input={raw}", f"output={out}")
    before = out.read_bytes()
    noise = np.random.default_rng(0).normal(size=(20000, 6))
    packed = gzip.compress(pd.DataFrame(noise, columns=COLUMNS).to_csv(index=False).encode())
    broken.write_bytes(packed[: len(packed) // 2])
    told = refused(run_dir, f"input={broken}", f"output={out}", f"append={append}")
    assert f"{broken} cannot be read" in told
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw.csv", "out.csv", "broken.csv.gz"}


def test_a_terminated_process_cleans_up(
    run_dir: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: object, **__: object) -> None:
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out.csv.")]
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("deepsad_pl.detector.score_chunks.score_chunks", terminated)
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        with pytest.raises(SystemExit) as caught, signals_exit():
            scored(run_dir, f"input={raw}", f"output={tmp_path / 'out.csv'}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.code == 143
    assert [*tmp_path.iterdir()] == [raw]


def test_wrong_columns_are_an_error_before_any_row(run_dir: Path, raw: Path, tmp_path: Path) -> None:
    out = f"output={tmp_path / 'out.csv'}"
    frame = pd.read_csv(raw)
    frame.assign(label=1).to_csv(wide := tmp_path / "wide.csv", index=False)
    frame.to_csv(bare := tmp_path / "bare.csv", index=False, header=False)
    assert f"{wide}: it has 7 columns (a, b, c, d, e, f, label)" in refused(run_dir, f"input=[{raw},{wide}]", out)
    assert "has no column names: its first row" in refused(run_dir, f"input={bare}", out)
    assert "no column 'nmae'; correct id" in refused(run_dir, f"input={raw}", out, "id=nmae")
    np.savez(array := tmp_path / "wide.npz", X=np.zeros((9, 7)))
    assert f"{array}: x has the shape (9, 7) and the type float64" in refused(run_dir, f"input=[{raw},{array}]", out)
    assert not (tmp_path / "out.csv").exists()
    assert scored(run_dir, f"input={wide}", out, "drop=[label]").startswith("200 scored")
    assert scored(run_dir, f"input={wide}", out, "id=label").startswith("200 scored")
    assert "scores rows of 6 numbers" in refused(run_dir, f"input={tmp_path}", out)


def test_all_wrong_words_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError) as caught:
        parsed(["inptu=a.csv", "append=maybe", "batch_size=many", "alpha", "threshold.alph=1"])
    told = str(caught.value)
    for part in (
        "no setting inptu of score.py; did you mean input?",
        "append is 'maybe'",
        "batch_size is 'many'",
        "alpha is not key=value",
        "no setting threshold.alph of score.py; did you mean threshold.alpha?",
        "run is not set",
    ):
        assert part in told
    with pytest.raises(DeepSADError, match=r"threshold\.alpha is 7\.0; it must be a number > 0 and < 1"):
        parsed(["run=a", "input=b", "output=c.csv", "threshold.alpha=7"])
    told = refused(tmp_path / "no", f"input={tmp_path}/none.csv", f"output={tmp_path}/no/out.txt")
    assert "run: there is no folder" in told
    assert "input: there is no file or folder" in told
    assert "out.txt has an unknown format; let its name end in one of .csv, .jsonl, .parquet" in told


def test_paths_are_used_as_spelled() -> None:
    words = parsed(["run=1_0", "input=[007.csv, 'a b.csv']", "output=0x1f.csv", "id=null"])
    assert (words.run, words.input, words.output, words.id) == ("1_0", ["007.csv", "a b.csv"], "0x1f.csv", "null")


def test_a_threshold_fills_p_values_and_anomalies(
    run_dir: Path, raw: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(run_dir, tmp_path / "run"))
    np.savez(copied / "detector" / "calibration.npz", score=expected[:99], y=np.zeros(99, int))
    words = (f"input={raw}", f"output={tmp_path / 'out.csv'}")
    for alpha, extra in ((0.05, ()), (0.2, ("threshold.alpha=0.2",))):
        told = scored(copied, *words, *extra)
        found = pd.read_csv(tmp_path / "out.csv")
        p_value = np.array([(1 + (expected[:99] >= s).sum()) / 100 for s in expected])
        assert found["p_value"].to_numpy() == pytest.approx(p_value)
        assert found["anomaly"].tolist() == (p_value <= alpha).astype(int).tolist()
        assert f"{(p_value <= alpha).sum()} anomalies at alpha {alpha:g}" in told
    assert "no threshold" in refused(run_dir, *words, "threshold.alpha=0.2")


def test_training_rows_are_scored(run_dir: Path, expected: np.ndarray, tmp_path: Path) -> None:
    scored(run_dir, "input=train", f"output={tmp_path / 'out.csv'}")
    found = pd.read_csv(tmp_path / "out.csv")
    train = split_rows(read_table(run_dir.parents[3] / "odds" / "thyroid.npz")[1], 0)[0]
    assert 50 < len(found) <= len(train)
    assert found["score"].to_numpy() == pytest.approx(expected[train[found["id"]]], rel=1e-5)


def test_a_folder_of_images_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_image_folder(tmp_path / "photos")
    words = ("dataset=image_folder", f"dataset.root={root}", "dataset.image_size=16", "dataset.channels=3")
    words = (*words, f"data_dir={tmp_path / 'data'}", "scenario.normal_class=zebra", "scenario.anomaly_class=b-side")
    outcome = alone(tmp_path / "runs", *words, "trainer.max_epochs=1", "logger=none", "scenario.gamma_l=0.2")
    out = tmp_path / "out.csv"
    test = sorted((root / "test").rglob("*.*"), key=lambda path: (path.parent.name, path.name))
    scored(outcome.run_dir, f"input={root / 'test'}", f"output={out}")
    found = pd.read_csv(out)
    assert found["path"].tolist() == [str(path) for path in test]
    assert sorted(found["score"]) == pytest.approx(sorted(read_scores(outcome.run_dir)[1]), rel=1e-5)

    new = tmp_path / "new"
    shutil.copytree(root / "test" / "zebra", new)
    (new / "broken.png").write_bytes((new / "000.png").read_bytes()[:60])
    (new / "notes.txt").write_text("no image")
    Image.new("F", (9, 9)).save(new / "deep.tiff")
    capsys.readouterr()
    assert scored(outcome.run_dir, f"input={new}", f"output={out}").startswith("5 scored, 2 could not be scored")
    assert f"{new / 'broken.png'} cannot be scored: cannot be read as an image" in capsys.readouterr().err
    found = pd.read_csv(out).set_index("path")["score"]
    assert found[found.isna()].index.tolist() == [str(new / "broken.png"), str(new / "deep.tiff")]
    before = out.read_bytes()
    assert "the only sample of the input cannot be scored" in refused(
        outcome.run_dir, f"input={new / 'broken.png'}", f"output={out}"
    )
    assert out.read_bytes() == before
    scored(outcome.run_dir, f"input={new}/*.png", f"output={out}")
    assert len(pd.read_csv(out)) == len(list(new.glob("*.png")))
    scored(outcome.run_dir, "input=train", f"output={out}")
    assert str(root / "train" / "zebra" / "000.png") in pd.read_csv(out)["path"].tolist()


def test_the_command_reads_standard_input(run_dir: Path, raw: Path, tmp_path: Path, cli: Cli) -> None:
    import sys

    code = (
        "import runpy, sys\n"
        "sys.argv[0] = sys.argv[1] + '/score.py'\n"
        "sys.path[0] = sys.argv.pop(1)\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print([name for name in ('torchvision', 'scipy.signal', 'matplotlib') if name in sys.modules])"
    )
    words = [sys.executable, "-c", code, str(ROOT), f"run={run_dir}", "input=-", "output=out.csv"]
    done = subprocess.run(
        words, input=raw.read_text(), cwd=tmp_path, env=os.environ, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # What Lightning would import for metrics that nobody computes takes longer than all else.
    assert done.stdout == "200 scored: out.csv\n[]\n"
    assert "200/200" in done.stderr
    assert len(pd.read_csv(tmp_path / "out.csv")) == 200
    done = subprocess.run(
        words, input="a,b\n1,2\n", cwd=tmp_path, env=os.environ, text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "standard input: it has 2 columns" in done.stderr
    assert "Traceback" not in done.stderr
    assert "python score.py run=" in cli("score.py", "--help").stdout
    assert cli("score.py", "--version").stdout.startswith("deepsad_pl ")
