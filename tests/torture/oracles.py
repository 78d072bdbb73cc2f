"""Judge results by those of an undisturbed run: the same files, with the same numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torture.trial import WrongError

# Keys of a record that describe the course of a run, not its result.
_OF_THE_COURSE = ("seconds", "versions", "command", "trainer", "reused", "sha256")
# Log messages, lock files, digests of inputs, which are kept only for files that are old enough, and the pages of runs,
# which show seconds.
_UNCOMPARED = re.compile(r"(^|/)(train\.log|report\.html|\.lock|[^/]*\.lock|digests-[0-9a-f]{16}\.json)$")
# The rounding of a stack depends on who is in it, and training amplifies it.
_REL, _ABS = 0.02, 2e-3
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def files_in(folder: Path) -> dict[str, Path]:
    """The files that are compared, by relative path."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if not _UNCOMPARED.search(name)}


def require_same_tree(expected: Path, got: Path, *, exact: bool, but: Callable[[str], bool] = lambda _: False) -> None:
    """Require that two folders have the same files with the same results.

    Args:
        expected: folder of an undisturbed run.
        got: folder of a disturbed one.
        exact: whether the results must have the same bits.
        but: whether a file, by its relative path, is left out.

    Raises:
        WrongError: with the first difference.
    """
    ours, theirs = files_in(expected), files_in(got)
    missing = [name for name in ours if name not in theirs and not but(name)]
    left = [name for name in theirs if name not in ours and not but(name)]
    if missing:
        raise WrongError(f"lost: {', '.join(missing[:5])}")
    if left:
        raise WrongError(f"left behind: {', '.join(left[:5])}")
    for name, path in ours.items():
        if not but(name):
            require_same_file(path, theirs[name], exact=exact)


def require_same_file(expected: Path, got: Path, *, exact: bool) -> None:
    """Require the same results in two files, apart from what describes the course of a run.

    Raises:
        WrongError: if they differ.
    """
    if expected.read_bytes() == got.read_bytes():
        return
    name, suffix = got.name, got.suffix
    if name == "metrics.json":
        ours, theirs = _result(expected), _result(got)
        # Damage to the name of the checksum's key adds a key, but the record is right.
        same = all(key in theirs and _close(value, theirs[key], exact) for key, value in ours.items())
    elif name == "detector.json":
        same = _close(*({**json.loads(one.read_text()), "files": None} for one in (expected, got)), exact)
    elif suffix in (".ckpt", ".bin"):
        same = _same_state(_state(expected), _state(got), exact)
    elif suffix == ".npz":
        same = _same_state(_arrays(expected), _arrays(got), exact)
    elif exact or suffix in (".png", ".svg"):
        # Figures of nearly equal results need not be equal.
        same = not exact
    else:
        same = _same_text(expected.read_text(errors="replace"), got.read_text(errors="replace"))
    if not same:
        raise WrongError(f"{got.relative_to(got.parents[1])} differs from that of an undisturbed run")


def _result(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in _OF_THE_COURSE}


def _close(one: Any, other: Any, exact: bool) -> bool:
    if exact:
        return bool(one == other)
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other} - {"sha256", "bytes"}
        return all(key in one and key in other and _close(one[key], other[key], exact) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_close(*pair, exact) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        # A metric of a few samples jumps if two of them change places.
        return bool(np.isclose(one, other, rtol=_REL, atol=0.02))
    return bool(one == other)


def _state(path: Path) -> dict[str, Any]:
    import io

    import torch

    content = path.read_bytes()[32 if path.suffix == ".bin" else 0 :]
    checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {key: value.numpy() for key, value in checkpoint["state_dict"].items()}


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file}


def _same_state(one: dict[str, Any], other: dict[str, Any], exact: bool) -> bool:
    if list(one) != list(other):
        return False
    pairs = [(one[key], other[key]) for key in one]
    if exact:
        return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
    return all(a.shape == b.shape for a, b in pairs)


def _same_text(one: str, other: str) -> bool:
    """Whether two texts differ only by the rounding of numbers."""
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    numbers = [np.array([float(word) for word in _NUMBER.findall(text)]) for text in (one, other)]
    # Tables are in percent, with one digit.
    return bool(np.isclose(*numbers, rtol=_REL, atol=max(_ABS, 0.2 * (np.abs(numbers[0]) > 1).any())).all())
