"""Compile the loss of a training with torch.compile, and check that the machine has what this needs."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from deepsad_pl.methods.base import TrainedMethod


@contextmanager
def compiled(module: "TrainedMethod", device: "torch.device") -> Iterator[None]:
    """Compile the loss terms of a module, forward and backward, into one graph for the duration of the context.

    On a GPU the graph is replayed as a CUDA graph. Random draws, the mean over the batch and the optimizer step stay
    outside the graph. On exit everything that torch has compiled in this process is dropped: torch limits how often a
    function may be recompiled, and a study of many networks would reach that limit.

    Args:
        module: the module to train; its scores and representations are not compiled.
        device: device of the training.
    """
    import torch

    graph = module.graph
    # The batches of an epoch have at most two sizes. One graph per size is faster than one for all sizes, which could
    # not unroll over the batch.
    terms = torch.compile(
        getattr(module, graph),
        dynamic=False,
        fullgraph=True,
        mode="reduce-overhead" if device.type == "cuda" else "default",
    )
    # An attribute of the instance hides the method of the class.
    setattr(module, graph, terms)
    try:
        yield
    finally:
        delattr(module, graph)
        torch.compiler.reset()


def missing_for_compiling(on_gpu: bool) -> str | None:
    """What torch.compile needs but this machine lacks, or None; checked without importing torch.

    Args:
        on_gpu: whether the training runs on a GPU, which needs a C compiler instead of a C++ one.
    """
    variable = "CC" if on_gpu else "CXX"
    default = ("gcc", "clang") if on_gpu else ("clang++" if sys.platform == "darwin" else "g++",)
    names = (os.environ[variable],) if os.environ.get(variable) else default
    if not any(shutil.which(name) for name in names):
        return f"a {'C' if on_gpu else 'C++'} compiler ({' or '.join(names)}; another one by the variable {variable})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return f"the headers of Python {sys.version_info.major}.{sys.version_info.minor} (Python.h)"
    return None
