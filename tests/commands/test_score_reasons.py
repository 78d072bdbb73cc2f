"""``score.py explain=true``: the strongest columns beside each row's score, and heat maps of images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored import scored
from tiny_data import write_image_folder

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector.reasons import heat_map, reasons_of

REASONS = [f"reason_{place}" for place in range(1, 6)]
# A name that CSV must quote.
ODD = 'speed, "max"'


def table(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=[ODD, "load", "heat"])
    return frame.assign(color=rng.choice(["red", "blue"], rows))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    table(200, 0).to_csv(tmp_path / "train.csv", index=False)
    overrides = [f"dataset.path={tmp_path / 'train.csv'}", "trainer.max_epochs=2", "logger=none"]
    return deepsad_pl.run("deep_sad", "table", overrides, output_dir=tmp_path / "runs").run_dir


def test_reasons_are_the_columns_that_contribute_most(run_dir: Path, tmp_path: Path) -> None:
    new = table(20, 1).astype({"load": object})
    new.loc[4, "load"] = "oops"
    new.to_csv(tmp_path / "new.csv", index=False)
    assert scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={tmp_path / 'a.csv'}", "explain=true").startswith(
        "19 scored, 1 could not be scored"
    )
    found = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(found) == ["id", "score", "p_value", "anomaly", *REASONS]
    assert found.loc[4, REASONS].tolist() == [""] * 5
    kept = new.drop(index=4).astype({"load": float})
    contributions = deepsad_pl.load(run_dir).explain(kept)
    assert isinstance(contributions, pd.DataFrame)
    for row, told in zip(contributions.to_dict("records"), found.drop(index=4)[REASONS].to_numpy(), strict=True):
        strongest = sorted(((value, name) for name, value in row.items() if value > 0), reverse=True)
        names = [one.rpartition(" ")[0] for one in told if one]
        assert names == [name for _, name in strongest]
        values = [float(one.rpartition(" ")[2]) for one in told if one]
        assert values == pytest.approx([value for value, _ in strongest], rel=1e-3, abs=1e-6)


def test_all_formats_have_the_reasons(run_dir: Path, tmp_path: Path) -> None:
    table(5, 1).to_csv(tmp_path / "new.csv", index=False)
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={tmp_path / name}", "explain=true")
    first = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)[REASONS]
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert pd.DataFrame(lines)[REASONS].equals(first)
    assert pd.read_parquet(tmp_path / "a.parquet")[REASONS].astype(object).equals(first.astype(object))
    scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={tmp_path / 'a.csv'}", "explain=true", "append=true")
    assert len(pd.read_csv(tmp_path / "a.csv")) == 10
    with pytest.raises(DeepSADError, match="but the columns are id, score, p_value, anomaly; choose another file"):
        scored(run_dir, f"input={tmp_path / 'new.csv'}", f"output={tmp_path / 'a.csv'}", "append=true")


def test_images_get_heat_maps(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "photos", {"train": {"good": 30, "bad": 8}, "test": {"good": 8, "bad": 8}})
    overrides = [f"dataset.root={tmp_path / 'photos'}", "dataset.image_size=16", "logger=none"]
    overrides += ["trainer.max_epochs=1", "dataset.network.filters=[4]", "dataset.network.dense=[4]"]
    run = deepsad_pl.run(
        "deep_sad", "image_folder", overrides, normal_class="good", anomaly_class="bad", output_dir=tmp_path / "runs"
    )
    new, out = tmp_path / "photos" / "test" / "good", tmp_path / "a.csv"
    (new / "broken.png").write_bytes(b"no image")
    words = (f"input={new}", f"output={out}", "explain=true")
    scored(run.run_dir, *words)
    found = pd.read_csv(out, keep_default_na=False)
    assert list(found) == ["path", "score", "p_value", "anomaly", "heat_map"]
    for row in found.to_dict("records"):
        if row["path"].endswith("broken.png"):
            assert row["heat_map"] == ""
            continue
        path = Path(row["heat_map"])
        assert path.parent == tmp_path / "a-heat_maps" and path.name.startswith(Path(row["path"]).stem)
        # Two pictures of 16 pixels, ten times as large, with a line between them.
        assert Image.open(path).size == (330, 160)
    assert len(list((tmp_path / "a-heat_maps").iterdir())) == len(found) - 1
    scored(run.run_dir, *words, f"heat_maps={tmp_path / 'maps'}")
    assert len(list((tmp_path / "maps").iterdir())) == len(found) - 1
    # The next run would score them as images.
    for place in ("photos", "photos/**/*.png"):
        with pytest.raises(DeepSADError, match=r"the heat maps would be in .*, below the input .*; give heat_maps="):
            scored(run.run_dir, f"input={tmp_path / place}", f"output={new / 'a.csv'}", "explain=true")
    assert not (new / "a.csv").exists() and not (new / "a-heat_maps").exists()


def test_requests_that_cannot_be_explained_are_refused_before_any_row(run_dir: Path, tmp_path: Path) -> None:
    table(5, 1).to_csv(tmp_path / "new.csv", index=False)
    words = [f"input={tmp_path / 'new.csv'}", f"output={tmp_path / 'a.csv'}"]
    with pytest.raises(DeepSADError, match="heat_maps is set, but there are none without explain=true"):
        scored(run_dir, *words, "heat_maps=maps")
    with pytest.raises(DeepSADError, match="heat_maps is set, but the run scores rows of a table"):
        scored(run_dir, *words, "heat_maps=maps", "explain=true")
    assert not (tmp_path / "a.csv").exists()


def test_reasons_are_the_columns_that_raise_the_score() -> None:
    found = reasons_of(list("abcdef"), np.array([[1.0, 2, 3, 4, 5, 6], [-1, -2, 0.5, 0, -3, -4]]))
    assert [column[0] for column in found] == ["f +6", "e +5", "d +4", "c +3", "b +2"]
    assert [column[1] for column in found] == ["c +0.5", "", "", "", ""]


def test_a_heat_map_shows_the_image_beside_contributions_in_red_and_blue() -> None:
    pixels, contributions = np.zeros((1, 4, 4)), np.zeros((4, 4))
    pixels[0, 0, 0] = 1
    contributions[1, 1], contributions[2, 2] = 3, -3
    image = np.asarray(heat_map(pixels, contributions))[20::40, 20::40].astype(int)
    assert image.shape == (4, 9, 3)
    assert image[0, 0].tolist() == [255] * 3 and image[3, 3].tolist() == [0] * 3
    red, blue = image[1, 6], image[2, 7]
    assert red[0] > red[2] + 100 and blue[2] > blue[0] + 100
    assert np.ptp(image[3, 8]) < 5
