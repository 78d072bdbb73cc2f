"""Our submitit launchers and their settings.

The underscore hides this module from Hydra's plugin scanner, which would execute it a second time in a job. Its classes
would then differ from the ones that pickle finds by name.
"""

from dataclasses import dataclass, field

from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from omegaconf import II, OmegaConf

from deepsad_pl.sweep import packed_launcher

# CPUs per task if trainer.threads is null.
_CPUS = 4


class LocalLauncher(packed_launcher.LocalLauncher):
    """``hydra/launcher=submitit_local``."""


class SlurmLauncher(packed_launcher.SlurmLauncher):
    """``hydra/launcher=submitit_slurm``."""


@dataclass
class _Packing:
    """The settings that our launchers add to the plugin's."""

    # The setting of sweep.py; train.py has none.
    experiments_per_job: int = II("oc.select:experiments_per_job,1")
    stack: bool = True
    max_array_size: int = 1000


@dataclass
class PackedSlurmConf(_Packing, SlurmQueueConf):  # type: ignore[misc]
    """``hydra/launcher=submitit_slurm``: the plugin's fields and ours."""

    _target_: str = f"{__name__}.SlurmLauncher"
    submitit_folder: str = "${output_dir}/submitit/%j"
    srun_args: list[str] = field(default_factory=list)


@dataclass
class PackedLocalConf(_Packing, LocalQueueConf):  # type: ignore[misc]
    """``hydra/launcher=submitit_local``: the plugin's fields and ours."""

    _target_: str = f"{__name__}.LocalLauncher"
    submitit_folder: str = "${output_dir}/submitit/%j"
    array_parallelism: int | None = None


def _gpus(accelerator: str, devices: int) -> int | None:
    """GPUs per node: ``devices`` if a GPU is requested explicitly; None for ``auto``, as the node is unknown here."""
    return devices if accelerator == "gpu" else None


def _cpus(threads: int | None) -> int:
    return threads or _CPUS


OmegaConf.register_new_resolver("deepsad_gpus", _gpus, replace=True)
OmegaConf.register_new_resolver("deepsad_cpus", _cpus, replace=True)
