"""What a report says about its results: other settings, test-informed cells, and numbers of experiments."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_rows import AXES, lines_of, row

from deepsad_pl.report import Report, write_report
from deepsad_pl.report.cells import BEST_VARIANT, LEARNING_RATE, SELECTION, SETTING
from deepsad_pl.report.show_report import show_report

RUN_WITH = ["trainer.max_epochs=10", "method.lr=[0.001,0.0001]"]
TOLD = " ".join(RUN_WITH)


def rows() -> list[dict[str, Any]]:
    """Two variants of Deep SVDD, an OC-SVM that used test labels, and a Deep SAD with rates chosen on test data."""
    made = []
    for seed in range(3):
        made += [
            row("ocsvm_raw", 0.05, 0.8 + seed / 100, seed=seed, protocol="test_subset"),
            row("ssad_raw", 0.05, 0.7 + seed / 100, seed=seed, protocol="holdout"),
            row("deep_svdd", 0.05, 0.75 + seed / 100, seed=seed),
            row("deep_svdd", 0.05, 0.74 + seed / 100, seed=seed, variant="soft_boundary_svdd"),
            row("deep_sad", 0.05, 0.9 + seed / 100, seed=seed, lr_from_test=True),
            row("classifier", 0.05, 0.6 + seed / 100, seed=seed),
        ]
    return made


def texts(path: Path) -> str:
    # Long lines are broken.
    return " ".join("\n".join(ET.parse(path).getroot().itertext()).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    results = pd.DataFrame(rows())
    return write_report(folder, results, name="x", title="x", axes=AXES, run_with=RUN_WITH, with_paper=False)


def test_other_settings_are_named_in_every_file_and_on_the_console(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    show_report(report)
    assert f"run with {TOLD}" in capsys.readouterr().out
    plain = (report.folder / "table.md").read_text().replace("\\_", "_")
    assert f"run with {TOLD}, unlike the study's own settings, so the paper's figures are left out." in plain
    assert TOLD in (report.folder / "table.tex").read_text().replace("\\_", "_")
    for name in ("figure", "scatter"):
        assert f"run with {TOLD}" in texts(report.folder / f"{name}.svg")
    for name, frame in report.frames().items():
        assert set(frame["run_with"]) == {TOLD}, name
    assert all(cell.paper is None for cell in report.cells)


def test_settings_that_keep_results_comparable_keep_the_papers_figures(tmp_path: Path) -> None:
    results = pd.DataFrame(rows())
    made = write_report(tmp_path, results, name="x", title="x", axes=AXES, run_with=["recipe=paper"])
    assert "The experiments were run with recipe=paper, unlike the study's own settings." in made.notes
    assert any(cell.paper for cell in made.cells)


def test_a_study_with_its_own_settings_has_no_note(tmp_path: Path) -> None:
    made = write_report(tmp_path, pd.DataFrame(rows()), name="x", title="x", axes=AXES)
    assert not any("run with" in note for note in made.notes)
    assert "run with" not in texts(tmp_path / "figure.svg") + texts(tmp_path / "scatter.svg")
    assert {line["run_with"] for line in lines_of(tmp_path / "table.csv")} == {""}


def test_cells_say_how_they_used_test_labels(report: Report) -> None:
    assert {cell.column: cell.test_informed for cell in report.cells} == {
        "ocsvm_raw": (SELECTION,),
        "ssad_raw": (),
        "deep_svdd": (BEST_VARIANT,),
        "deep_sad": (LEARNING_RATE,),
        "classifier": (),
    }
    lines = {line["column"]: line["test_informed"] for line in lines_of(report.folder / "table.csv")}
    assert lines == {c.column: ", ".join(c.test_informed) for c in report.cells}
    assert lines["deep_svdd"] == "best_variant"


def test_a_setting_that_was_chosen_on_test_data_is_marked(tmp_path: Path) -> None:
    results = [row("ss_dgm", 0.05, 0.8 + i / 100, seed=i, variant="ss_dgm_m2", setting_from_test=i < 2) for i in (0, 1)]
    made = write_report(tmp_path, pd.DataFrame(results), name="x", title="x", axes=AXES)
    assert [cell.test_informed for cell in made.cells] == [(SETTING,)]
    assert any("a default setting of SS-DGM was chosen knowing AUROC on test data" in note for note in made.notes)


def test_the_mark_follows_the_result_in_every_table_and_figure(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    show_report(report)
    for text in (capsys.readouterr().out, (report.folder / "table.md").read_text()):
        for figure, marked in (
            ("81.0 ± 1.0", True),
            ("71.0 ± 1.0", False),
            ("76.0 ± 1.0", True),
            ("61.0 ± 1.0", False),
        ):
            assert (f"{figure}†" in text) == marked
            assert figure in text
    assert "**91.0 ± 1.0**†" in (report.folder / "table.md").read_text()
    assert r"\textbf{91.0 $\pm$ 1.0}\rlap{$^{\dagger}$}" in (report.folder / "table.tex").read_text()
    drawn = texts(report.folder / "figure.svg")
    for name in ("OC-SVM Raw†", "Deep SVDD†", "Deep SAD†", "test-informed"):
        assert name in drawn
    assert "SSAD Raw†" not in drawn
    assert "Supervised Classifier†" not in drawn
    points = texts(report.folder / "scatter.svg")
    for name in ("Deep SAD†", "OC-SVM Raw†", "† test-informed"):
        assert name in points


def test_one_note_explains_the_mark_reason_by_reason(report: Report) -> None:
    (note,) = [note for note in report.notes if note.startswith("†")]
    for told in (
        "Deep SVDD shows the variant with the best test AUROC",
        "the hyper-parameters of OC-SVM Raw were selected with test labels",
        "the default learning rates of mnist (in Deep SAD) were chosen by AUROC on test data",
    ):
        assert told in note


def test_the_star_follows_the_mark(tmp_path: Path) -> None:
    many = [row("deep_sad", 0.05, 0.9 + i / 1000, seed=i, lr_from_test=True) for i in range(8)]
    many += [row("classifier", 0.05, 0.8, seed=i) for i in range(8)]
    write_report(tmp_path, pd.DataFrame(many), name="x", title="x", axes=AXES)
    assert "**90.4 ± 0.2**†\\*" in (tmp_path / "table.md").read_text()
    assert r"\rlap{$^{\dagger*}$}" in (tmp_path / "table.tex").read_text()


def test_an_unfinished_variant_is_not_chosen(tmp_path: Path) -> None:
    one = [row("deep_svdd", 0.05, 0.8), row("deep_svdd", 0.05, None, variant="soft_boundary_svdd")]
    made = write_report(tmp_path, pd.DataFrame(one), name="x", title="x", axes=AXES)
    assert [cell.test_informed for cell in made.cells] == [()]
    assert not any(note.startswith("†") for note in made.notes)


def test_n_is_the_requested_number_with_the_papers_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [row("deep_sad", 0.05, 0.9, seed=i, paper_n=90) for i in range(27)]
    asked += [row("classifier", 0.05, 0.8 if i > 1 else None, seed=i, paper_n=90) for i in range(27)]
    asked += [row("cae", 0.05, 0.7, seed=i, paper_n=27) for i in range(27)]
    asked += [row("my_method", 0.05, 0.6, seed=i, paper_n=90) for i in range(27)]
    made = write_report(tmp_path, pd.DataFrame(asked), name="x", title="x", axes=AXES)
    table = (tmp_path / "table.md").read_text()
    counts = [text.strip() for line in table.splitlines() if "n 27" in line for text in line.split("|")]
    assert [text for text in counts if text] == ["n 27", "n 27, paper 90", "n 25 of 27, paper 90", "n 27"]
    assert "1 of 4 cells is incomplete" in table
    assert "n also shows their number of experiments" in table
    lines = lines_of(tmp_path / "table.csv")
    assert [line["paper_n"] for line in lines] == ["27", "90", "90", ""]
    show_report(made)
    assert capsys.readouterr().out.count("paper 90") == 2
