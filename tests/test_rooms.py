"""The rooms of the package: each imports only those above it, and a file name occurs once."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT

PACKAGE = ROOT / "deepsad_pl"
# From what every room may use to the commands; a room imports only rooms listed before it.
ROOMS = (
    *("common", "networks", "data", "methods", "shallow", "training", "tracking", "settings"),
    *("detector", "pages", "experiment", "compose", "estimators", "stacked", "sweep", "report", "study", "commands"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The rooms from which a file imports, anywhere in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "deepsad_pl" else [module]
        for name in names:
            first, *rest = name.split(".")
            if first == "deepsad_pl" and rest and rest[0] in ROOMS:
                yield rest[0]


def test_every_file_is_in_a_room() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == {*ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    allowed = {*ROOMS[: ROOMS.index(room) + 1]} - ({"data"} if room == "methods" else set())
    for path in (PACKAGE / room).rglob("*.py"):
        assert {*imported(path)} <= allowed, path


def test_a_file_name_occurs_once() -> None:
    counts = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, count in counts.items() if count > 1] == []
