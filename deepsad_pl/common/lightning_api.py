"""Everything that the package uses of Lightning, imported from the distribution that the process already uses.

PyTorch Lightning is published twice, as ``pytorch_lightning`` and as ``lightning.pytorch``, and a Trainer of one
refuses modules of the other. The one imported first is used; if neither has been imported, ``pytorch_lightning``, which
is a dependency of this package.
"""

import sys
from typing import TYPE_CHECKING

_NAMES = ("pytorch_lightning", "lightning.pytorch")

# sys.modules keeps the order of import.
if TYPE_CHECKING or next((name for name in sys.modules if name in _NAMES), _NAMES[0]) == _NAMES[0]:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.lsf import LSFEnvironment
    from lightning_fabric.plugins.environments.mpi import MPIEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
    from pytorch_lightning.callbacks import Checkpoint
    from pytorch_lightning.loggers import CSVLogger
    from pytorch_lightning.plugins.io import TorchCheckpointIO
    from pytorch_lightning.utilities.model_helpers import _restricted_classmethod as restricted_classmethod
else:
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.lsf import LSFEnvironment
    from lightning.fabric.plugins.environments.mpi import MPIEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.utilities.model_helpers import _restricted_classmethod as restricted_classmethod

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "LSFEnvironment",
    "LightningDataModule",
    "LightningEnvironment",
    "LightningModule",
    "MPIEnvironment",
    "SLURMEnvironment",
    "TorchCheckpointIO",
    "TorchElasticEnvironment",
    "Trainer",
    "restricted_classmethod",
]
