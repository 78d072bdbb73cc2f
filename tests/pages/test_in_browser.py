"""Pages in a real browser: no error, no request, sorting and filtering work, and axe finds no serious fault."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_pages import IMAGE, made_groups, made_results
from report_rows import row

from deepsad_pl.pages.run_page import run_page
from deepsad_pl.report import write_report
from deepsad_pl.report.ranks_page import write_ranks

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here, so the pages are not opened in a browser")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pages") / "report.html"
    found.write_text(run_page(made_results(), made_groups()), encoding="utf-8")
    return found


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Open]:
    """Open the page; in the end there must have been no message, no error and no request but for the page itself."""
    contexts, heard, asked, right = [], list[str](), list[str](), {path.as_uri()}

    def open_page(width: int = 1280, scheme: str = "light", file: Path = path, **rest: Any) -> Any:
        right.add(file.as_uri())
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **rest)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.route("**/*", lambda route: (asked.append(route.request.url), route.continue_()))
        page.goto(file.as_uri())
        return page

    yield open_page
    assert asked
    assert {url for url in asked if not url.startswith("data:")} <= right
    assert heard == []
    for context in contexts:
        context.close()


def column(page: Any, number: int, table: str = "Rows") -> list[str]:
    cells = page.locator(f'[aria-label="{table}"] tbody tr:visible td:nth-child({number})')
    return [text.strip() for text in cells.all_inner_texts()]


def test_hostile_names_run_no_script(opened: Open) -> None:
    page = opened()
    assert page.title() == f"deep_sad on {IMAGE}"
    assert page.locator("img").count() == 16
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


def test_a_table_is_sorted_by_numbers_and_texts(opened: Open) -> None:
    page = opened()
    score = page.locator('[aria-label="Rows"] th').nth(1)
    score.locator("button").click()
    assert column(page, 2) == ["100", "20", "3", ""]
    assert score.get_attribute("aria-sort") == "descending"
    score.locator("button").click()
    assert column(page, 2) == ["3", "20", "100", ""]
    assert score.get_attribute("aria-sort") == "ascending"
    page.locator('[aria-label="Rows"] th button').first.press("Enter")
    assert [text[-1] for text in column(page, 1)] == ["0", "1", "2", "3"]
    assert score.get_attribute("aria-sort") is None


def test_a_table_is_filtered_by_words(opened: Open) -> None:
    page = opened()
    page.get_by_role("searchbox").fill("100 X")
    assert column(page, 2) == ["100"]
    page.get_by_role("searchbox").fill("nowhere")
    assert column(page, 2) == []
    page.get_by_role("searchbox").fill("")
    assert len(column(page, 2)) == 4


def test_a_point_shows_its_tooltip(opened: Open) -> None:
    page = opened()
    chart = page.locator(".chart", has_text="AUROC by anomaly class").locator("> svg")
    chart.locator(".point").first.hover()
    assert page.locator("#tip").inner_text().startswith("<script>document.title='hacked'</script> (known): 0.")
    page.mouse.move(1, 1)
    assert page.locator("#tip").is_hidden()


def test_without_scripts_the_page_is_whole(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator(".chart").count() == 6
    assert page.locator("title").count() > 100


def test_a_result_leads_to_its_runs(opened: Open, tmp_path: Path) -> None:
    rows = [row(method, value, 0.9, normal_class=str(n)) for method in "ab" for value in (0.0, 0.1) for n in range(3)]
    write_report(tmp_path, pd.DataFrame(rows), name="one", title="One", axes=["gamma_l"])
    page = opened(file=tmp_path / "report.html")
    assert len(column(page, 3, "Experiments")) == 12
    results = page.locator('[aria-label="Results"] tbody tr')
    results.nth(3).locator("a").click()
    assert page.url.endswith("#experiments")
    assert (column(page, 2, "Experiments"), column(page, 3, "Experiments")) == (["0.1"] * 3, ["b"] * 3)
    page.get_by_role("button", name="Show all").click()
    assert len(column(page, 3, "Experiments")) == 12
    found = axe.Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def test_the_page_of_a_benchmark_works(opened: Open, tmp_path: Path) -> None:
    rows = [
        {"dataset": f"set-{number}", "method": method, "labels": labels, "seed": seed, "hash": f"{method}"}
        | {"auroc": level + 0.01 * number + 0.001 * labels}
        for number in range(6)
        for method, level in (("deep_sad", 0.8), ("mine", 0.7), ("other", 0.6))
        for labels in (1, 5)
        for seed in range(2)
    ]
    write_ranks(pd.DataFrame(rows), tmp_path, title="Many tables")
    page = opened(390, scheme="dark", file=tmp_path / "report.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator('[aria-label="Mean ranks"] th button').nth(1).click()
    assert column(page, 1, "Mean ranks") == ["other", "mine", "Deep SAD"]
    page.locator(".chart", has_text="5 labeled anomalies").locator("> svg .point").first.hover()
    assert page.locator("#tip").inner_text().startswith("Deep SAD: mean rank 1.00 (1.00 to 1.00), mean AUROC 83.0 %")
    results = page.locator(".table").nth(1)
    results.get_by_role("searchbox").fill("set-2 mine")
    assert column(page, 4, "Results") == ["72.1", "72.5"]
    results.locator("tbody tr:visible a").last.click()
    assert column(page, 1, "Experiments") == ["set-2"] * 2
    assert column(page, 2, "Experiments") == ["5"] * 2
    found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_as_wide_as_its_window(opened: Open, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Open, scheme: str) -> None:
    page = opened(scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def test_colors_follow_the_scheme(opened: Open) -> None:
    backgrounds = {
        scheme: opened(scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert backgrounds == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 19, 24)"}
