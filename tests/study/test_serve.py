"""The page of a study is served to this machine alone, and made anew while experiments finish."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study import serve
from deepsad_pl.study.serve import HOST, PageServer


@contextmanager
def served(root: Path, make: Callable[[], str | None]) -> Iterator[PageServer]:
    page = root / "studies" / "eta" / "report.html"
    with PageServer(root, page, "Figure <5>", make) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: PageServer, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


PAGE = "/studies/eta/report.html"


def test_a_page_is_made_anew_and_refreshes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "EVERY_S", 0)
    (tmp_path / "studies" / "eta").mkdir(parents=True)
    finished = iter(("nothing is <finished>", None, None))
    count = 0

    def make() -> str | None:
        nonlocal count
        count += 1
        if (told := next(finished)) is None:
            (tmp_path / PAGE[1:]).write_text(f"page {count}")
        return told

    with served(tmp_path, make) as server:
        assert server.url == f"http://127.0.0.1:{server.server_port}{PAGE}"
        code, text, headers = get(server, PAGE)
        assert code == 200 and "nothing is &lt;finished&gt;" in text and "Figure &lt;5&gt;" in text
        assert headers["Refresh"] == "0"
        assert [get(server, PAGE)[1] for _ in range(2)] == ["page 2", "page 3"]
        code, _, headers = get(server, "/")
        assert (code, headers["Location"]) == (302, server.url)


def test_a_page_is_not_made_anew_at_each_request(tmp_path: Path) -> None:
    (tmp_path / "studies" / "eta").mkdir(parents=True)
    made: list[None] = []

    def make() -> None:
        made.append(None)
        (tmp_path / PAGE[1:]).write_text("page")

    with served(tmp_path, make) as server:
        assert [get(server, PAGE)[1] for _ in range(3)] == ["page"] * 3
    assert len(made) == 1


def test_only_pages_below_the_folder_are_served_and_only_here(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "digits").mkdir(parents=True)
    (root / "digits" / "report.html").write_text("a run")
    (root / "digits" / "last.ckpt").write_text("weights")
    (tmp_path / "secret.html").write_text("secret")
    (root / "link.html").symlink_to(tmp_path / "secret.html")
    with served(root, lambda: None) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert get(server, "/digits/report.html")[:2] == (200, "a run")
        assert "Refresh" not in get(server, "/digits/report.html")[2]
        for path in (
            "/digits/",
            "/digits/last.ckpt",
            "/../secret.html",
            "/%2e%2e/secret.html",
            "/link.html",
            "/no.html",
        ):
            assert get(server, path)[0] == 404, path
        assert get(server, "/digits/report.html", Host="evil.example:80")[0] == 403


def test_a_port_that_is_taken_or_none_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    told = r"port \d+ cannot be used \(Address already in use\); choose another"
    with PageServer(tmp_path, page, "", lambda: None) as server, pytest.raises(DeepSADError, match=told):
        PageServer(tmp_path, page, "", lambda: None, port=server.server_port)
    with pytest.raises(DeepSADError, match="port is 70000; it must be a whole number from 0"):
        PageServer(tmp_path, page, "", lambda: None, port=70_000)


def test_a_page_that_cannot_be_made_anew_is_told_though_an_old_one_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "EVERY_S", 0)
    (tmp_path / "studies" / "eta").mkdir(parents=True)
    (tmp_path / PAGE[1:]).write_text("old page")
    made: list[object] = ["its settings have changed", OSError(28, "No space left on device"), None]

    def make() -> str | None:
        if isinstance(found := made.pop(0), OSError):
            raise found
        return found and str(found)

    with served(tmp_path, make) as server:
        assert "its settings have changed" in get(server, PAGE)[1]
        assert "No space left on device" in get(server, PAGE)[1]
        assert get(server, PAGE)[1] == "old page"


def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with served(tmp_path, lambda: None) as server:
        assert get(server, "/%00.html")[0] == 404
        with socket.create_connection((HOST, server.server_port), timeout=10) as connection:
            connection.sendall(b"GARBAGE\r\n\r\n")
            assert b"400" in connection.recv(1000)
