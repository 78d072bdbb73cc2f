"""The fast import leaves a process as a usual import would."""

import gc
import subprocess
import sys

import pytest

from deepsad_pl.training.fast_import import no_collection

LOOK = """
import gc, sys
{before}
from deepsad_pl.training.fast_import import import_lightning
import_lightning()
import pytorch_lightning
assert gc.isenabled() is {enabled}
assert gc.get_freeze_count() > 100_000
assert "torchvision" not in sys.modules
import torchvision.transforms  # what was passed over is there for whoever wants it
from torchmetrics.functional.classification import binary_auroc
class Node:
    def __del__(self):
        print("collected")
node = Node()
node.itself = node
del node
gc.collect()
"""


@pytest.mark.parametrize(("before", "enabled"), [("", True), ("gc.disable()", False)])
def test_lightning_is_imported_without_unused_dependencies(before: str, enabled: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(before=before, enabled=enabled)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "collected\n", "garbage of later is collected"


def test_a_worker_of_a_sweep_can_import_lightning_as_fast() -> None:
    code = "import sys, deepsad_pl.sweep.worker, hydra_plugins._deepsad_submitit; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_garbage_collection_resumes_after_a_failed_import() -> None:
    assert gc.isenabled()
    try:
        with pytest.raises(ModuleNotFoundError), no_collection():
            import no_such_module  # type: ignore[import-not-found]  # noqa: F401
        assert gc.isenabled()
    finally:
        gc.unfreeze()
