"""Counts in messages, in agreement with their nouns."""

from collections.abc import Sequence


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count and what is counted.

    Args:
        count: how many there are.
        one: what follows a count of one, such as a noun in the singular.
        many: what follows any other count; by default ``one`` with an s.

    >>> counted(1, "sample"), counted(3, "sample"), counted(0, "known anomaly", "known anomalies")
    ('1 sample', '3 samples', '0 known anomalies')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def are(count: int) -> str:
    """The verb of a count."""
    return "is" if count == 1 else "are"


def classes_named(names: Sequence[str]) -> str:
    """Classes by name.

    >>> classes_named(["cat"]), classes_named(["cat", "dog"])
    ('class cat', 'classes cat, dog')
    """
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names)}"
