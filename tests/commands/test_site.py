"""The documentation site: what its configuration checks, that every page is reachable, and the reference complete."""

import re
import runpy
from pathlib import Path

import pytest
from processes import ROOT

import deepsad_pl

DOCS = ROOT / "docs"
PAGES = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]


@pytest.mark.parametrize(
    ("html", "loaded"),
    [
        ('<a href="https://arxiv.org">paper</a> <script src="_static/a.js"></script>', []),
        ('<script async src="https://cdn.example/mathjax.js"></script>', ["https://cdn.example/mathjax.js"]),
        ("<link rel=stylesheet href=//fonts.example/css>", ["//fonts.example/css"]),
        ('<img alt="badge" src="http://img.example/badge.svg">', ["http://img.example/badge.svg"]),
        (
            '@import "https://fonts.example/a.css"; p {background: url(data:image/svg+xml;x)}',
            ["https://fonts.example/a.css"],
        ),
        ("p {background: url('https://img.example/a.png')}", ["https://img.example/a.png"]),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(html: str, loaded: list[str]) -> None:
    pytest.importorskip("sphinx", reason="the site needs pip install 'deepsad-pl[docs]'")
    assert runpy.run_path(str(DOCS / "conf.py"))["requests_of"](html) == loaded


def listed() -> set[str]:
    """The pages in the toctrees of the site, without suffix."""
    found = set()
    for path in PAGES:
        for block in re.findall(r"```{toctree}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for entry in re.findall(r"^([\w*/[\]]+)$", block, re.MULTILINE):
                found |= {one.relative_to(DOCS).with_suffix("").as_posix() for one in DOCS.glob(f"{entry}.*")}
    return found


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES}
    assert pages - listed() == {"index"}


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    missing = [
        name
        for name in deepsad_pl.__all__
        if f"deepsad_pl.{name}\n" not in text and f"automodule:: {getattr(deepsad_pl, name).__module__}\n" not in text
    ]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_links_lead_to_files_of_the_checkout(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
