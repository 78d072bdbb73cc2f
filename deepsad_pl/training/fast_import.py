"""Import Lightning faster: hide optional dependencies, pause the garbage collector."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_UNUSED = ("torchvision", "scipy", "matplotlib")


def import_lightning() -> None:
    """Import pytorch-lightning quickly; only for a process that runs nothing but this package's commands.

    Lightning imports all of torchmetrics, which imports torchvision, scipy.signal and matplotlib if they are installed:
    a third of the import time. While Lightning is imported, these packages count as missing, so in this process
    torchmetrics lacks plots and some metrics for images and audio.
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
    # The garbage collection at exit would search every object of every module for a second and find nothing.
    atexit.register(gc.freeze)
    try:
        with no_collection():
            import pytorch_lightning  # noqa: F401
    finally:
        imports.package_available = has_package
        imports.RequirementCache.__bool__ = meets  # type: ignore[method-assign]


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the garbage collector during imports, and exempt the imported objects from later collections.

    This saves a fifth of the time that importing torch and Lightning takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
