"""The page of a benchmark's ranks: which cells count, what is told, and files that can be made again."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_rows import lines_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report.benchmark_results import budgets_of, check_results, headings, read_results
from deepsad_pl.report.critical_difference import bar_levels, cd_diagram
from deepsad_pl.report.label_curves import common_scores
from deepsad_pl.report.rank_statistics import rank_statistics
from deepsad_pl.report.rank_tests import critical_difference
from deepsad_pl.report.ranks_page import write_ranks
from deepsad_pl.report.style import styles_of

SETS = [f"set_{number}" for number in range(8)]
# AUROC with one and with ten labels, on the first data set; the unsupervised forest has one value.
LEVELS = {"deep_sad": (0.60, 0.90), "classifier": (0.50, 0.95), "mine": (0.55, 0.80), "iforest_raw": (0.70, 0.70)}


def results(**changes: Any) -> pd.DataFrame:
    rows = []
    for number, dataset in enumerate(SETS):
        for method, levels in LEVELS.items():
            for labels, level in zip((1, 10), levels, strict=True):
                if method == "iforest_raw" and labels == 10:
                    continue
                for seed in range(2):
                    value = level + 0.003 * number + (0.001 if seed else -0.001)
                    label = None if method == "iforest_raw" else labels
                    rows.append({"dataset": dataset, "method": method, "labels": label, "seed": seed, "auroc": value})
    return pd.DataFrame(rows).assign(seconds=1.5, hash="abc", **changes)


def without(found: pd.DataFrame, **cell: Any) -> pd.DataFrame:
    """The results with blanks in the rows of a cell."""
    is_cell = np.logical_and.reduce([found[name] == value for name, value in cell.items()])
    return found.assign(auroc=found["auroc"].mask(is_cell))


def test_rows_without_labels_serve_every_budget() -> None:
    one, ten, overall = budgets_of(results(), "auroc")
    assert [one.name, ten.name, overall.name] == ["1", "10", "overall"]
    assert [one.title, ten.title] == ["1 labeled anomaly", "10 labeled anomalies"]
    assert overall.title == "Overall: mean over 1 and 10 labeled anomalies"
    assert one.means["iforest_raw"].tolist() == ten.means["iforest_raw"].tolist()
    assert one.means.loc["set_0"].to_dict() == pytest.approx({m: v[0] for m, v in LEVELS.items()})
    assert ten.means.loc["set_0"].to_dict() == pytest.approx({m: v[1] for m, v in LEVELS.items()})
    assert overall.means.loc["set_0"].to_dict() == pytest.approx({m: sum(v) / 2 for m, v in LEVELS.items()})
    assert (one.seeds.to_numpy() == 2).all()
    assert one.stds.loc["set_0", "mine"] == pytest.approx(np.std([0.549, 0.551], ddof=1))


def test_a_method_with_rows_of_a_budget_does_not_also_use_those_without_labels() -> None:
    more = pd.DataFrame([{"dataset": "set_0", "method": "deep_sad", "labels": None, "seed": 7, "auroc": 0.0}])
    one, *_ = budgets_of(pd.concat([results(), more]), "auroc")
    assert one.means.loc["set_0", "deep_sad"] == pytest.approx(0.6)


def test_several_rows_of_a_seed_count_as_one() -> None:
    more = pd.DataFrame([{"dataset": "set_0", "method": "mine", "labels": 1, "seed": 0, "auroc": 0.949}])
    one, *_ = budgets_of(pd.concat([results(), more]), "auroc")
    assert one.means.loc["set_0", "mine"] == pytest.approx(((0.549 + 0.949) / 2 + 0.551) / 2)
    assert one.seeds.loc["set_0", "mine"] == 2


def test_without_numbers_of_labels_there_is_one_table() -> None:
    (found,) = budgets_of(results().assign(labels=None).drop_duplicates(["dataset", "method", "seed"]), "auroc")
    assert (found.name, found.title) == ("all", "All experiments")


def test_a_data_set_with_a_blank_cell_leaves_the_ranks_of_its_budget() -> None:
    found = without(results(), dataset="set_3", method="mine", labels=10)
    one, ten, overall = (rank_statistics(budget) for budget in budgets_of(found, "auroc"))
    assert one.left_out == {} and len(one.ranks) == 8
    assert ten.left_out == overall.left_out == {"set_3": ["mine"]} and len(ten.ranks) == len(overall.ranks) == 7
    assert ten.summary.loc["deep_sad", "mean"] == pytest.approx(0.9 + 0.003 * (28 - 3) / 7)
    assert ten.difference == critical_difference(4, 7)
    missing = found[found["auroc"].notna()]
    (_, same, _) = (rank_statistics(budget) for budget in budgets_of(missing, "auroc"))
    pd.testing.assert_frame_equal(same.summary, ten.summary)


def test_a_method_without_any_value_takes_no_data_set_with_it() -> None:
    one, ten, overall = (
        rank_statistics(budget) for budget in budgets_of(without(results(), method="classifier", labels=1), "auroc")
    )
    assert one.absent == overall.absent == ["classifier"] and ten.absent == []
    assert len(one.ranks) == len(ten.ranks) == len(overall.ranks) == 8
    assert list(one.ranks.columns) == list(overall.ranks.columns) == ["iforest_raw", "deep_sad", "mine"]


def test_ranks_and_groups_of_a_budget() -> None:
    one, ten, _ = (rank_statistics(budget) for budget in budgets_of(results(), "auroc"))
    assert one.summary["rank"].to_dict() == {"iforest_raw": 1, "deep_sad": 2, "mine": 3, "classifier": 4}
    assert ten.summary["rank"].to_dict() == {"classifier": 1, "deep_sad": 2, "mine": 3, "iforest_raw": 4}
    # All data sets agree, so that the intervals of ranks are points, and three neighbors differ by CD = 1.66.
    assert (one.summary["rank_low"] == one.summary["rank_high"]).all()
    assert one.cliques == [["iforest_raw", "deep_sad"], ["deep_sad", "mine"], ["mine", "classifier"]]
    low, high = one.summary.loc["deep_sad", ["mean_low", "mean_high"]]
    assert 0.6 < low < one.summary.loc["deep_sad", "mean"] < high < 0.621


def test_without_a_difference_all_methods_are_one_group() -> None:
    order = list(LEVELS)
    turned = results().assign(labels=1).drop_duplicates(["dataset", "method", "seed"])
    turned["auroc"] = [
        0.5 + 0.1 * ((order.index(method) + SETS.index(dataset)) % 4)
        for method, dataset in zip(turned["method"], turned["dataset"], strict=True)
    ]
    (found,) = (rank_statistics(budget) for budget in budgets_of(turned, "auroc"))
    assert found.friedman is not None and found.friedman.p == pytest.approx(1)
    assert [sorted(group) for group in found.cliques] == [sorted(order)]


def test_headings_follow_the_tables_and_tell_variants_apart() -> None:
    found = headings(
        pd.DataFrame(
            {
                "method": ["theirs", "soft_boundary_svdd", "mine", "deep_sad", "deep_svdd", "iforest_raw"],
                "heading": ["Theirs", None, None, "ignored", None, None],
            }
        )
    )
    assert found == {
        "iforest_raw": "IF Raw",
        "soft_boundary_svdd": "soft_boundary_svdd",
        "deep_svdd": "deep_svdd",
        "deep_sad": "Deep SAD",
        "theirs": "Theirs",
        "mine": "mine",
    }


def test_no_two_of_twenty_methods_are_drawn_alike() -> None:
    methods = ["deep_sad", "deep_svdd", "soft_boundary_svdd", "autoencoder", *(f"own_{number}" for number in range(11))]
    styles = styles_of(methods)
    assert len(set(map(repr, styles.values()))) == len(methods)


def test_all_problems_of_the_results_are_told_at_once() -> None:
    wrong = results().drop(columns="seed").assign(labels="many", auroc=5.0)
    wrong.loc[0, "dataset"] = None
    with pytest.raises(DeepSADError) as raised:
        check_results(wrong, "auroc")
    told = raised.value.problems
    assert told[0].startswith("the results have no column seed; they have dataset, method, labels, auroc")
    assert told[1] == "the results have 1 row without a dataset; fill in the column dataset"
    assert told[2] == "labels is 'many' in the results; it must be a number, or blank for every budget"
    assert told[3] == "auroc is 5.0 in the results; ranks need a metric in [0, 1] of which more is better"
    with pytest.raises(DeepSADError, match="no experiment has a value of auroc"):
        check_results(results().assign(auroc=np.nan), "auroc")
    with pytest.raises(DeepSADError, match="the results have no column recall_fpr_1"):
        write_ranks(results(), Path("nowhere"), metric="recall_fpr_1")


def test_names_are_read_as_text(tmp_path: Path) -> None:
    named = results().replace({"dataset": {"set_0": "007", "set_1": "NA", "set_2": "true", "set_3": "1e3"}})
    named.to_csv(tmp_path / "results.csv", index=False)
    read = read_results(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(read, named, check_dtype=False)
    with pytest.raises(DeepSADError, match="cannot be read as CSV"):
        read_results(tmp_path / "missing.csv")


def test_the_page_tells_ranks_tests_and_gaps(tmp_path: Path) -> None:
    found = without(results(), dataset="set_3", method="mine", labels=10)
    found = without(found, dataset="set_5", method="deep_sad", labels=1, seed=1)
    files = write_ranks(found, tmp_path, title="My benchmark")
    assert [path.name for path in files] == [
        *("report.html", "ranks.md", "ranks.tex", "ranks.csv", "rank_pairs.csv", "rank_cells.csv"),
        *(f"critical_difference_{name}.{kind}" for name in ("1", "10", "overall") for kind in ("png", "svg")),
        *("label_curves.png", "label_curves.svg"),
    ]
    page = [re.sub(" +", " ", line) for line in files[1].read_text().splitlines()]
    assert page[0] == "# My benchmark"
    assert "| Deep SAD | 2.00 (61.0) | 2.00 (91.1) | **1.00** (76.1) |" in page
    assert "| data sets | 8 | 7 | 7 |" in page
    assert "- 1 data set left out, with the methods without a value: set\\_3 (mine)." in page
    assert "- Fewer than 2 seeds: Deep SAD on set\\_5 (1)." in page
    assert "- Every value is a mean over 2 seeds." in page
    told = (
        "- Friedman test over 8 data sets and 4 methods: chi-squared 24.00, p < .001; Iman and Davenport's F infinite, "
    )
    assert f"{told}p < .001." in page
    assert "- Wilcoxon signed-rank tests of 6 pairs, with Holm's correction: 6 differ." in page
    assert " - IF Raw is better than Deep SAD, mine, Supervised Classifier." in page
    assert "| set_3 (not ranked) | 70.9 | 90.9 | **95.9** | - |" in page
    assert "![Critical-difference diagram: 1 labeled anomaly](critical_difference_1.png)" in page


def test_other_experiments_of_a_method_are_told(tmp_path: Path) -> None:
    """As many seeds, but others, and other normal classes."""
    uneven = results()
    forest = uneven["method"] == "iforest_raw"
    uneven.loc[forest & (uneven["dataset"] == "set_1"), "seed"] += 2
    classes = np.where(forest & (uneven["dataset"] == "set_2"), "b", "a")
    told = "Methods have different seeds or normal classes, and their values are means over different experiments, on "
    for changed, where in ((uneven, "set_1."), (uneven.assign(normal_class=classes), "set_1, set_2.")):
        write_ranks(changed, tmp_path, "auroc", "a title")
        assert told + where in (tmp_path / "ranks.md").read_text().replace(r"\_", "_")
    write_ranks(results(), tmp_path, "auroc", "a title")
    assert "different experiments" not in (tmp_path / "ranks.md").read_text()


def test_results_by_choices_with_test_labels_are_marked(tmp_path: Path) -> None:
    """A cell is, if one of its experiments is; a mean over data sets, if one of those that count is."""
    found = results()
    seed = (found["method"] == "deep_sad") & (found["dataset"] == "set_1") & (found["labels"] == 10)
    found["test_informed"] = (seed & (found["seed"] == 1)) | (
        found["method"].isin(["mine", "classifier"]) & (found["dataset"] == "set_2")
    )
    found.to_csv(tmp_path / "results.csv", index=False)
    write_ranks(read_results(tmp_path / "results.csv"), tmp_path, title="My benchmark")
    page = (tmp_path / "ranks.md").read_text().replace(r"\_", "_")
    few, many = (re.sub(" +", " ", part) for part in page.split("## 1")[1:])
    many = many.partition("## Overall")[0]
    assert "| set_1 | **70.3** | 60.3 | 50.3 | 55.3 |" in few
    assert "| set_1 | 70.3 | 90.3† | **95.3** | 80.3 |" in many
    assert "| set_2 | 70.6 | 90.6 | **95.6**† | 80.6† |" in many
    assert "| mean | **71.0** | 61.1 | 51.1† | 56.0† |" in few
    assert "| mean rank | 4.00 | 2.00† | **1.00**† | 3.00† |" in many
    told = "† test-informed, so possibly optimistic, by settings or learning rates that were chosen with test labels: "
    both = "Supervised Classifier, mine on set_2."
    assert f"- {told}{both}" in few
    assert f"- {told}Deep SAD on set_1; {both}" in many
    tables = (tmp_path / "ranks.tex").read_text()
    assert r"set\_2 & 70.6 & 90.6 & \textbf{95.6}$^\dagger$ & 80.6$^\dagger$ \\" in tables
    html = (tmp_path / "report.html").read_text()
    assert "95.6† (best)" in html and f"{told}Deep SAD on set_1; {both}" in html
    marked = [line for line in lines_of(tmp_path / "rank_cells.csv") if line["test_informed"] == "True"]
    assert {(line["labels"], line["method"], line["dataset"]) for line in marked} == {
        *((labels, method, "set_2") for labels in ("1", "10", "overall") for method in ("mine", "classifier")),
        *((labels, "deep_sad", "set_1") for labels in ("10", "overall")),
    }
    words = {True: "True", False: ""}
    write_ranks(found.assign(test_informed=found["test_informed"].map(words)), tmp_path, title="My benchmark")
    assert (tmp_path / "ranks.md").read_text().replace(r"\_", "_").count("†") == page.count("†")
    for blank in (None, pd.NA, np.nan, ""):
        write_ranks(results(test_informed=blank), tmp_path)
        assert "†" not in (tmp_path / "ranks.md").read_text()
    with pytest.raises(DeepSADError, match="test_informed is 'yes' in the results; it must be true or false"):
        write_ranks(results(test_informed="yes"), tmp_path)
    write_ranks(results(), tmp_path)
    assert "†" not in (tmp_path / "ranks.md").read_text()


def test_the_csv_files_have_what_the_page_shows(tmp_path: Path) -> None:
    write_ranks(without(results(), dataset="set_3", method="mine", labels=10), tmp_path)
    ranks = lines_of(tmp_path / "ranks.csv")
    assert len(ranks) == 3 * 4
    assert (ranks[0]["labels"], ranks[0]["method"], ranks[0]["heading"]) == ("1", "iforest_raw", "IF Raw")
    assert (ranks[0]["rank"], ranks[0]["mean"], ranks[0]["datasets"]) == ("1.0000", "71.0500", "8")
    assert float(ranks[0]["critical_difference"]) == pytest.approx(critical_difference(4, 8), abs=1e-4)
    pairs = lines_of(tmp_path / "rank_pairs.csv")
    assert len(pairs) == 3 * 6
    assert (pairs[0]["better"], pairs[0]["other"], pairs[0]["wins"]) == ("iforest_raw", "deep_sad", "8")
    assert float(pairs[0]["p"]) == 2 / 2**8 and float(pairs[0]["p_holm"]) == pytest.approx(6 * 2 / 2**8)
    assert float(pairs[0]["median_difference"]) == pytest.approx(10.0)
    cells = lines_of(tmp_path / "rank_cells.csv")
    (blank,) = [cell for cell in cells if not cell["mean"] and cell["labels"] == "10"]
    assert (blank["dataset"], blank["method"], blank["seeds"], blank["rank"]) == ("set_3", "mine", "0", "")


def test_the_files_are_reproduced_byte_for_byte_from_the_csv(tmp_path: Path) -> None:
    files = write_ranks(results(), tmp_path / "a")
    results().to_csv(tmp_path / "results.csv", index=False)
    again = write_ranks(read_results(tmp_path / "results.csv"), tmp_path / "b")
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]


def test_the_latex_tables_are_whole(tmp_path: Path) -> None:
    found = without(results(), dataset="set_3", method="mine", labels=10)
    write_ranks(found, tmp_path, title="A & B")
    text = (tmp_path / "ranks.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4
    assert r"\caption{A \& B. 1 labeled anomaly: AUROC in percent, mean over seeds." in text
    assert r"set\_3 & 70.9 & 90.9 & \textbf{95.9} & -- \\" in text
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = table[1 : table.index("}")]
        for line in table.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert line.count(" & ") == len(columns) - 1


def test_the_diagram_names_every_method_with_its_rank_and_the_critical_difference(tmp_path: Path) -> None:
    write_ranks(results(), tmp_path)
    drawn = (tmp_path / "critical_difference_1.svg").read_text()
    for told in (
        "IF Raw (1.00)",
        "Deep SAD (2.00)",
        "mine (3.00)",
        "Supervised Classifier (4.00)",
        "CD = 1.66",
        "1 labeled anomaly: AUROC",
    ):
        assert told in drawn
    curves = (tmp_path / "label_curves.svg").read_text()
    for told in ("labeled anomalies", "mean rank (1 is the best)", "AUROC in %", "8 data sets"):
        assert told in curves


def test_the_bars_of_the_diagram_span_their_groups() -> None:
    one, *_ = (rank_statistics(budget) for budget in budgets_of(results(), "auroc"))
    figure = cd_diagram("a title", one, "AUROC", headings(results()))
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 2.6]
    assert [tuple(round(float(end)) for end in bar) for bar in bars] == [(1, 2), (2, 3), (3, 4)]
    heights = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linewidth() == 2.6]
    assert len(set(heights)) == 2


def test_bars_that_touch_are_on_different_levels() -> None:
    assert bar_levels([(1, 3), (2, 4), (3.1, 5), (4.5, 6)]) == [0, 1, 2, 0]
    assert bar_levels([]) == []


def test_curves_use_the_same_data_sets_for_every_budget() -> None:
    budgets = budgets_of(without(results(), dataset="set_3", method="mine", labels=10), "auroc")[:-1]
    assert [list(scores.index) for scores in common_scores(budgets)] == [[s for s in SETS if s != "set_3"]] * 2


@pytest.mark.parametrize("methods", [["deep_sad"], ["deep_sad", "mine"]])
def test_few_methods_have_no_diagram(tmp_path: Path, methods: list[str]) -> None:
    found = results()[lambda rows: rows["method"].isin(methods)]
    files = write_ranks(found, tmp_path)
    assert not [path for path in files if path.name.startswith("critical_difference")]
    page = files[1].read_text()
    assert "No Friedman test: it needs three methods and two data sets" in page
    assert ("Deep SAD is better than mine" in page) == (len(methods) == 2)


def test_a_single_data_set_has_ranks_but_no_tests(tmp_path: Path) -> None:
    page = write_ranks(results()[lambda rows: rows["dataset"] == "set_0"], tmp_path)[1].read_text()
    assert "| IF Raw                | 1.00      | 70.0" in page
    assert "No Friedman test" in page and "Wilcoxon" not in page


def test_no_complete_data_set_is_told(tmp_path: Path) -> None:
    rows = results()
    halves = [("deep_sad", SETS[:4]), ("mine", SETS[4:])]
    for method, sets in halves:
        rows = rows[~((rows["method"] == method) & rows["dataset"].isin(sets))]
    page = write_ranks(rows, tmp_path)[1].read_text()
    assert "there are 0 data sets and 4 methods" in page and "8 data sets left out" in page
    assert not (tmp_path / "label_curves.png").exists()


def test_few_data_sets_cannot_show_a_difference_of_pairs(tmp_path: Path) -> None:
    page = write_ranks(results()[lambda rows: rows["dataset"].isin(SETS[:5])], tmp_path)[1].read_text()
    assert "over 5 data sets no pair can differ, since no corrected p is below 0.38" in page


def test_another_metric_is_named_and_read(tmp_path: Path) -> None:
    found = results().assign(recall_fpr_5=lambda rows: 1 - rows["auroc"])
    page = write_ranks(found, tmp_path, metric="recall_fpr_5")[1].read_text()
    assert "mean recall at an FPR of at most 5 %" in page
    ranks = lines_of(tmp_path / "ranks.csv")
    assert (ranks[0]["metric"], ranks[0]["method"], ranks[0]["rank"]) == ("recall_fpr_5", "classifier", "1.0000")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeepSADError, match="the ranks cannot be written into"):
        write_ranks(results(), tmp_path / "file")


def test_scikit_posthocs_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys, deepsad_pl.report.ranks_page as p; print('scikit_posthocs' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["False", "False"]
