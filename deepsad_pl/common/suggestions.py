"""Which name somebody may have meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher

# The likeness from which a name is worth suggesting, and what an equal group adds to it.
_LIKE, _GROUP_COUNTS = 0.7, 0.2


def suggested(key: str, names: Iterable[str]) -> str:
    """A question for the nearest names, or nothing if none is near."""
    near = nearest(key, names)
    return f"did you mean {' or '.join([', '.join(near[:-1]), near[-1]] if near[1:] else near)}?" if near else ""


def nearest(key: str, names: Iterable[str]) -> list[str]:
    """The most similar names, several where they are equally so.

    Names are compared by their last part, and as a whole where groups differ; among similar ones the group counts.
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
