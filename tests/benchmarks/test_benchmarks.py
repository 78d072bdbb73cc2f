"""The benchmarks run and report what they measured; the measured times themselves are not checked."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from benchmarks import plain, score, score_files, shallow, story
from benchmarks.harness import Row, alternate, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.peak import rise
from benchmarks.problems import table
from benchmarks.report import report
from benchmarks.scoring import Case
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import gaussian_kernel, squared_distances
from deepsad_pl.shallow.ssad_solver import solve_ssad


def options_for(out: Path) -> Options:
    return Options("python -m benchmarks.fake", repeats=3, device="cpu", quick=True, out=out, load=0.25)


def test_each_round_begins_with_the_next_case() -> None:
    calls: list[str] = []

    def case(name: str) -> Callable[[], float]:
        def run() -> float:
            calls.append(name)
            return float(len(calls))

        return run

    measured = alternate({name: case(name) for name in "abc"}, repeats=3, warmup=1)
    assert calls == [*"abc", *"bca", *"cab", *"abc"]
    assert measured == {"a": [6.0, 8.0, 10.0], "b": [4.0, 9.0, 11.0], "c": [5.0, 7.0, 12.0]}


def test_seconds_are_those_of_one_run() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.02)

    assert seconds(work) >= 0.02
    assert calls == [1]


@pytest.mark.parametrize(("names", "repeats", "warmup"), [("", 1, 0), ("a", 0, 0), ("a", 1, -1)])
def test_having_nothing_to_measure_is_an_error(names: str, repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="at least 1, 1 and 0"):
        alternate(dict.fromkeys(names, float), repeats=repeats, warmup=warmup)


def test_ratios_compare_medians_and_larger_is_better() -> None:
    measured = {"slow": [8.0, 100.0, 6.0], "fast": [2.0, 1.0, 40.0], "left out": []}
    times = {row.case: row for row in rows("x", measured, baseline="slow", unit="s")}
    assert [row.median for row in times.values()] == [8.0, 2.0, None]
    assert [row.ratio for row in times.values()] == [1.0, 4.0, None]
    rates = rows("x", measured, baseline="slow", unit="1/s", higher_is_better=True)
    assert [row.ratio for row in rates] == [1.0, 0.25, None]
    assert [row.ratio for row in rows("x", measured, baseline="left out", unit="s")] == [None, None, None]
    with pytest.raises(ValueError, match="'none' is none of the cases slow, fast, left out"):
        rows("x", measured, baseline="none", unit="s")


def test_a_report_is_a_markdown_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = {"b": "not run: too long"}
    measured = {"a": [1.0, 3.0, 2.0], "b": [], "c": [4000.0, 5000.0, 1234.5]}
    found = rows("x, n=5", measured, baseline="a", unit="s", notes=notes, more={"a": {"peak MB": 0.5}})
    path = report("fake", found, options=options_for(tmp_path / "new" / "folder"), notes=["A sentence."])
    assert path == tmp_path / "new" / "folder" / "fake.json"
    content = json.loads(path.read_text())
    assert content["command"] == "python -m benchmarks.fake"
    assert content["notes"] == ["A sentence."]
    assert content["machine"]["load"] == 0.25
    assert content["machine"]["gpu"] is None
    assert content["machine"]["cores"] >= 1
    assert [row["values"] for row in content["rows"]] == [[1.0, 3.0, 2.0], [], [4000.0, 5000.0, 1234.5]]
    assert [row["median"] for row in content["rows"]] == [2.0, None, 4000.0]
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert lines[0] == ["", "ratio", "what", "case", "median", "min ... max", "peak MB", "note", ""]
    assert lines[2] == ["", "1", "x, n=5", "a", "2 s", "1 ... 3", "0.5", "", ""]
    assert lines[3] == ["", "", "x, n=5", "b", "not run", "", "", "not run: too long", ""]
    assert lines[4] == ["", "0.0005", "x, n=5", "c", "4,000 s", "1,230 ... 5,000", "", "", ""]


def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    monkeypatch.setattr("benchmarks.options.threadpool_limits", threads.append)
    options, _ = parse(parser("step", "About it.\n\nMore."), ["--threads", "3", "--out", "some where"])
    assert (options.repeats, options.device, options.quick, options.out) == (5, "cpu", False, Path("some where"))
    assert options.command == "python -m benchmarks.step --threads 3 --out 'some where'"
    assert threads == [3, 3]
    assert parse(parser("step", None), ["--quick"])[0].repeats == 2
    assert parse(parser("step", None), ["--quick", "--repeats", "7"])[0].repeats == 7
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for wrong, message in ((["--repeats", "0"], "whole number of at least 1"), (["--device", "cuda"], "no GPU")):
        with pytest.raises(SystemExit):
            parse(parser("step", None), wrong)
        assert message in capsys.readouterr().err


def test_the_plain_ssad_solves_the_same_problem() -> None:
    problem = table(150)
    fit = plain.ssad(problem.x, problem.semi_y, 0.05)
    solution = solve_ssad(gaussian_kernel(squared_distances(problem.x), 0.05), problem.semi_y)
    assert fit.objective() == pytest.approx(solution.objective, rel=1e-4)


def test_the_share_of_anomalies_does_not_depend_on_the_size() -> None:
    for n in (60, 500):
        problem = table(n)
        assert problem.x.shape == (n, 21)
        assert problem.queries.shape == (500, 21)
        assert (problem.semi_y == -1).sum() == round(n / 20)


def test_more_rows_than_the_data_have_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.problems.drawn", lambda n, width: (np.zeros((n, width)), np.zeros((n, width))))
    with pytest.raises(DeepSADError, match="--sizes has 600, but table, D=21 has 600 normal"):
        table(600)


def test_a_plain_fit_that_would_take_too_long_is_not_run() -> None:
    def refuse(problem: object, candidates: object) -> plain.Fit:
        raise AssertionError("it was run")

    method = shallow.Method("SSAD", "cvxopt", 3, shallow.METHODS[2].ours, refuse, shallow.GAMMAS, lambda problem: 0.05)
    left_out, ours = shallow.compare(method, table(60), [0.05], expected=61.0, longest=60.0, repeats=2)
    assert (left_out.case, left_out.values, left_out.ratio) == ("cvxopt", (), None)
    assert left_out.note == "not run: about 61 s a fit, --longest is 60"
    assert (ours.case, len(ours.values), ours.ratio) == ("ours", 2, None)


def test_peak_memory_includes_what_a_case_frees_again() -> None:
    def take() -> np.ndarray[Any, Any]:
        return np.ones(40 * 2**17)[:1].copy()

    found = rise(Case(1, take), "cpu")
    if found is None:
        pytest.skip("this system does not tell")
    assert 30 < found < 60


@pytest.mark.usefixtures("forked_commands")
@pytest.mark.parametrize(("main", "name"), [(shallow.main, "shallow"), (score.main, "score")])
def test_a_quick_run_reports_what_it_measured(
    main: Callable[[Sequence[str]], Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = main(["--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    assert path == tmp_path / f"{name}.json"
    found = json.loads(path.read_text())["rows"]
    medians = {(row["what"], row["case"]): row["median"] for row in found}
    assert len(medians) == len(found) == (48 if name == "shallow" else 6)
    shown = capsys.readouterr().out
    for row in found:
        assert row["median"] == median(row["values"]) > 0
        own, other = row["median"], medians[row["what"], row["baseline"]]
        assert row["ratio"] == pytest.approx(own / other if name == "score" else other / own)
        assert f" {row['what']} " in shown
        if row["case"] != row["baseline"]:
            assert row["more"]["scores"] < (1e-2 if "SSAD" in row["what"] and name == "shallow" else 1e-3)
        if name == "score":
            assert row["more"]["peak MB"] == "unknown" or row["more"]["peak MB"] >= 0


def test_a_row_without_values_has_no_median() -> None:
    assert Row("x", "a", "s", "a").median is None


@pytest.mark.slow
def test_the_story_benchmark_reports_all_steps_from_table_to_decisions(tmp_path: Path) -> None:
    content = json.loads(
        story.main(["--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]).read_text()
    )
    train, score = content["rows"]
    assert (train["case"].split(":")[0], score["case"].split(":")[0]) == ("train.py", "score.py")
    assert "pretrain" in train["more"]["inside"] and "fit" in train["more"]["inside"]
    assert "false alarms" in score["more"]["outcome"]


@pytest.mark.slow
def test_score_py_is_compared_with_a_loop_over_the_same_network(tmp_path: Path) -> None:
    content = json.loads(score_files.main(["--quick", "--threads", "1", "--out", str(tmp_path)]).read_text())
    cases = {(row["what"].split(",")[0], row["case"]): row for row in content["rows"]}
    ways = [("table", f"score.py, .{kind}") for kind in ("csv", "parquet", "npz")] + [("images", "score.py, .png")]
    assert [*cases] == [("table", "loop"), *ways[:3], ("images", "loop"), ways[3]]
    for (what, _), row in cases.items():
        assert row["ratio"] == pytest.approx(row["median"] / cases[what, "loop"]["median"])
