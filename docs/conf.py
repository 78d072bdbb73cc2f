"""The documentation site: ``make docs`` builds it into docs/_build, with warnings as errors and without the network."""

import os
import pydoc
import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "deepsad_pl"
version = release = version_of("deepsad-pl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "results/adbench"]
# Code without a language is a command, a formula or a folder.
highlight_language = "none"
nitpicky = True
# Names of other packages could only be looked up with the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!deepsad_pl\.).*")]

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


# Files of the checkout that are pages of the site, too.
PAGES = {
    ROOT / "benchmarks" / "README.md": "performance.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
}


def _adapt_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links that are made for readers of the checkout lead to a page of the site, too.

    A page that only includes a file gets its text. A folder of the checkout has no page, so that only its name stays.
    """
    folder = origin = (DOCS / page).parent
    if match := re.fullmatch(r"```{include} (\S+)\n```\s*", source[0]):
        included = (folder / match[1]).resolve()
        app.env.note_dependency(str(included))
        source[0], origin = included.read_text(encoding="utf-8"), included.parent

    def adapted(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        path = (origin / target).resolve()
        if path.is_dir():
            return text
        path = DOCS / PAGES[path] if path in PAGES else path
        return f"[{text}]({os.path.relpath(path, folder)}{anchor})"

    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)", adapted, source[0])


def _resolve_internal_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """A name of the package that is not in the reference is shown without a link; a name that is wrong is a warning."""
    target = node.get("reftarget", "")
    if node.get("refdomain") == "py" and target.startswith(f"{project}.") and pydoc.locate(target) is not None:
        return text
    return None


def _leave_out_ranges(
    app: Sphinx, what: str, name: str, found: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show ``Positive`` and the like as the number that they are; the text of an argument says what is allowed."""
    annotated = r"~?typing\.Annotated\[~?([\w.]+), ~?deepsad_pl\.common\.ranges\.Range\([^)]*\)\]"
    return (signature and re.sub(annotated, r"\1", signature)), returned


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
    app.connect("missing-reference", _resolve_internal_name)
    app.connect("autodoc-process-signature", _leave_out_ranges)
    app.connect("build-finished", _require_no_requests)
