"""The report of a study against means and tests computed by hand, and against the paper's own tables."""

import re
import shutil
import statistics
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from processes import ROOT
from report_rows import AXES, lines_of, row
from rich.console import Console
from scipy.stats import wilcoxon

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report import Cell, Report, write_report
from deepsad_pl.report.columns import in_order
from deepsad_pl.report.reference import paper_cell, paper_lines
from deepsad_pl.report.show_report import show_report
from deepsad_pl.report.significance import compare, paired
from deepsad_pl.settings.about import own_columns

TABLES = ("table.md", "table.csv", "table.tex", "tests.csv", "results.csv")
FILES = (*TABLES, "report.html", "figure.png", "figure.svg", "scatter.png", "scatter.svg")


def example() -> pd.DataFrame:
    """Three normal classes and two known ones: an unsupervised, a semi-supervised and a borrowing column."""
    rows = []
    for n in range(3):
        unsupervised = 0.9 + n / 100
        shared = {"normal_class": str(n), "protocol": "test_subset"}
        rows += [row("ocsvm_raw", value, unsupervised, **shared) for value in (0.0, 0.05)]
        lent = {"variant": "ocsvm_raw", "borrowed": "ocsvm_raw", "protocol": "test_subset"}
        rows.append(row("ssad_raw", 0.0, unsupervised, normal_class=str(n), **lent))
        rows.append(row("deep_sad", 0.0, 0.8 + n / 50, normal_class=str(n)))
        for a in ("7", "8"):
            deep = None if (n, a) == (2, "8") else 0.94 + n / 200 + int(a) / 1000
            rows.append(row("deep_sad", 0.05, deep, normal_class=str(n), anomaly_class=a))
            known = {"normal_class": str(n), "anomaly_class": a, "protocol": "test_subset"}
            rows.append(row("ssad_raw", 0.05, 0.85 - n / 100 + int(a) / 1000, **known))
            rows.append(row("my_method", 0.05, 0.5, normal_class=str(n), anomaly_class=a))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report") / "studies" / "example"
    return write_report(folder, example(), name="example", title="An 100 % ex_ample & more", axes=AXES)


def cell(report: Report, column: str, value: float) -> Cell:
    (found,) = [c for c in report.cells if c.column == column and c.row == {"gamma_l": value}]
    return found


def test_means_and_stds_equal_those_computed_by_hand(report: Report) -> None:
    found = cell(report, "deep_sad", 0.05)
    by_hand = [100 * (0.94 + n / 200 + a / 1000) for n, a in ((0, 7), (0, 8), (1, 7), (1, 8), (2, 7))]
    assert found.mean == pytest.approx(statistics.mean(by_hand))
    assert found.std == pytest.approx(statistics.stdev(by_hand))
    assert (found.n, found.expected) == (5, 6)


def test_an_unsupervised_column_is_in_every_row_with_its_own_number(report: Report) -> None:
    first, second = (cell(report, "ocsvm_raw", value) for value in (0.0, 0.05))
    assert (first.mean, first.n, first.expected) == (second.mean, 3, 3)


def test_each_normal_class_counts_once_but_p_paper_counts_all_pairs(report: Report) -> None:
    deep, ocsvm = [], []
    for n, a in ((0, 7), (0, 8), (1, 7), (1, 8), (2, 7)):
        deep.append(0.94 + n / 200 + a / 1000)
        ocsvm.append(0.9 + n / 100)
    as_in_the_paper = wilcoxon(deep, ocsvm, alternative="two-sided")
    (ranking,) = [r for r in report.rankings if r.row == {"gamma_l": 0.05}]
    assert (ranking.best, ranking.second) == ("deep_sad", "ocsvm_raw")
    assert ranking.comparison is not None
    assert len(ranking.comparison.best) == 5
    assert ranking.comparison.p_paper == pytest.approx(as_in_the_paper.pvalue)
    # Class 0: (.947 + .948) / 2 - .9 = .0475; class 1: .9525 - .91 = .0425; class 2, of one known class: .957 - .92.
    assert (ranking.comparison.unit, ranking.comparison.n) == ("normal_class", 3)
    assert ranking.comparison.p == 0.25
    assert ranking.comparison.median_difference == pytest.approx(0.0425)
    assert ranking.p_holm == 0.5
    assert not cell(report, "deep_sad", 0.05).significant


def test_a_borrowed_column_does_not_compete_with_the_lender(report: Report) -> None:
    (ranking,) = [r for r in report.rankings if r.row == {"gamma_l": 0.0}]
    assert (ranking.best, ranking.second) == ("ocsvm_raw", "deep_sad")
    assert not cell(report, "ssad_raw", 0.0).best
    assert "Without labels SSAD Raw is OC-SVM Raw." in report.notes


def test_a_borrowed_column_competes_where_the_lender_is_not_shown(tmp_path: Path) -> None:
    results = example()
    results = results[results["column"] != "ocsvm_raw"]
    made = write_report(tmp_path, results, name="x", title="x", axes=AXES)
    assert next(r.best for r in made.rankings if r.row == {"gamma_l": 0.0}) == "ssad_raw"


def test_stars_need_p_below_alpha(tmp_path: Path) -> None:
    rows = [row("deep_sad", 0.05, 0.9 + i / 1000, seed=i) for i in range(8)]
    rows += [row("classifier", 0.05, 0.8 + i / 1000, seed=i) for i in range(8)]
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES)
    assert made.rankings[0].comparison is not None
    assert made.rankings[0].comparison.p == pytest.approx(2 / 2**8)
    assert cell(made, "deep_sad", 0.05).significant
    assert "**90.4 ± 0.2**\\*" in (tmp_path / "table.md").read_text()
    assert lines_of(tmp_path / "tests.csv") == [
        {
            "dataset": "mnist",
            "gamma_l": "0.05",
            "best": "deep_sad",
            "second": "classifier",
            "best_mean": "90.3500",
            "second_mean": "80.3500",
            "unit": "seed",
            "n": "8",
            "p_value": "0.0078125",
            "p_holm": "0.0078125",
            "p_paper": "0.0078125",
            "median_difference": "10.0000",
            "significant": "True",
            "run_with": "",
        }
    ]


def test_equal_columns_have_p_1_and_the_first_one_is_best() -> None:
    one = pd.DataFrame([row("a", 0.0, 0.5, seed=i) for i in range(3)])
    found = compare(one, one)
    assert found is not None
    assert found.p == 1.0


def test_only_pairs_finished_on_both_sides_are_compared() -> None:
    one = pd.DataFrame([row("a", 0.0, None if i == 1 else i / 10, seed=i) for i in range(4)])
    other = pd.DataFrame([row("b", 0.0, i / 20, seed=i) for i in range(1, 6)])
    assert paired(one, other)[["one", "other"]].to_numpy().tolist() == [[0.2, 0.1], [0.3, 0.15]]
    assert compare(one, other[other["seed"] > 3]) is None


def test_the_column_shows_the_best_variant_and_the_notes_name_it(tmp_path: Path) -> None:
    rows = []
    for value, best in ((0.0, "deep_svdd"), (0.1, "soft_boundary_svdd, nu 0.1")):
        for variant in ("deep_svdd", "soft_boundary_svdd, nu 0.1"):
            rows.append(row("deep_svdd", value, 0.9 if variant == best else 0.8, variant=variant))
            rows.append(row("deep_svdd", value, None, variant=variant, seed=1))
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES)
    assert [(c.variant, c.mean, c.n, c.expected) for c in made.cells] == [
        ("deep_svdd", 90.0, 1, 2),
        ("soft_boundary_svdd, nu 0.1", 90.0, 1, 2),
    ]
    assert (
        "Deep SVDD is the best of the 2 variants that were run: deep_svdd in mnist (gamma_l 0); "
        "soft_boundary_svdd, nu 0.1 in mnist (gamma_l 0.1)."
    ) in made.notes
    assert "Deep SVDD may change: in 1 cell its variant deep_svdd is not finished." in made.notes


def variants(dataset: str, *best: str) -> list[dict[str, Any]]:
    """A row for each value of gamma_l and each variant; the best as given."""
    return [
        row("deep_svdd", value, 0.9 if variant == winner else 0.8, variant=variant, dataset=dataset)
        for value, winner in zip((0.0, 0.1), best, strict=True)
        for variant in ("deep_svdd", "soft_boundary_svdd, nu 0.1")
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [*variants("mnist", "deep_svdd", "deep_svdd"), *variants("cifar10", "deep_svdd", "deep_svdd")],
            "the best of the 2 variants that were run: deep_svdd in every cell.",
        ),
        (
            [
                *variants("mnist", "deep_svdd", "soft_boundary_svdd, nu 0.1"),
                *variants("cifar10", "deep_svdd", "deep_svdd"),
            ],
            "the best of the 2 variants that were run: deep_svdd in mnist (gamma_l 0), cifar10; "
            "soft_boundary_svdd, nu 0.1 in mnist (gamma_l 0.1).",
        ),
        ([row("deep_svdd", 0.0, 0.5)], "deep_svdd, the only variant that was run."),
    ],
)
def test_the_note_on_variants_names_data_sets_and_rows_only_if_needed(
    rows: list[dict[str, Any]], told: str, tmp_path: Path
) -> None:
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES)
    assert f"Deep SVDD is {told}" in made.notes
    assert not any("may change" in note for note in made.notes)


def test_a_single_method_needs_no_variant_and_no_test(tmp_path: Path) -> None:
    made = write_report(
        tmp_path, pd.DataFrame([row("cae", 0.0, 0.5, variant="autoencoder")]), name="x", title="x", axes=AXES
    )
    assert len(made.notes) == 2
    assert not any("Wilcoxon" in note or "variant" in note for note in made.notes)


@given(st.sampled_from(list(paper_lines())))
def test_every_line_of_the_papers_tables_is_found(line: Any) -> None:
    (table, dataset, value, column), expected = line
    axis = {"3": "gamma_l", "4": "gamma_p", "5": "k_l", "6": None}[table]
    assert paper_cell(dataset, {} if axis is None else {axis: value}, column) == expected


def test_the_papers_figures_are_in_the_right_places() -> None:
    assert paper_cell("cifar10", {"gamma_l": 0.05}, "deep_sad") == (77.9, 7.2)
    # Unsupervised methods have one figure for all rows.
    assert paper_cell("mnist", {"gamma_l": 0.2}, "kde_hybrid") == (87.8, 5.6)
    assert paper_cell("mnist", {"k_l": 5}, "cae") == (83.7, 8.4)
    assert paper_cell("shuttle", {}, "ssad_raw") == (99.6, 0.5)
    for dataset, cell_row, column in (
        ("mnist", {"gamma_l": 0.0}, "classifier"),
        ("mnist", {"gamma_l": 0.3}, "cae"),
        ("digits", {"gamma_l": 0.05}, "deep_sad"),
        ("mnist", {"eta": 1.0}, "deep_sad"),
        ("mnist", {"gamma_l": 0.05, "gamma_p": 0.1}, "deep_sad"),
    ):
        assert paper_cell(dataset, cell_row, column) is None


def test_the_papers_tables_are_complete() -> None:
    lines = lines_of(ROOT / "deepsad_pl" / "report" / "paper_tables.csv")
    assert len(lines) == len(paper_lines()) == 3 * 31 + 3 * 65 + 3 * 31 + 6 * 9
    assert {line["method"] for line in lines} <= set(own_columns())


def test_the_papers_figures_can_be_left_out(report: Report, tmp_path: Path) -> None:
    assert cell(report, "deep_sad", 0.05).paper == (96.7, 2.4)
    assert "(96.7 ± 2.4)" in (report.folder / "table.md").read_text()
    without = write_report(tmp_path, example(), name="x", title="x", axes=AXES, with_paper=False)
    assert all(c.paper is None for c in without.cells)
    assert not any("brackets" in note for note in without.notes)


def test_columns_follow_the_papers_order_and_others_come_last() -> None:
    assert in_order(["mine", "classifier", "ocsvm_raw", "mine"]) == ["ocsvm_raw", "classifier", "mine"]


def test_markdown_has_a_cell_for_each_column_and_says_what_is_incomplete(report: Report) -> None:
    text = (report.folder / "table.md").read_text()
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    # A heading, a rule, and three lines for each row: ours, the paper's, and n.
    assert [len(cells) for cells in table] == [2 + 4] * (2 + 3 * 2)
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert [cells.strip() for cells in table[0]] == [
        "data set",
        *AXES,
        "OC-SVM Raw",
        "SSAD Raw",
        "Deep SAD",
        "my_method",
    ]
    assert [cells[4].strip() for cells in table[5:]] == ["**95.1 ± 0.4**", "(96.7 ± 2.4)", "n 5 of 6"]
    assert table[5][3].strip().endswith(" ± 0.9†")
    # Cells that the study or the paper does not have are blank.
    assert [cells[5].strip() for cells in table[2:]] == ["", "", "", "50.0 ± 0.0", "", "n 6"]
    assert "1 of 7 cells is incomplete" in text


def test_latex_is_balanced_and_escaped(report: Report) -> None:
    text = (report.folder / "table.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.count(" & ") for line in rows] == [5] * (2 + 3 * 2)
    assert text.count("{") == text.count("}")
    assert r"An 100 \% ex\_ample \& more" in text
    assert not re.search(r"(?<!\\)[%_#]", text.replace(r"$\gamma_l$", ""))
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1


def test_csv_reads_back_as_the_cells(report: Report) -> None:
    lines = lines_of(report.folder / "table.csv")
    assert len(lines) == len(report.cells) == 7
    for line, made in zip(lines, report.cells, strict=True):
        assert (line["column"], float(line["gamma_l"])) == (made.column, made.row["gamma_l"])
        assert float(line["mean"]) == pytest.approx(made.mean, abs=1e-4)
        assert (int(line["n"]), int(line["expected"])) == (made.n, made.expected)
        assert line["best"] == str(made.best)
    assert {name: len(frame) for name, frame in report.frames().items()} == {"table": 7, "tests": 2}


def test_figures_are_complete_and_reproducible_to_the_byte(report: Report, tmp_path: Path) -> None:
    again = write_report(tmp_path, example(), name="example", title="An 100 % ex_ample & more", axes=AXES)
    assert [path.name for path in report.files] == list(FILES)
    for one, other in zip(report.files, again.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for name in ("figure", "scatter"):
        texts = "".join(ET.parse(report.folder / f"{name}.svg").getroot().itertext())
        assert "Deep SAD" in texts
        with Image.open(report.folder / f"{name}.png") as image:
            assert min(image.size) > 400
            assert len(image.convert("L").getcolors() or []) > 20


@pytest.mark.parametrize("axes", [[], ["eta"], ["gamma_l", "gamma_p"]])
def test_studies_of_other_shapes_are_drawn(tmp_path: Path, axes: list[str]) -> None:
    rows = []
    for column in own_columns():
        for seed in range(3):
            for value in (0.1, 1.0) if axes else (None,):
                more = dict.fromkeys(axes, value)
                rows.append(
                    {**row(column, None, 0.5 + seed / 10, seed=seed), **more, "experiment": f"{column}{seed}{value}"}
                )
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=axes)
    assert len(made.cells) == len(own_columns()) * (1 if not axes else 2)
    assert all(path.stat().st_size > 100 for path in made.files)


def test_a_single_column_has_no_test_and_the_report_says_so(tmp_path: Path) -> None:
    made = write_report(tmp_path, pd.DataFrame([row("deep_sad", 0.1, 0.5)]), name="x", title="x", axes=AXES)
    assert made.rankings == []
    assert cell(made, "deep_sad", 0.1).best
    assert "fewer than two methods" in (tmp_path / "scatter.svg").read_text()


def test_panels_and_rows_ascend_and_words_keep_their_order(tmp_path: Path) -> None:
    axes = ["gamma_l", "pretrain"]
    rows = [
        {**row("deep_sad", value, 0.5), "pretrain": word, "experiment": f"{value}{word}"}
        for value in (0.1, None, 0.0)
        for word in ("vae", "autoencoder")
    ]
    rows = [{**made, "gamma_l": made.get("gamma_l")} for made in rows]
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=axes)
    assert [tuple(c.row.values()) for c in made.cells] == [
        (value, word) for value in (0.0, 0.1, None) for word in ("vae", "autoencoder")
    ]
    assert "| none " in (tmp_path / "table.md").read_text()


def test_a_row_without_a_test_keeps_its_panel(tmp_path: Path) -> None:
    rows = [row(column, 0.1, 0.5 + seed / 10, seed=seed) for column in ("cae", "deep_sad") for seed in range(3)]
    rows += [row("cae", 0.0, 0.5), row("cae", 0.2, 0.5), row("deep_sad", 0.2, 0.4, seed=1)]
    write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES)
    texts = "".join(ET.parse(tmp_path / "scatter.svg").getroot().itertext())
    assert texts.count("no second method") == 1
    assert texts.count("in common") == 1


def test_means_that_differ_only_by_rounding_are_equal(tmp_path: Path) -> None:
    # If each of .1, .2 and .3 is there three times, the mean differs in the last bit.
    values = (0.1, 0.2, 0.3)
    rows = [row("cae", 0.1, value, normal_class=str(i)) for i, value in enumerate(values)]
    for i, value in enumerate(values):
        rows += [row("deep_sad", 0.1, value, normal_class=str(i), anomaly_class=str(a)) for a in range(3)]
    made = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES)
    assert (made.rankings[0].best, made.rankings[0].second) == ("cae", "deep_sad")
    assert cell(made, "cae", 0.1).best
    assert cell(made, "deep_sad", 0.1).best


def test_matplotlib_settings_of_the_user_change_nothing(report: Report, tmp_path: Path) -> None:
    before = (report.folder / "figure.svg").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.fonttype": "path"}):
        write_report(tmp_path, example(), name="example", title="An 100 % ex_ample & more", axes=AXES)
    assert (tmp_path / "figure.svg").read_bytes() == before


def test_a_folder_that_cannot_be_created_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeepSADError, match=r"cannot be written into .*output_dir"):
        write_report(tmp_path / "file" / "r", example(), name="x", title="x", axes=AXES)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles_with_only_booktabs(report: Report, tmp_path: Path) -> None:
    table = (report.folder / "table.tex").read_text()
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_without_finished_experiments_there_is_an_error_and_no_files(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="no experiment of the study x is finished"):
        write_report(tmp_path / "r", pd.DataFrame([row("deep_sad", 0.1, None)]), name="x", title="x", axes=AXES)
    assert not (tmp_path / "r").exists()


def test_the_console_shows_the_table_and_the_notes(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    show_report(report)
    shown = capsys.readouterr().out
    assert "n 5 of 6" in re.sub(r"\s+", " ", shown)
    assert str(report.folder) in shown
    for note in report.notes:
        assert note in shown


@pytest.mark.parametrize("width", [60, 84, 200])
def test_a_narrow_terminal_gets_the_columns_in_several_tables(
    report: Report, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepsad_pl.report.show_report.console", Console(width=width, highlight=False))
    show_report(report)
    table = capsys.readouterr().out.split("AUROC in percent")[0]
    assert max(map(len, table.splitlines())) <= width
    # No cell is broken in two, and each column occurs once.
    for text in ("95.1 ± 0.4", " ± 0.9", "50.0 ± 0.0", "n 5 of 6", "(96.7 ± 2.4)", "my_method"):
        assert table.count(text) == 1
    assert table.count("gamma_l") == {60: 2, 84: 1, 200: 1}[width]
