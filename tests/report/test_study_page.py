"""The page of a study: its table beside the paper's, a tooltip a point, and the way from each result to its runs."""

import re
import shlex
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from report_rows import AXES, row

from deepsad_pl.report import Report, write_report

HOSTILE = "<script>alert(1)</script>"


def write(folder: Path, rows: list[dict[str, object]], **more: object) -> tuple[Report, str]:
    report = write_report(folder, pd.DataFrame(rows), name="example", title=HOSTILE, axes=AXES, **more)
    return report, (folder / "report.html").read_text(encoding="utf-8")


def rows_of(runs: Path) -> list[dict[str, object]]:
    """Two methods over two values on two normal classes; the runs of the first normal class have folders."""
    made = []
    for value in (0.0, 0.05):
        for normal in ("0", "1"):
            for column, auroc in (("deep_sad", 0.9 + value), ("my_method", 0.8)):
                run = runs / column / f"{normal}-{value}"
                found = row(column, value, auroc, normal_class=normal, anomaly_class="7" if value else None)
                made.append({**found, "experiment": str(run)})
                if normal == "0":
                    run.mkdir(parents=True)
    (runs / "deep_sad" / "0-0.05" / "report.html").touch()
    return made


@pytest.fixture
def page(tmp_path: Path) -> str:
    return write(tmp_path / "studies" / "example", rows_of(tmp_path / "runs"), notes=[HOSTILE])[1]


def test_our_results_stand_beside_the_papers(page: str) -> None:
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", page)]
    start = cells.index("Deep SAD (best)", cells.index("0.05")) - 2
    assert cells[start : start + 8] == ["mnist", "0.05", "Deep SAD (best)", "95.0", "0.0", "96.7", "2.4", "-1.7"]
    assert "Deep SAD, gamma_l = 0.05: 95.0 ± 0.0 (n 2)" in page
    assert "Deep SAD, gamma_l = 0.05: the paper has 96.7 ± 2.4" in page
    assert "8 of 8 results finished" in page
    assert HOSTILE not in page


def test_each_result_leads_to_its_runs(page: str) -> None:
    links = re.findall(r'<a href="#experiments" data-group="([^"]+)">2</a>', page)
    assert len(links) == 4
    for group in links:
        assert len(re.findall(f'<tr data-group="{group}">', page)) == 2


def test_only_a_run_with_a_page_has_a_link(tmp_path: Path) -> None:
    runs = tmp_path / "my runs #1"
    _, page = write(tmp_path / "studies" / "example", rows_of(runs))
    (link,) = re.findall(r'<a href="([^"#]+)">page</a>', page)
    assert link == "../../my%20runs%20%231/deep_sad/0-0.05/report.html"
    shown = re.findall(r"<td><code>([^<]+)</code></td>", page)
    # The runs of the second normal class are gone.
    assert [shlex.split(unescape(one)) for one in shown] == [
        ["python", "report.py", f"run={runs / name}"]
        for name in ("deep_sad/0-0.0", "my_method/0-0.0", "my_method/0-0.05")
    ]
    assert ">folder<" not in page


def test_a_variant_that_a_cell_does_not_show_is_not_among_its_runs(tmp_path: Path) -> None:
    rows = [row("deep_sad", 0.05, auroc, variant=name) for name, auroc in (("a", 0.7), ("b", 0.9))]
    _, page = write(tmp_path, rows)
    assert len(re.findall(r'<tr data-group="cell-0">', page)) == 1
    assert len(re.findall(r"<tr data-group", page)) == 2


def test_without_the_papers_results_there_are_no_columns_for_them(tmp_path: Path) -> None:
    rows = [row("deep_sad", 0.05, 0.9), row("deep_sad", 0.0, None)]
    _, page = write(tmp_path, rows, with_paper=False, run_with=["seed=3"])
    assert "paper std" not in page
    assert "Hollow points" not in page
    assert "1 of 2 results finished; run with seed=3" in page
