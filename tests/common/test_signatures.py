"""Signatures read from source files agree with those that inspect finds after an import."""

import inspect
import math
import sys
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest

from deepsad_pl.common.components import load
from deepsad_pl.common.ranges import AtLeast1, Positive, converted, problems
from deepsad_pl.common.signatures import signature_of
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.settings.about import own

OWN = sorted(
    {
        node["_target_"]
        for group in ("method", "pretrain", "network", "dataset")
        for node in own(group).values()
        if node.get("_target_")
    }
)


PROBES = [None, True, -1, 0, 1, 2, 3, 0.5, 1.5, math.inf, math.nan, "a", "mse", "all", "none", "toy", 8]
PROBES += [[], [0], [1], [0.5], [2, 3], ["a"]]


@pytest.mark.parametrize("target", OWN)
def test_signatures_in_the_package_are_read_as_python_sees_them(target: str) -> None:
    found, real = signature_of(target), inspect.signature(load(target, "x")).parameters
    assert found is not None
    assert list(found.kinds) == list(real)
    assert set(found.required) == {name for name, one in real.items() if one.default is one.empty}
    function = load(target, "x")
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    for name, kind in found.kinds.items():
        for value in PROBES if kind is not Any else ():
            told = [list(problems(name, converted(value, one), one)) for one in (kind, hints[name])]
            assert told[0] == told[1]
    assert all(found.kinds[name] is not Any for name in ("lr", "epochs", "weight_decay") if name in found.kinds)


def test_the_named_tables_are_those_with_a_file() -> None:
    kind = signature_of("deepsad_pl.data.sources.table_set").kinds["kind"]  # type: ignore[union-attr]
    assert set(kind.__args__) == {*ODDS_FILES, "toy"}


SOURCE = """
from collections.abc import Sequence
from typing import Any, Literal, Optional
import typing
from deepsad_pl.common.ranges import AtLeast1, Positive, converted, problems
from somewhere import Unknown


def decorate(function): return function


class Base:
    def __init__(self, width: AtLeast1, *, eta: Positive = 1.0, seed: int) -> None: ...


class Further(Base):
    def __init__(self, *, delta: "Positive" = 0.5, **arguments: Any) -> None:
        super().__init__(seed=3, **arguments)


class Silent(Further):
    pass


class Foreign(Unknown):
    def __init__(self, a: int, **more): ...


class Closed:
    pass


class Decorated:
    @decorate
    def __init__(self, a): ...


def function(y, score, /, k: int | None = None, *, how: typing.Literal["a", "b"] = "a", rest: Optional[float] = None,
             many: Sequence[float] = (), pair: tuple[int, str] = (1, 'a'),
             odd: Unknown = None, both: AtLeast1 | list[AtLeast1] = 1): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"signed_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_arguments_passed_on_to_the_base_class_are_included(module: str) -> None:
    found = signature_of(f"{module}.Further")
    assert found is not None
    assert dict(found.kinds) == {"delta": Positive, "width": AtLeast1, "eta": Positive}
    assert found.required == ("width",)
    assert not found.open
    assert signature_of(f"{module}.Silent") == found


def test_a_signature_that_cannot_be_followed_is_open_or_unknown(module: str) -> None:
    foreign = signature_of(f"{module}.Foreign")
    assert foreign is not None
    assert foreign.open
    assert signature_of(f"{module}.Decorated") is None
    assert signature_of(f"{module}.nothing") is None
    closed = signature_of(f"{module}.Closed")
    assert closed is not None
    assert (dict(closed.kinds), closed.open) == ({}, False)


def test_annotations_are_types_of_settings(module: str) -> None:
    found = signature_of(f"{module}.function")
    assert found is not None
    assert found.positional == ("y", "score", "k")
    assert found.required == ("y", "score")
    kinds = dict(found.kinds)
    assert kinds["k"] == int | None
    assert kinds["how"] == Literal["a", "b"]
    assert kinds["rest"] == float | None
    assert kinds["many"] == list[float]
    assert kinds["pair"] is list
    assert kinds["odd"] is kinds["y"] is Any
    assert kinds["both"] == AtLeast1 | list[AtLeast1]


def test_nothing_is_imported(module: str) -> None:
    assert signature_of(f"{module}.function") is not None
    assert module not in sys.modules
