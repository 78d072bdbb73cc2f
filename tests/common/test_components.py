"""Components named by ``_target_`` are checked and fingerprinted from their source, without imports."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deepsad_pl.common.components import fingerprint, instantiate, problems_of, targets_of
from deepsad_pl.common.errors import DeepSADError

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.syspath_prepend(tmp_path)

    def made(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return made


def package(write: Write, imports: str, **more: str) -> None:
    """Modules ``outside.mine``, with these imports, and ``outside.base``."""
    write(**{"outside__mine": f"{imports}\nclass Mine: ...\n", "outside__base": "A = 1\n"}, **more)


IMPORTS = {
    "from . import base": True,
    "from .base import A": True,
    "from outside import base": True,
    "from outside.base import A": True,
    "import outside.base": True,
    "import outside.base as other": True,
    "def late():\n    from . import base": True,
    "from .inner import base as b": False,
    "import json": False,
}


@pytest.mark.parametrize(("imports", "counts"), IMPORTS.items())
def test_changed_code_changes_the_fingerprint(write: Write, imports: str, counts: bool) -> None:
    package(write, imports, outside__inner__base="")
    before = fingerprint("outside.mine.Mine")
    assert before == fingerprint("outside.mine.Mine")
    write(outside__base="A = 2\n")
    assert (fingerprint("outside.mine.Mine") != before) is counts
    write(outside__mine=f"{imports}\nclass Mine:\n    B = 1\n")
    assert fingerprint("outside.mine.Mine") != before
    assert not [name for name in sys.modules if name.startswith("outside")]


def test_the_packages_around_a_module_count(write: Write, tmp_path: Path) -> None:
    package(write, "")
    before = fingerprint("outside.mine.Mine")
    (tmp_path / "outside" / "__init__.py").write_text("from .base import A\n")
    within = fingerprint("outside.mine.Mine")
    write(outside__base="A = 2\n")
    assert len({str(one) for one in (before, within, fingerprint("outside.mine.Mine"))}) == 3


def test_circular_imports_end(write: Write) -> None:
    package(write, "from . import base")
    write(outside__base="from . import mine\n")
    assert fingerprint("outside.mine.Mine")["source"]


def test_installed_distributions_and_python_count_by_version() -> None:
    from importlib.metadata import version

    target = "pytorch_lightning.callbacks.EarlyStopping"
    assert fingerprint(target) == {"target": target, "version": version("pytorch-lightning")}
    assert fingerprint("collections.OrderedDict")["version"].count(".") == 2


def test_a_module_that_is_missing_has_no_fingerprint() -> None:
    with pytest.raises(DeepSADError, match=r"there is no module nowhere for nowhere.X; put its folder on PYTHONPATH"):
        fingerprint("nowhere.X")


FINE = {
    "import": "from .base import A as Mine",
    "star": "from .base import *",
    "try": "try:\n    import json\nexcept ImportError:\n    pass\nelse:\n    class Mine: ...",
    "handler": "try:\n    import nothing_at_all as Mine\nexcept ImportError:\n    Mine = None",
    "if": "if True:\n    def Mine(): ...",
    "assigned": "Mine = dict",
    "annotated": "Mine: object = dict",
    "lazy": "def __getattr__(name): ...",
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_a_name_may_come_from_anywhere(write: Write, text: str) -> None:
    package(write, "", outside__other=text)
    assert problems_of({"_target_": "outside.other.Mine"}, "key") == []


def test_a_package_needs_no_init(write: Write) -> None:
    write(bare__mine="class Mine: ...")
    assert problems_of({"_target_": "bare.mine.Mine"}, "key") == []
    assert fingerprint("bare.mine.Mine")["source"]
    (problem,) = problems_of({"_target_": "bare.gone.Mine"}, "key")
    assert "defines no gone" in problem


def test_a_function_of_a_class_and_decorated_ones_are_found(write: Write) -> None:
    write(lone="import functools\nclass A:\n    def make(): ...\n@functools.cache\ndef f(x): ...\n")
    assert problems_of({"_target_": "lone.A.make"}, "key") == []
    assert problems_of({"_target_": "lone.f"}, "key") == []
    assert problems_of({"_target_": "torchvision.models.resnet18", "weights": None}, "key") == []


SIGNATURES = """
class Mine:
    def __init__(self, a, b=1, *, c, d=None): ...

class Open:
    def __init__(self, a, **more): ...

def function(a): ...
"""
WRONG = {
    "lone.Mine": (
        {"a": 1, "e": 2},
        ["key.e is not an argument of lone.Mine in .*; it has a, b, c, d", "key lacks c, which"],
    ),
    "lone.function": ({}, ["key lacks a, which lone.function in .* requires; set a value"]),
    "lone.gone": ({}, ["key._target_ is lone.gone, but .*lone.py defines no gone; name a class or function in it"]),
    "lone": ({}, ["key._target_ is lone, which is a module; name a class or function in it"]),
    "nowhere.X": ({}, ["key._target_ is nowhere.X, whose module is not found; put its folder on PYTHONPATH"]),
    "broken.X": ({}, ["key._target_ is broken.X, but .*broken.py, line 2, is not valid Python .*; correct it"]),
    "pytorch_lightning.loggers.CSVLogger": (
        {"save_dir": "x", "nam": 1},
        ["key.nam is not an argument of pytorch_lightning"],
    ),
}


@pytest.mark.parametrize(("target", "node", "expected"), [(target, *of) for target, of in WRONG.items()])
def test_each_error_is_one_sentence(write: Write, target: str, node: dict[str, object], expected: list[str]) -> None:
    write(lone=SIGNATURES, broken="a = 1\nb = = 2\n")
    found = problems_of({"_target_": target, **node}, "key")
    assert len(found) == len(expected)
    for problem, pattern in zip(found, expected, strict=True):
        assert re.match(pattern, problem)


def test_nested_components_are_checked(write: Write) -> None:
    write(lone=SIGNATURES)
    node = {"_target_": "lone.Open", "a": [{"_target_": "lone.gone"}], "more": {"_target_": "lone.Open", "a": 1}}
    (problem,) = problems_of(node, "key")
    assert problem.startswith("key.a[0]._target_ is lone.gone, but ")
    assert targets_of(node) == ["lone.Open", "lone.gone", "lone.Open"]


def test_a_component_gets_plain_arguments_and_its_own_error_is_shown(write: Write) -> None:
    write(maker="def make(a):\n    return a\ndef fail():\n    raise KeyError('inside')\n")
    made = instantiate({"_target_": "maker.make", "a": {"x": [1, {"_target_": "maker.make", "a": 2}]}}, "key")
    assert made == {"x": [1, 2]}
    assert type(made) is dict
    with pytest.raises(
        DeepSADError, match=r"key: maker.fail cannot be created \(KeyError: 'inside', in .*maker.py, line 4\)"
    ):
        instantiate({"_target_": "maker.fail"}, "key")


def test_our_own_error_sentences_are_kept() -> None:
    """Formerly, a failed download was reported only as a component that cannot be created."""
    with pytest.raises(DeepSADError) as caught:
        instantiate({"_target_": f"{__name__}.refuse_with_a_cause"}, "dataset")
    assert str(caught.value) == "the file could not be downloaded; try again"


def refuse_with_a_cause() -> None:
    raise DeepSADError("the file could not be downloaded; try again") from OSError("no network")
