"""State that belongs to the whole process: the global random streams, warning filters and Lightning's log levels."""

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")


@contextmanager
def states_without_torch_kept() -> Iterator[None]:
    """Restore the global random states of Python and numpy at the end of the block, without loading torch."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restore the global random states of Python, numpy and torch at the end of the block."""
    with states_without_torch_kept():
        import torch

        initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(range(torch.cuda.device_count()) if initialized else ()):
            yield


def seed_all(seed: int) -> None:
    """Seed the global random streams of Python, numpy and torch.

    Args:
        seed: in [0, 2^32).
    """
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Restore random states, warning filters and Lightning's log levels, so that a caller's own work is unaffected."""
    with random_states_kept():
        # Lightning sets its levels when it is loaded.
        from deepsad_pl.common import lightning_api  # noqa: F401

        loggers = [logging.getLogger(name) for name in LIGHTNING_LOGGERS]
        levels = [logger.level for logger in loggers]
        try:
            with warnings.catch_warnings():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
