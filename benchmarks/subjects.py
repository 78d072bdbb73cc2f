"""All that scores, by name."""

from benchmarks.scoring import Case, Sizes

NETWORKS = ("cardio", "digits", "mnist", "cifar10")
SHALLOW = tuple(f"{method} {data}" for data in ("table", "images") for method in ("OC-SVM", "KDE", "SSAD"))
QUICK_SUBJECTS = ("digits", "SSAD table")


def subjects(device: str, quick: bool) -> list[str]:
    """The networks by their data sets and, where it is the CPU that is measured, the shallow methods."""
    found = [*NETWORKS, *(SHALLOW if device == "cpu" else ())]
    return [subject for subject in found if not quick or subject in QUICK_SUBJECTS]


def cases(subject: str, device: str, sizes: Sizes) -> dict[str, Case]:
    """The ways to score of one of :func:`subjects`, its baseline first."""
    # A process that measures the memory of one kind is spared what the other one imports.
    if subject in NETWORKS:
        from benchmarks.deep_scoring import deep_cases

        return deep_cases(subject, device, sizes)
    from benchmarks.shallow_scoring import shallow_cases

    return shallow_cases(subject, sizes)
