"""Import Lightning faster: hide optional dependencies, pause the garbage collector."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    # The last collection looks through every object of every module, which takes a second, and finds nothing.
    atexit.register(gc.freeze)
    try:
        with no_collection():
            import pytorch_lightning  # noqa: F401
    finally:
        imports.package_available = has_package
        imports.RequirementCache.__bool__ = meets  # type: ignore[method-assign]


@contextmanager
def no_collection() -> Iterator[None]:
    """Import modules without collecting garbage, nor looking at their objects in later collections: they stay.

    A fifth of the time that torch and Lightning take.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
