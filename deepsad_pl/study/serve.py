"""Serve the page of a study to a browser on this machine, and rebuild it as experiments finish."""

import http.server
import logging
import threading
import time
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from deepsad_pl.common.errors import DeepSADError

log = logging.getLogger(__name__)

# Only this machine can reach it; from another one, use an SSH tunnel.
HOST = "127.0.0.1"
# Seconds after which a browser reloads the page, and within which the page is not rebuilt.
EVERY_S = 10
_SHOWN = (".html", ".png", ".svg", ".csv", ".json", ".md", ".tex")
_WAITING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="color-scheme" content="light dark"></head><body style="font-family: sans-serif; margin: 2rem">
<main><h1>{title}</h1><p>{told}</p><p>This page refreshes itself.</p></main></body></html>"""


class PageServer(http.server.ThreadingHTTPServer):
    """Serves the pages and pictures below a folder to browsers on this machine.

    Args:
        root: the folder; nothing outside it, and no list of its files, is served.
        page: the page to which the root address redirects, a file below the folder.
        title: shown until the page exists.
        make: rebuilds the page; returns why it cannot do so yet, or None.
        port: where to listen; 0 for any free port.

    Raises:
        DeepSADError: if the port is not allowed or in use.
    """

    daemon_threads = True

    def __init__(self, root: Path, page: Path, title: str, make: Callable[[], str | None], *, port: int = 0) -> None:
        if not 0 <= port <= 65_535:
            raise DeepSADError(f"port is {port}; it must be a whole number from 0 (any free one) to 65,535")
        self.root, self.page, self.title = root.resolve(), page.resolve(), title
        self._make, self._lock = make, threading.Lock()
        self._made = -float("inf")
        self._told: str | None = None
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise DeepSADError(f"port {port} cannot be used ({error.strerror}); choose another, or port=0") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{quote(self.page.relative_to(self.root).as_posix())}"

    def refreshed(self) -> str | None:
        """Rebuild the page unless that was just done; return why that is impossible, or None."""
        with self._lock:
            if time.monotonic() - self._made >= EVERY_S:
                try:
                    self._told = self._make()
                except Exception as error:  # told in the browser, where somebody waits for the page
                    log.exception("the page of the study could not be made")
                    self._told = f"{type(error).__name__}: {error}"
                self._made = time.monotonic()
            return self._told if self._told or self.page.exists() else "nothing is finished yet"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: PageServer

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, directory=str(arguments[2].root), **named)

    def do_GET(self) -> None:
        # Against DNS rebinding: a page from elsewhere whose host name resolves to this machine must not read anything.
        ours = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host", "") not in ours:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        path = self._path()
        try:
            asked = (self.server.root / path.lstrip("/")).resolve()
        except ValueError:  # no name of a file
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if path == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.server.url)
            self.end_headers()
        elif asked == self.server.page and (told := self.server.refreshed()) is not None:
            content = _WAITING.format(title=escape(self.server.title), told=escape(told)).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        elif not asked.is_relative_to(self.server.root) or asked.suffix not in _SHOWN or not asked.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        # Only the study's page changes.
        if self._path().lstrip("/") == self.server.page.relative_to(self.server.root).as_posix():
            self.send_header("Refresh", str(EVERY_S))
        super().end_headers()

    def _path(self) -> str:
        # A request that cannot be parsed has none.
        return unquote(urlsplit(getattr(self, "path", "")).path)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests."""
