"""Downloads from a server on this machine: a file is complete and correct, or missing."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_data import closed_url

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.download import fetch, sha256_of

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts its requests; ``cut`` breaks the connection of the next ones in the middle."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.cut = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/missing.mat":
            self.send_error(404)
            return
        if self.path == "/garbage.mat":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            return
        self.send_response(200)
        if self.path == "/odd-length.mat":
            self.send_header("Content-Length", "many")
        elif self.path != "/no-length.mat":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.server.cut else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def check_failure(url: str, path: Path, sha256: str = SHA256) -> str:
    """The message of a failed download, which names file, URL and way out, and leaves no file."""
    with pytest.raises(DeepSADError) as caught:
        fetch(url, path, sha256)
    (problem,) = caught.value.problems
    assert path.name in problem
    assert url in problem
    assert f"put it at {path}" in problem
    assert not path.exists()
    assert not list(path.parent.glob("*.part"))
    return problem


@pytest.mark.parametrize("name", ["good.mat", "no-length.mat", "odd-length.mat"])
def test_a_good_file_arrives_complete(server: Server, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a" / "b" / name
    assert fetch(server.url(name), path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert not list(path.parent.glob("*.part"))


def test_a_downloaded_file_can_be_read_by_others(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url("good.mat"), tmp_path / "good.mat", SHA256)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_wrong_checksum_is_reported_with_both_sums(server: Server, tmp_path: Path) -> None:
    problem = check_failure(server.url("good.mat"), tmp_path / "good.mat", "0" * 64)
    assert SHA256 in problem
    assert "0" * 64 in problem


def test_a_broken_connection_is_reported_with_the_bytes(server: Server, tmp_path: Path) -> None:
    server.cut = True
    problem = check_failure(server.url("good.mat"), tmp_path / "good.mat")
    assert f"broke after 1000 of {len(CONTENT)} bytes" in problem


def test_an_unnoticed_break_is_caught_by_the_checksum(server: Server, tmp_path: Path) -> None:
    server.cut = True
    assert "SHA-256" in check_failure(server.url("no-length.mat"), tmp_path / "no-length.mat")


def test_a_missing_file_is_reported_with_the_servers_answer(server: Server, tmp_path: Path) -> None:
    assert "404" in check_failure(server.url("missing.mat"), tmp_path / "missing.mat")


def test_a_refused_connection_is_reported(tmp_path: Path) -> None:
    assert "refused" in check_failure(f"{closed_url()}x.mat", tmp_path / "x.mat")


def test_a_server_without_http_is_reported(server: Server, tmp_path: Path) -> None:
    check_failure(server.url("garbage.mat"), tmp_path / "garbage.mat")


def test_an_existing_file_is_used_without_the_network(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "good.mat"
    path.write_bytes(b"put here by hand")
    assert fetch(server.url("good.mat"), path, SHA256).read_bytes() == b"put here by hand"
    assert server.requests == []


def test_a_second_fetch_uses_the_file_of_the_first(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        fetch(server.url("good.mat"), tmp_path / "good.mat", SHA256)
    assert server.requests == ["/good.mat"]


def test_a_fetch_after_a_failure_works(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "good.mat"
    server.cut = True
    check_failure(server.url("good.mat"), path)
    server.cut = False
    assert fetch(server.url("good.mat"), path, SHA256).read_bytes() == CONTENT


def test_parallel_fetches_download_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "good.mat"
    threads = [threading.Thread(target=fetch, args=(server.url("good.mat"), path, SHA256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert server.requests == ["/good.mat"]


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeepSADError, match=r"cannot be created or written to .* choose another data_dir"):
        fetch(closed_url(), tmp_path / "file" / "x.mat", SHA256)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "x") == SHA256
