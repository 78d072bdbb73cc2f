"""What is renamed into place is on the disk first, and what killed processes left is removed."""

import os
import tempfile
from pathlib import Path

import psutil
import pytest

from deepsad_pl.common.files import clear_parts, part_of, put_in_place, write_atomic


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """The paths that are synchronized and replaced, in this order."""
    found: list[tuple[str, Path]] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        found.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        found.append(("replace", target))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    return found


def test_a_file_is_on_the_disk_before_its_name_and_then_the_name(
    tmp_path: Path, events: list[tuple[str, Path]]
) -> None:
    write_atomic(tmp_path / "file", "content")
    (first, part), *rest = events
    assert first == "sync"
    assert part.parent == tmp_path
    assert rest == [("replace", tmp_path / "file"), ("sync", tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_on_the_disk_with_all_that_it_holds(tmp_path: Path, events: list[tuple[str, Path]]) -> None:
    part = tmp_path / "part"
    (part / "deep").mkdir(parents=True)
    (part / "deep" / "file").touch()
    put_in_place(part, tmp_path / "folder")
    assert {path for event, path in events[:3] if event == "sync"} == {part, part / "deep", part / "deep" / "file"}
    assert events[3:] == [("replace", tmp_path / "folder"), ("sync", tmp_path)]


def test_only_what_dead_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left_by(pid: int, name: str) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            words = part_of(tmp_path / name)
        return Path(words["dir"]) / f"{words['prefix']}abcd_123{words['suffix']}"

    # No process has a number above the largest that Linux allows.
    dead, folder, alive = left_by(1 << 23, "a.json"), left_by(1 << 23, "b"), left_by(os.getpid(), "c.json")
    of_others = tmp_path / ".a.json.ffffffff-8388608.abcd_123.part"
    mine = [tmp_path / name for name in (".env", ".metrics.json.original", ".my.notes_01", "a.part")]
    kept = [alive, of_others, *mine, tmp_path / ".metrics.json.abcd_123"]
    for path in (dead, *kept):
        path.touch()
    folder.mkdir()
    (folder / "inside").touch()
    clear_parts(tmp_path, tmp_path / "missing")
    assert {*tmp_path.iterdir()} == {*kept}
    # Behind a lock nobody else can be writing.
    clear_parts(tmp_path, locked=True)
    assert {*tmp_path.iterdir()} == {*mine}


def test_a_file_that_is_written_again_has_no_leftovers_of_killed_processes(tmp_path: Path) -> None:
    ours, other = tmp_path / "a[1].csv", tmp_path / "b.csv"
    dead = psutil.Process().pid
    while psutil.pid_exists(dead):
        dead += 1
    left = [Path(tempfile.mkstemp(**part_of(path))[1]) for path in (ours, ours, other)]
    of_dead = [path.rename(path.with_name(path.name.replace(f"-{os.getpid()}.", f"-{dead}."))) for path in left[::2]]
    write_atomic(ours, "content")
    # Another process may be writing the same file, and another file is not ours.
    assert {*tmp_path.iterdir()} == {ours, left[1], of_dead[1]}
