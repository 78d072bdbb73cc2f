"""Counts for messages, with their nouns in the singular or plural."""

from collections.abc import Sequence


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun in the singular or plural.

    Args:
        count: how many there are.
        one: text after a count of one, such as a noun in the singular.
        many: text after any other count; by default ``one`` with an s.

    >>> counted(1, "sample"), counted(3, "sample"), counted(0, "known anomaly", "known anomalies")
    ('1 sample', '3 samples', '0 known anomalies')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def are(count: int) -> str:
    """``is`` for a count of one, otherwise ``are``."""
    return "is" if count == 1 else "are"


def classes_named(names: Sequence[str]) -> str:
    """Class names after the word ``class`` or ``classes``.

    >>> classes_named(["cat"]), classes_named(["cat", "dog"])
    ('class cat', 'classes cat, dog')
    """
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names)}"
