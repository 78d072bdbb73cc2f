"""Suggest the name that was probably meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher

# The similarity from which a name is suggested, and what an equal group adds to it.
_LIKE, _GROUP_COUNTS = 0.7, 0.2


def suggested(key: str, names: Iterable[str]) -> str:
    """A "did you mean ...?" question with the nearest names; empty if none is similar."""
    near = nearest(key, names)
    return f"did you mean {' or '.join([', '.join(near[:-1]), near[-1]] if near[1:] else near)}?" if near else ""


def nearest(key: str, names: Iterable[str]) -> list[str]:
    """The most similar names; several if they are equally similar.

    Names are compared by their last part, and also as a whole if their groups differ. Among similar names, those with a
    similar group win.
    """
    group, _, last = key.rpartition(".")
    likeness: dict[str, float] = {}
    for name in names:
        its_group, _, its_last = name.rpartition(".")
        like = _ratio(last, its_last)
        if len(last) > 2 and its_last.startswith(last):
            like = max(like, _LIKE)
        if group != its_group and not key.startswith(f"{name}."):
            like = max(like, _ratio(key, name))
        if like >= _LIKE:
            likeness[name] = like + _GROUP_COUNTS * _ratio(group, its_group)
    best = max(likeness.values(), default=0.0)
    return sorted(name for name, like in likeness.items() if like == best)


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
