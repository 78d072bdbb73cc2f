"""`make reproduce`: its queue is valid; it is stopped and goes on from the CSV files alone; pages come from these."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from processes import ROOT
from studies import STUDIES, planner, study_of

from benchmarks.reproduce import main
from benchmarks.reproduce_pages import beside_paper, parts_to_show
from benchmarks.reproduce_queue import QUEUE, Step, chosen_steps, read_queue
from benchmarks.reproduce_rows import whole_step
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.settings.about import own
from deepsad_pl.study.result_rows import read_rows

# The command stops here long before an experiment could begin.
INSTANT = 1e-6


def command(folder: Path, *words: str) -> list[str]:
    paths = ("--queue", f"{folder}/queue.yaml", "--results", f"{folder}/results", "--figures", f"{folder}/figures")
    own_words = ("trainer=cpu", "trainer.threads=1", "hydra/launcher=basic")
    return [sys.executable, "-m", "benchmarks.reproduce", *paths, "--output-dir", f"{folder}/runs", *own_words, *words]


def write_queue(folder: Path, *steps: dict[str, object]) -> None:
    (folder / "queue.yaml").write_text(yaml.safe_dump([*steps]))


def tiny(results: str, methods: list[str], **changed: object) -> dict[str, object]:
    axes = {"gamma_l": [0.05]}
    step = {"results": results, "study": "labeled_anomalies", "dataset": "digits", "methods": methods, "axes": axes}
    return {**step, "sample": 4, **changed}


def test_the_queue_has_the_required_studies_first() -> None:
    steps = read_queue(QUEUE)
    required = steps[:7]
    methods = {
        *("deep_sad", "deep_svdd", "autoencoder", "classifier", "ssad_raw", "ssad_hybrid", "ocsvm_raw"),
        *("ocsvm_hybrid", "kde_raw", "iforest_raw", "knn_ratio_raw"),
    }

    def cells(name: str) -> set[tuple[str, float, int | None]]:
        parts = [step for step in required if step.results == name]
        return {
            (method, value, step.sample)
            for step in parts
            for values in step.axes.values()
            for method in step.methods
            for value in values
        }

    assert cells("mnist_labeled_anomalies") == {(m, v, 10) for m in methods for v in (0.0, 0.05, 0.2)}
    assert cells("fmnist_labeled_anomalies") == {(m, 0.05, 10) for m in methods}
    three = ("deep_sad", "deep_svdd", "ssad_hybrid")
    assert cells("mnist_pollution") == {(m, 0.1, 5) for m in three}
    assert cells("mnist_anomaly_classes") == {(m, 5, 5) for m in three}


@pytest.mark.parametrize("step", [*dict.fromkeys(step.results for step in read_queue(QUEUE))])
def test_each_step_is_a_valid_command(step: str) -> None:
    for one in chosen_steps(read_queue(QUEUE), step):
        assert one.study in STUDIES and one.dataset in own("dataset")
        assert {*one.methods} <= {*own("method")} and {*one.axes} == {*study_of(one.study).axes}
        if one.needs is not None:
            continue
        # One known class of one normal class is enough to see whether the settings exist.
        fields = {"datasets": [one.dataset], "methods": [*one.methods], "axes": one.axes, "seeds": [0]}
        with planner(*one.words) as made:
            assert made.plan(study_of(one.study, **fields, normal_classes=[0]), {}).unique


def test_steps_of_a_file_share_their_settings() -> None:
    by_file: dict[str, set[tuple[object, ...]]] = {}
    for step in read_queue(QUEUE):
        by_file.setdefault(step.results, set()).add((step.study, step.dataset, step.words, step.seeds, step.needs))
    assert all(len(settings) == 1 for settings in by_file.values())


def test_studies_are_chosen_by_name() -> None:
    steps = read_queue(QUEUE)
    assert {step.results for step in chosen_steps(steps, "eta,fmnist_pollution")} == {"mnist_eta", "fmnist_pollution"}
    assert chosen_steps(steps, None) == steps
    with pytest.raises(DeepSADError, match="there is no study Eta in the queue; choose from mnist_labeled"):
        chosen_steps(steps, "Eta")


def test_a_wrong_queue_is_an_error(tmp_path: Path) -> None:
    write_queue(tmp_path, tiny("digits", ["iforest_raw"], samples=5))
    with pytest.raises(DeepSADError, match="a step has samples; it may have axes, dataset"):
        read_queue(tmp_path / "queue.yaml")


def test_a_step_without_its_data_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_queue(tmp_path, tiny("digits", ["iforest_raw"], needs="a-folder-that-is-not-there"))
    assert main(command(tmp_path)[3:]) == 0
    assert "left out: the data folder has no folder a-folder-that-is-not-there" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_ctrl_c_ends_it_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    write_queue(tmp_path, tiny("digits", ["iforest_raw"]))
    monkeypatch.setattr("benchmarks.reproduce.run_step", interrupted)
    assert main(command(tmp_path)[3:]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().out


def test_pages_tell_the_data_folder_by_its_setting(tmp_path: Path) -> None:
    """Not by its path on the machine that made them."""
    step = Step("r", "eta", "image_folder", ("deep_sad",), {"eta": [1.0]}, 5, ("dataset.root=${data_dir}/x",))
    assert step.chosen[-1] == "dataset.root=${data_dir}/x"
    for page in (ROOT / "docs" / "results").glob("*.md"):
        assert not re.search(r"=\S*/(tmp|home|work|root)\b", page.read_text(encoding="utf-8")), page


def test_a_page_shows_each_cell_with_its_largest_complete_sample() -> None:
    small = Step("r", "labeled_anomalies", "mnist", ("deep_sad", "ssad_raw", "classifier"), {"gamma_l": [0.05]}, 5)
    steps = [small, replace(small, sample=10), replace(small, results="other", sample=20)]
    finished = {"deep_sad": 90, "ssad_raw": 84, "classifier": 4}
    cells = [
        {"variant": method, "borrowed": None, "column": method, "gamma_l": 0.05, "experiment": n, "finished": n < done}
        for method, done in finished.items()
        for n in range(90)
    ]
    found = parts_to_show(replace(small, sample=None), steps, pd.DataFrame(cells))
    assert {(part.methods, part.sample) for part in found} == {(("deep_sad",), None), (("ssad_raw",), 10)}


def test_a_sample_of_pairs_is_complete_with_all_seeds() -> None:
    step = Step("r", "labeled_anomalies", "mnist", ("deep_sad",), {"gamma_l": [0.05]}, 5, seeds=(0, 1, 2))
    assert "seed=0,1,2" in step.chosen and str(step).endswith("5 pairs with seeds 0, 1, 2")
    rows = [{"variant": "deep_sad", "borrowed": None, "column": "deep_sad", "gamma_l": 0.05} for _ in range(270)]

    def sizes(done: int) -> list[int | None]:
        cells = pd.DataFrame([{**row, "experiment": n, "finished": n < done} for n, row in enumerate(rows)])
        return [part.sample for part in parts_to_show(step, [step, replace(step, sample=10)], cells)]

    assert sizes(14) == [] and sizes(15) == sizes(29) == [5] and sizes(30) == [10] and sizes(270) == [None]


@pytest.mark.slow
def test_a_page_over_several_seeds_averages_them_first(tmp_path: Path) -> None:
    write_queue(tmp_path, tiny("digits_seeds", ["knn_ratio_raw"], seeds=[0, 1]))
    assert main(command(tmp_path)[3:]) == 0
    assert {row["seed"] for row in read_rows(tmp_path / "results" / "digits_seeds.csv")} == {"0", "1"}
    text = (tmp_path / "results" / "digits_seeds.md").read_text()
    assert "`python sweep.py study=labeled_anomalies dataset=digits seed=0,1`" in text
    assert "n 8" in text and "SE is over pairs, not over experiments" in text


def test_the_paper_stands_beside_results_of_data_in_another_order(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    head = "dataset,gamma_l,column,mean,std,standard_error,n,paper_mean,run_with\n"
    ours = "fmnist,0.05,deep_sad,93.0,5.7,1.0,10,,data other than the published fmnist\n"
    table.write_text(head + ours)
    told = beside_paper(table, ["gamma_l"])
    assert told is not None
    assert re.search(r"\| 0.05 +\| Deep SAD +\| 93.0 ± 5.7 +\| 1.00 +\| 10 +\| 90.5 ± 6.5 +\| above", told)
    table.write_text(head + ours.replace("data other than the published fmnist", "method.eta=30"))
    assert beside_paper(table, ["gamma_l"]) is None
    table.write_text(head + ours.replace(",,data", ",90.5,data"))
    assert beside_paper(table, ["gamma_l"]) is None


@pytest.mark.slow
def test_a_stopped_queue_goes_on_from_the_files_alone(tmp_path: Path) -> None:
    words = ["trainer.max_epochs=20"]
    write_queue(
        tmp_path,
        tiny("digits_deep", ["deep_sad"], sample=8, words=words),
        tiny("digits_shallow", ["iforest_raw", "knn_ratio_raw"]),
    )
    csv = tmp_path / "results" / "digits_deep.csv"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    hours = subprocess.run(
        command(tmp_path, "--hours", str(INSTANT)), cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert hours.returncode == 0 and "stopped after 1e-06 hours" in hours.stdout, hours.stdout + hours.stderr
    assert not csv.exists() or read_rows(csv) == []

    with subprocess.Popen(command(tmp_path), cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while not (csv.exists() and read_rows(csv)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    before = read_rows(csv)
    assert 0 < len(before) < 8

    shutil.rmtree(tmp_path / "runs")
    done = subprocess.run(command(tmp_path), cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_rows(csv)
    assert len(after) == 8 and [row for row in after if row in before] == before
    trained = [
        json.loads(path.read_text())["hash"] for path in (tmp_path / "runs/digits/deep_sad").rglob("metrics.json")
    ]
    assert {*trained} == {row["hash"] for row in after} - {row["hash"] for row in before}
    shallow = {row["method"] for row in read_rows(tmp_path / "results/digits_shallow.csv")}
    assert shallow == {"iforest_raw", "knn_ratio_raw"}

    page = tmp_path / "results" / "digits_shallow.md"
    text = page.read_text()
    assert "kNN Ratio" in text and "known | novel" in text and "(../figures/digits_shallow.png)" in text
    page.unlink()
    shutil.rmtree(tmp_path / "figures")
    assert main(command(tmp_path, "--pages")[3:]) == 0
    assert page.read_text() == text and (tmp_path / "figures" / "digits_shallow.png").exists()


def test_counts_of_the_queue_stay_whole_numbers() -> None:
    steps = [one for one in read_queue(QUEUE) if one.results == "mnist_anomaly_classes"]
    step = whole_step("mnist_anomaly_classes", steps, ROOT / "docs" / "results" / "mnist_anomaly_classes.csv")
    assert step is not None
    assert {type(value) for value in step.axes["k_l"]} == {int}
