"""Lightning, imported by a script without what torchmetrics brings along for metrics that nobody here computes."""

import sys

_UNUSED = ("torchvision", "scipy", "matplotlib")


def import_lightning() -> None:
    """Import pytorch-lightning, for a process that is ours from beginning to end.

    Lightning imports all of torchmetrics, and that torchvision, scipy.signal and matplotlib where they are installed: a
    third of the time of the import. While it is imported they count as missing, which leaves torchmetrics without some
    metrics of images, sounds and plots in this process.
    """
    if "pytorch_lightning" in sys.modules:
        return
    from lightning_utilities.core import imports

    has_package, meets = imports.package_available, imports.RequirementCache.__bool__

    def has_used_package(name: str) -> bool:
        return name not in _UNUSED and has_package(name)

    def meets_used(self: imports.RequirementCache) -> bool:
        return not (self.requirement or "").startswith(_UNUSED) and meets(self)

    imports.package_available = has_used_package  # type: ignore[assignment]
    imports.RequirementCache.__bool__ = meets_used  # type: ignore[method-assign]
    try:
        import pytorch_lightning  # noqa: F401
    finally:
        imports.package_available = has_package
        imports.RequirementCache.__bool__ = meets  # type: ignore[method-assign]
