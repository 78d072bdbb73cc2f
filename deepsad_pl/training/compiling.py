"""torch.compile of a training step: what of it is compiled, for how long, and what the machine must have."""

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
    """Compute the loss terms of a module, forward and backward, by one compiled graph while this is open.

    On a GPU the graph is replayed as a CUDA graph. What is drawn by chance, the mean over the batch and the optimizer
    stay outside of it. Whatever torch has compiled in this process is forgotten at the end: it counts how often a
    function was compiled, and a study of many networks would meet its limit.

    Args:
        module: what is trained; its scores and representations are computed as ever.
        device: that it is trained on.
    """
    import torch

    graph = module.graph
    # The batches of an epoch have two sizes, if not one. A graph for each is faster than one for all, which may not
    # unroll over the batch.
    terms = torch.compile(
        getattr(module, graph),
        dynamic=False,
        fullgraph=True,
        mode="reduce-overhead" if device.type == "cuda" else "default",
    )
    # On the instance, where it hides the method.
    setattr(module, graph, terms)
    try:
        yield
    finally:
        delattr(module, graph)
        torch.compiler.reset()


def missing_for_compiling(on_gpu: bool) -> str | None:
    """What torch.compile needs and this machine lacks, or None; asked without torch, before any work.

    Args:
        on_gpu: whether a GPU computes, for which the generated C is compiled instead of C++.
    """
    variable = "CC" if on_gpu else "CXX"
    default = ("gcc", "clang") if on_gpu else ("clang++" if sys.platform == "darwin" else "g++",)
    names = (os.environ[variable],) if os.environ.get(variable) else default
    if not any(shutil.which(name) for name in names):
        return f"a {'C' if on_gpu else 'C++'} compiler ({' or '.join(names)}; or set {variable} to another one)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return f"the headers of Python {sys.version_info.major}.{sys.version_info.minor} (Python.h)"
    return None
