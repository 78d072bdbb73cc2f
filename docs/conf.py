"""The documentation site: ``make docs`` builds it into docs/_build, with warnings as errors and without the network."""

import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).parents[1]

project = "deepsad_pl"
version = release = version_of("deepsad-pl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "results/adbench"]
# Code without a language is a command, a formula or a folder.
highlight_language = "none"
nitpicky = True
# Names of other packages could only be looked up with the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!deepsad_pl\.).*")]
# docs/reliability.md may be missing.
suppress_warnings = ["toc.empty_glob"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# Notebooks are shown with the outputs that they are stored with; a test runs them.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_use_ivar = True
napoleon_custom_sections = [("Knobs", "notes_style")]

html_theme = "furo"
html_title = "deepsad_pl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"


def _show_formula(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _show_displayed_formula(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def _adapt_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links that are made for readers of the checkout lead to a page of the site, too.

    A folder of the checkout has no page, so that only its name stays. The page of the benchmarks is included in
    ``performance``.
    """
    folder = (ROOT / "docs" / page).parent

    def adapted(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        path = (folder / target).resolve()
        if path == ROOT / "benchmarks" / "README.md":
            return f"[{text}]({os.path.relpath(ROOT / 'docs' / 'performance.md', folder)}{anchor})"
        return text if path.is_dir() else link[0]

    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)", adapted, source[0])


def requests_of(html: str) -> list[str]:
    """What a browser would load from elsewhere to show a page; links that a reader may follow are no requests."""
    tags = re.findall(r"<(?:script|link|img|iframe|source|object|video)\b[^>]*>", html)
    address = r"((?:https?:)?//[^\"')\s>]+)"
    loaded = re.findall(rf"(?:src|href|data)=[\"']?{address}", "\n".join(tags))
    return loaded + re.findall(rf"(?:url\([\"']?|@import\s+[\"']){address}", html)


def _require_no_requests(app: Sphinx, exception: Exception | None) -> None:
    """Fail if a page or a style sheet of the site would load anything from elsewhere."""
    if exception is None:
        files = [path for path in Path(app.outdir).rglob("*") if path.suffix in (".html", ".css")]
        loading = {path.name: found for path in files if (found := requests_of(path.read_text(encoding="utf-8")))}
        if loading:
            raise ExtensionError(f"these files of the site load something from elsewhere: {loading}; bring it along")


def setup(app: Sphinx) -> None:
    """Show formulas as MathML, which needs neither scripts nor fonts, and adapt links to the site."""
    app.add_html_math_renderer("mathml", (_show_formula, None), (_show_displayed_formula, None))
    app.connect("source-read", _adapt_links)
    app.connect("build-finished", _require_no_requests)
