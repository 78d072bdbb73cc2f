"""What a report says about a sample of a study: standard errors, and whether the paper's means lie within two."""

import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_rows import AXES, lines_of, row

from deepsad_pl.report import Cell, Report, write_report
from deepsad_pl.report.show_report import show_report

SAMPLE = "A sample of the study: 10 of 90 pairs."
# Deep SAD's figure in the paper at gamma_l .05 on MNIST is 96.7; the mean of these is .967.
OURS = [0.967 + step / 1000 for step in (-9, -7, -5, -3, -1, 1, 3, 5, 7, 9)]
SE = 100 * statistics.stdev(OURS) / 10**0.5


def cells(column: str, values: list[float], population: int | None, **more: Any) -> list[dict[str, Any]]:
    """An experiment for each value, each with its own normal and known class."""
    return [
        row(column, 0.05, value, **{"normal_class": str(n), "anomaly_class": f"known {n}", "paper_n": 90, **more})
        | {"population": population}
        for n, value in enumerate(values)
    ]


def report_of(folder: Path, *rows: list[dict[str, Any]], **more: Any) -> Report:
    results = pd.DataFrame([one for part in rows for one in part]).astype({"population": "Int64"})
    return write_report(folder, results, name="x", title="x", axes=AXES, **more)


def cell_of(*rows: list[dict[str, Any]], folder: Path) -> Cell:
    (found,) = report_of(folder, *rows).cells
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    near, below = cells("deep_sad", OURS, 90), cells("classifier", [value - 0.2 for value in OURS], 90)
    above = cells("ssad_raw", [value + 0.02 for value in OURS], 90)
    own = cells("my_method", OURS, 90)
    return report_of(tmp_path_factory.mktemp("sample"), near, below, above, own, notes=[SAMPLE])


def test_a_sample_has_the_corrected_standard_error_and_a_complete_cell_the_plain_one(tmp_path: Path) -> None:
    assert cell_of(cells("deep_sad", OURS, 90), folder=tmp_path).error == pytest.approx(SE * (1 - 10 / 90) ** 0.5)
    assert cell_of(cells("deep_sad", OURS, None), folder=tmp_path).error == pytest.approx(SE)
    assert cell_of(cells("deep_sad", OURS, 10), folder=tmp_path).error == pytest.approx(SE)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([cells("deep_sad", OURS, 90), cells("deep_sad", OURS, None, seed=1)], id="half of it sampled"),
        pytest.param([cells("deep_sad", OURS[:1], 90)], id="a single experiment"),
        pytest.param([cells("deep_sad", [*OURS, None], 90)], id="unfinished"),  # type: ignore[list-item]
        pytest.param([cells("deep_sad", OURS, None, normal_class="0")], id="a single normal class"),
        pytest.param([cells("deep_sad", OURS, 9)], id="commands that were narrowed differently"),
    ],
)
def test_other_cells_have_none(rows: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    found = report_of(tmp_path, *rows)
    assert [line["standard_error"] for line in lines_of(tmp_path / "table.csv")] == [""]
    assert found.cells[0].verdict is None
    assert not any("SE" in note for note in found.notes)


def test_seeds_of_a_pair_are_no_further_draws(tmp_path: Path) -> None:
    """Ten of 90 pairs with two seeds each: the means of the pairs are the sample."""
    offsets = (-0.004, 0.004)
    rows = [cells("deep_sad", [value + by for value in OURS], 90, seed=seed) for seed, by in enumerate(offsets)]
    (found,) = report_of(tmp_path, *rows).cells
    assert (found.n, found.pairs) == (20, 10)
    assert found.error == pytest.approx(SE * (1 - 10 / 90) ** 0.5)
    assert found.verdict == "within 2 SE"
    assert any("has several seeds" in note for note in report_of(tmp_path, *rows).notes)
    # Where the seed draws the known classes, each seed is a draw.
    drawn = [[one | {"anomaly_class": None, "seed_draws": True} for one in part] for part in rows]
    (found,) = report_of(tmp_path, *drawn).cells
    by_hand = statistics.stdev(100 * (value + by) for by in offsets for value in OURS) / 20**0.5
    assert found.error == pytest.approx(by_hand * (1 - 20 / 90) ** 0.5)


def test_samples_of_different_classes_have_no_common_standard_error(tmp_path: Path) -> None:
    halves = [cells("deep_sad", OURS, 45, drawn_from=name, seed=seed) for seed, name in enumerate(("low", "high"))]
    assert report_of(tmp_path, *halves).cells[0].error != report_of(tmp_path, halves[0]).cells[0].error
    (found,) = report_of(tmp_path, *halves).cells
    assert found.error != found.error and found.verdict is None


def test_other_classes_than_the_papers_have_no_verdict(tmp_path: Path) -> None:
    """Five normal classes with two seeds are as many experiments as the paper's, but not these."""
    own = cells("deep_sad", OURS, 90, as_paper=True)
    assert cell_of(own, folder=tmp_path).verdict == "within 2 SE"
    assert cell_of([{**one, "as_paper": False} for one in own], folder=tmp_path).verdict is None


def test_results_without_the_column_have_none(tmp_path: Path) -> None:
    results = pd.DataFrame(cells("deep_sad", OURS, 90)).drop(columns="population")
    found = write_report(tmp_path, results, name="x", title="x", axes=AXES)
    assert lines_of(tmp_path / "table.csv")[0]["standard_error"] == ""
    assert found.cells[0].verdict is None


def test_the_verdict_is_about_the_experiments_of_the_paper(tmp_path: Path) -> None:
    """Of a study narrowed to some classes, the mean is not comparable to the paper's over all of them."""
    assert cell_of(cells("deep_sad", OURS, 90), folder=tmp_path).verdict == "within 2 SE"
    assert cell_of(cells("deep_sad", OURS, 18), folder=tmp_path).verdict is None
    assert cell_of(cells("deep_sad", OURS, None), folder=tmp_path).verdict is None
    assert cell_of(cells("deep_sad", OURS, None, paper_n=10), folder=tmp_path).verdict == "within 2 SE"


def test_every_table_has_the_errors_and_the_verdicts(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    found = {cell.column: cell.verdict for cell in report.cells}
    assert found == {"deep_sad": "within 2 SE", "classifier": "below", "ssad_raw": "above", "my_method": None}
    error = SE * (1 - 10 / 90) ** 0.5
    lines = {line["column"]: line for line in lines_of(report.folder / "table.csv")}
    assert lines["deep_sad"]["standard_error"] == f"{error:.4f}"
    assert {name: (line["population"], line["verdict"]) for name, line in lines.items()} == {
        name: ("90", verdict or "") for name, verdict in found.items()
    }
    show_report(report)
    for text in ((report.folder / "table.md").read_text(), capsys.readouterr().out):
        assert text.count(f"SE {error:.2f}") == 4
        assert "(96.7 ± 2.4) ≈" in text
        assert "(94.5 ± 4.6) ↓" in text
        assert "(93.3 ± 3.6) ↑" in text
    latex = (report.folder / "table.tex").read_text()
    assert f"{{\\scriptsize SE {error:.2f}}}" in latex
    for paper in (r"(96.7 $\pm$ 2.4) $\approx$", r"(94.5 $\pm$ 4.6) $\downarrow$", r"(93.3 $\pm$ 3.6) $\uparrow$"):
        assert f"{{\\scriptsize {paper}}}" in latex
    assert "≈" not in latex


def test_the_notes_say_that_it_is_a_sample_and_explain_the_marks(report: Report) -> None:
    assert report.notes[0] == SAMPLE
    assert f"- {SAMPLE}" in (report.folder / "table.md").read_text()
    (note,) = [note for note in report.notes if note.startswith("SE ")]
    assert "standard deviation / √n · √(1 - n/N) for a sample of N = 90" in note
    assert any("↓ ours is below it" in note for note in report.notes)


def test_the_note_on_complete_cells_has_no_correction(tmp_path: Path) -> None:
    (note,) = [n for n in report_of(tmp_path, cells("deep_sad", OURS, None)).notes if n.startswith("SE ")]
    assert "standard deviation / √n;" in note


def test_an_own_metric_has_errors_in_its_own_unit(tmp_path: Path) -> None:
    rows = [{**one, "loss": 1234.5 + n} for n, one in enumerate(cells("deep_sad", OURS, None))]
    report_of(tmp_path, rows, metric="loss")
    assert "| SE 0.9574" in (tmp_path / "table.md").read_text()
