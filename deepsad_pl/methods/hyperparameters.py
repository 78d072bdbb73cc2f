"""Select the constructor arguments that Lightning saves, so that any subclass can be loaded from its checkpoint."""

import inspect
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np


def constructor_frame(module: object) -> FrameType | None:
    """Find the frame of the outermost running constructor of a module.

    Call it from a function that the constructor calls directly.

    Args:
        module: the module under construction.

    Returns:
        The frame; None if the caller was not called from a constructor of the module.
    """
    frame = inspect.currentframe()
    # Skip the frames of this function and of its caller.
    for _ in range(2):
        frame = frame and frame.f_back
    outermost = None
    while frame is not None and _constructs(frame, module):
        # Lightning can only read the frame of a constructor that uses super().
        if "__class__" in frame.f_locals:
            outermost = frame
        frame = frame.f_back
    return outermost


def _constructs(frame: FrameType, module: object) -> bool:
    names = frame.f_code.co_varnames
    return frame.f_code.co_name == "__init__" and bool(names) and frame.f_locals.get(names[0]) is module


def plain(value: Any) -> Any:
    """Convert numpy scalars, numpy arrays and mappings, at any depth, to Python numbers, lists and dicts.

    ``torch.load(..., weights_only=True)`` refuses numpy types and other mappings.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(key): plain(of) for key, of in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(of) for of in value)
    return value
