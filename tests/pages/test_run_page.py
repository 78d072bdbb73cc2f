"""The page of a run: everything is on it or said to be missing, nothing of it comes from elsewhere or is code."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_pages import CLASSES, HOSTILE, made_groups, made_results

from deepsad_pl.pages.run_page import RunResults, run_page


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_a_page_shows_everything_a_run_has_measured() -> None:
    results = made_results()
    page = Page(run_page(results, made_groups()))
    for name in ("auroc", "auroc_known", "auroc_novel", "average_precision", "recall_fpr_5"):
        assert f"{results.record[name]:.4f}" in page.text
    for told in (
        "100: 90 unlabeled, 10 labeled anomalies",
        "5 unlabeled samples in truth anomalous",
        "pre-training 1.0, training 2.0, scoring 0.1",
        "Scores above 4 are anomalies (conformal, alpha 0.05, 20 samples); on the test set: recall 0.500.",
        "Trained by another run and reused.",
        "It has collapsed",
        "epoch 1: loss 10",
        "Loss of the training",
        "novel anomalies",
        "-3.5",
        results.record["command"],
        *CLASSES,
    ):
        assert told in page.text, told
    assert "Not on this page" not in page.text
    assert "nan" not in page.text


def test_names_are_text_and_nothing_comes_from_elsewhere() -> None:
    page = Page(run_page(made_results(), made_groups()))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == tags.count("style") == 1
    assert tags.count("img") == 16
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)


def test_intervals_contain_the_metrics() -> None:
    page = run_page(made_results(), [])
    row = re.search(r"<tr>\s*<td>AUROC</td>.*?</tr>", page, re.DOTALL)
    assert row is not None
    value, low, high = (float(found) for found in re.findall(r'data-value="([\d.]+)"', row[0]))
    assert low < value < high < low + 0.2


UNKNOWN_TRUTH = {"auroc": None, "average_precision": None, "auroc_known": None, "auroc_novel": None}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"classes": None, "missing": ["Classes: an old release."]}, "Classes: an old release."),
        ({"losses": {}, "missing": ["Losses: an old release."]}, "Losses: an old release."),
        ({"y": np.full(400, -1)}, "no known normal samples, or no known anomalies"),
    ],
    ids=["classes", "losses", "truth"],
)
def test_what_is_missing_is_left_out_and_said(changes: dict[str, object], told: str) -> None:
    results = made_results(**changes)
    if "y" in changes:
        record = {**results.record, **UNKNOWN_TRUTH, "scenario": {"given": True}}
        record = {name: value for name, value in record.items() if name not in ("threshold", "classes")}
        results = replace(results, record=record, own_metrics={})
    page = Page(run_page(results, []))
    assert f"Not on this page {told}" in page.text or ("y" in changes and told in page.text)
    assert "Scores by class" in page.text
    assert ("ROC curve" in page.text) == ("y" not in changes)
    assert ("AUROC by anomaly class" in page.text) == (not changes.keys() & {"classes", "y"})
    assert ("Loss of the training" in page.text) == ("losses" not in changes)
    assert "Samples" not in page.text


def plain(results: RunResults) -> RunResults:
    """The same with the oldest record: only what every record has."""
    newer = ("classes", "epochs", "reused", "trainer", "threshold", "versions", "auroc_known", "auroc_novel")
    return replace(results, record={name: value for name, value in results.record.items() if name not in newer})


def test_the_record_of_an_early_release_is_enough() -> None:
    page = Page(run_page(plain(made_results(classes=None, own_metrics={})), []))
    assert "AUROC, known" not in page.text
    assert HOSTILE in page.text
