"""The models of the scoring benchmark, by name."""

from benchmarks.scoring import Case, Sizes

NETWORKS = ("cardio", "digits", "mnist", "cifar10")
SHALLOW = tuple(f"{method} {data}" for data in ("table", "images") for method in ("OC-SVM", "KDE", "SSAD"))
QUICK_SUBJECTS = ("digits", "SSAD table")


def subjects(device: str, quick: bool) -> list[str]:
    """Names of the models: networks, named by data set, and on the CPU the shallow methods."""
    found = [*NETWORKS, *(SHALLOW if device == "cpu" else ())]
    return [subject for subject in found if not quick or subject in QUICK_SUBJECTS]


def cases(subject: str, device: str, sizes: Sizes) -> dict[str, Case]:
    """The ways to score with one of :func:`subjects`, the baseline first."""
    # A process that measures the memory of one kind must not import what only the other kind needs.
    if subject in NETWORKS:
        from benchmarks.deep_scoring import deep_cases

        return deep_cases(subject, device, sizes)
    from benchmarks.shallow_scoring import shallow_cases

    return shallow_cases(subject, sizes)
