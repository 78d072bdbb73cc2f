"""Tell that a precision is slow on the CPU at hand."""

import logging
import platform

import torch

log = logging.getLogger(__name__)


def warn_if_slow(phase: str, precision: str, device: torch.device) -> None:
    """Warn if a training in bf16 runs on an x86 CPU without AVX-512, where torch emulates bf16.

    Measured on such a CPU: LeNets of 8 x 8 images take 2.4 to 2.8 times as long as in single precision, those of
    CIFAR-10 twelve times (``benchmarks/README.md``).

    Args:
        phase: name of the training, for the message.
        precision: ``trainer.precision``.
        device: device of the training.
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    emulated = device.type == "cpu" and is_x86 and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    if precision == "bf16-mixed" and emulated:
        log.warning(
            "%s: this CPU has no AVX-512 and emulates bf16, so trainer.precision=bf16-mixed makes training slower, for "
            "images up to twelve times; trainer.precision=32-true is the default",
            phase,
        )
