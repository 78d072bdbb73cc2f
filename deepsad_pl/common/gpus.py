"""Whether there is a GPU, asked of NVIDIA's driver instead of torch, whose import takes a second."""

import ctypes
import os
from importlib.metadata import version

_HIDDEN = ("", "-1", "NoDevFiles")


def driver_has_gpu() -> bool:
    """Whether the driver shows a GPU that CUDA_VISIBLE_DEVICES does not hide, and torch is not built for CPUs alone.

    NVML is asked, which leaves CUDA untouched, so that processes can still be forked. A GPU of another vendor, or one
    that torch cannot use, is for torch to tell.
    """
    if version("torch").endswith("+cpu") or os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in _HIDDEN:
        return False
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:  # no driver
        return False
    if nvml.nvmlInit_v2() != 0:
        return False
    count = ctypes.c_uint(0)
    answered = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    nvml.nvmlShutdown()
    return answered and count.value > 0
