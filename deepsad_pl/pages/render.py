"""Render the templates of pages as self-contained HTML: style and script are inlined, nothing is loaded."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        # Names of classes, columns and samples come from files that others may have written.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"], environment.globals["script"] = _inlined("page.css"), _inlined("page.js")
    environment.globals["style_hash"], environment.globals["script_hash"] = _hash("page.css"), _hash("page.js")
    return environment


def _inlined(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _hash(name: str) -> str:
    """Source expression with which the page's content security policy allows just this file of the templates."""
    digest = hashlib.sha256((_TEMPLATES / name).read_bytes()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def render(template: str, **values: Any) -> str:
    """Render a template.

    Args:
        template: its file name.
        **values: its variables; all text is escaped.
    """
    return _environment().get_template(template).render(**values)
