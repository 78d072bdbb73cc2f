"""Find out whether there is a GPU from NVIDIA's driver, since importing torch would take a second."""

import ctypes
import os
from importlib.metadata import version

_HIDDEN = ("", "-1", "NoDevFiles")


def driver_has_gpu() -> bool:
    """Whether the driver reports a GPU, CUDA_VISIBLE_DEVICES does not hide it, and torch is not a CPU-only build.

    NVML is queried, which does not initialize CUDA, so processes can still be forked afterwards. GPUs of other vendors
    are not found, and whether torch can use the GPU is not checked.
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
