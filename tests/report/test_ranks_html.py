"""The page of a benchmark as HTML: its tables, its charts, and the way from each result to its runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report.ranks_page import write_ranks

HOSTILE = "<script>alert(1)</script>"
SETS = [f"set #{number}" for number in range(6)]
# AUROC with one and with five labels on the first data set.
LEVELS = {"deep_sad": (0.60, 0.90), "mine": (0.55, 0.95), "iforest_raw": (0.70, 0.70)}


def results() -> pd.DataFrame:
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "labels": None if method == "iforest_raw" else labels,
            "seed": seed,
            "auroc": level + 0.004 * number + 0.002 * seed,
            "average_precision": level / 2,
        }
        for number, dataset in enumerate(SETS)
        for method, levels in LEVELS.items()
        for labels, level in zip((1, 5), levels, strict=True)
        for seed in range(2)
        if (method, labels) != ("iforest_raw", 5)
    ]
    return pd.DataFrame(rows).assign(hash=[f"{number:08}" for number in range(len(rows))])


def page_of(folder: Path, found: pd.DataFrame, **more: Any) -> str:
    page = write_ranks(found, folder, title=HOSTILE, **more)[0]
    assert page.name == "report.html"
    return page.read_text(encoding="utf-8")


def rows_of(page: str, table: str) -> list[list[str]]:
    (part,) = re.findall(rf"<caption>{table}</caption>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td.*?</td>", row)]
        for row in re.findall("<tr.*?</tr>", part, re.DOTALL)
    ]


def charts_of(page: str) -> list[str]:
    return re.findall(r"<figcaption><h3>([^<]+)</h3>", page)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder for each experiment but the last; only the first has a page."""
    root = tmp_path_factory.mktemp("runs")
    found = {name: root / "a #1" / name for name in results()["hash"][:-1]}
    for run in found.values():
        run.mkdir(parents=True)
    (found["00000000"] / "report.html").touch()
    return found


def test_the_page_has_the_ranks_and_the_metrics_of_each_table(tmp_path: Path) -> None:
    page = page_of(tmp_path, results())
    assert HOSTILE not in page
    ranks = rows_of(page, "Mean ranks")
    assert ["IF Raw", "1.00 (best)", "71.1", "3.00", "71.1"] in [row[:5] for row in ranks]
    table = rows_of(page, "Results")
    assert len(table) == len(SETS) * 2 * 3
    assert ["set #0", "1", "Deep SAD", "60.1", "0.1", "2", "30.0", "2"] in table
    assert ["set #0", "5", "mine", "95.1 (best)", "0.1", "1", "47.5", "2"] in table
    # One experiment serves both numbers of labels.
    assert {row[1] for row in table if row[2] == "IF Raw" and row[3].startswith("70.1")} == {"1", "5"}
    assert len(rows_of(page, "Pairs of methods")) == 3 * 3
    assert len(rows_of(page, "Experiments")) == len(results())
    assert "p &lt; .001" in page


def test_the_diagrams_show_ranks_groups_and_the_critical_difference(tmp_path: Path) -> None:
    page = page_of(tmp_path, results())
    assert charts_of(page) == ["1 labeled anomaly", "5 labeled anomalies", "Overall", "Mean AUROC", "Mean rank"]
    diagram = page[page.index("<h3>1 labeled anomaly") : page.index("<h3>5 labeled anomalies")]
    names = re.findall(r">([^<>]+ \(\d\.\d\d\))</text>", diagram)
    assert names == ["IF Raw (1.00)", "Deep SAD (2.00)", "mine (3.00)"]
    # With three methods on six data sets CD = 1.35, so that only neighbors are connected.
    assert "CD = 1.35" in diagram
    assert diagram.count('class="bar"') == 2
    assert re.search(r"<title>IF Raw: mean rank 1\.00 \(1\.00 to 1\.00\), mean AUROC 71\.1 %", diagram)
    assert 'href="critical_difference_1.svg"' in page
    assert (tmp_path / "critical_difference_1.svg").exists()


def test_each_result_leads_to_its_own_runs(tmp_path: Path, runs: dict[str, Path]) -> None:
    page = page_of(tmp_path, results(), runs=runs, progress="34 of 40 experiments finished")
    assert "34 of 40 experiments finished; 6 data sets, 3 methods" in page
    links = re.findall(r'<a href="#experiments" data-group="([^"]+)">2</a>', page)
    # The forest's two experiments on a data set are those of both numbers of labels.
    assert len(links) == 36 and len(set(links)) == 30
    for group in links:
        assert len(re.findall(f'<tr data-group="{group}">', page)) == 2
    cells = [row[-1] for row in rows_of(page, "Experiments")]
    assert cells[0] == "page" and cells[-1] == ""
    assert cells[1] == f"python report.py &#39;run={runs['00000001']}&#39;"
    (way,) = re.findall(r'<a href="([^"#]+report\.html)">page</a>', page)
    assert "%231" in way
    assert "set_0" not in page


def test_of_experiments_that_were_run_elsewhere_there_are_no_links(tmp_path: Path) -> None:
    page = page_of(tmp_path, results())
    assert "They were run elsewhere" in page
    assert len(rows_of(page, "Experiments")[0]) == 5


def test_few_methods_have_a_page_without_diagrams(tmp_path: Path) -> None:
    found = results()[lambda rows: (rows["method"] == "deep_sad") & (rows["labels"] == 1)]
    page = page_of(tmp_path, found)
    assert charts_of(page) == []
    assert "Pairs of methods" not in page
    assert "No Friedman test: it needs three methods" in page
    assert rows_of(page, "Mean ranks")[0][:2] == ["Deep SAD", "1.00 (best)"]


def test_without_a_complete_data_set_nothing_is_ranked(tmp_path: Path) -> None:
    found = results()[lambda rows: (rows["method"] == "mine") == rows["dataset"].isin(SETS[:3])]
    page = page_of(tmp_path, found)
    assert {text for row in rows_of(page, "Mean ranks") for text in row[1:]} == {""}
    assert {row[5] for row in rows_of(page, "Results")} == {""}


def test_results_without_a_value_have_no_page(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match="no experiment has a value"):
        write_ranks(results().assign(auroc=np.nan), tmp_path)
    assert not (tmp_path / "report.html").exists()
