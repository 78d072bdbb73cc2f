"""The types of the configuration: Hydra refuses what does not fit them, before any work.

Each group's YAML starts from one of these (``schema/<group>: <name>``). A default stands once: in the YAML where it is
an option's choice, here where all options share it.
No torch in this module: ``--help`` and completion stay fast.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class LeNetConfig:
    """A LeNet-type network (appendix B)."""

    name: str = "lenet"
    filters: list[int] = MISSING  # of each module
    dense: list[int] = MISSING  # units of the dense layers; the last is the representation
    kernel_size: int = 5


@dataclass
class MLPConfig:
    """An MLP (appendix B)."""

    name: str = "mlp"
    units: list[int] = MISSING  # the last is the representation


@dataclass
class DatasetConfig:
    """What every data set has: a name, a kind of source and the schedule recommended for it."""

    name: str = MISSING
    kind: str = MISSING
    lr: list[float] = MISSING
    epochs: list[int] = MISSING
    batch_size: int = MISSING


@dataclass
class ImagesConfig(DatasetConfig):
    """A data set of images with known classes."""

    classes: list[str] = MISSING
    network: LeNetConfig = field(default_factory=LeNetConfig)


@dataclass
class ImageFolderConfig(DatasetConfig):
    """A folder of images; its classes are its sub-folders."""

    root: str = MISSING  # holds train/<class>/* and test/<class>/*
    image_size: Any = MISSING  # H = W, or [H, W]
    channels: int = MISSING  # 1 or 3
    network: LeNetConfig = field(default_factory=LeNetConfig)


@dataclass
class TableConfig(DatasetConfig):
    """A table."""

    classes: list[str] = MISSING
    scaling: str = "zscore"  # or minmax
    network: MLPConfig = field(default_factory=MLPConfig)


@dataclass
class ScenarioConfig:
    """Who is normal, labeled, polluting (section 4.2)."""

    normal_class: Any = MISSING  # index, name or a list of them
    anomaly_class: Any = MISSING  # the known one: index or name; null draws all k_l by the seed
    gamma_l: float = MISSING  # labeled anomalies / all training rows
    gamma_p: float = MISSING  # pollution / unlabeled training rows
    k_l: int = MISSING  # anomaly classes among the labeled ones
    gamma_n: float = MISSING  # labeled normals / all training rows


@dataclass
class RecipeConfig:
    """The schedule that both phases take unless told otherwise."""

    name: str = MISSING
    lr: list[float] = MISSING
    epochs: list[int] = MISSING
    batch_size: int = MISSING


@dataclass
class ScheduleConfig:
    """The schedule of one training: phases of constant learning rate."""

    lr: list[float] = MISSING  # of each phase
    epochs: list[int] = MISSING  # of each phase
    batch_size: int = MISSING
    weight_decay: float = MISSING  # lambda


@dataclass
class PretrainConfig:
    """Base of the choices of ``pretrain``, and all that ``none`` has."""

    name: str = MISSING


@dataclass
class AutoencoderPretrainConfig(ScheduleConfig, PretrainConfig):
    """Pre-training as an autoencoder (appendix A)."""

    data: str = MISSING  # all, or unlabeled: without labeled anomalies
    loss: str = MISSING  # mse, or cross_entropy


@dataclass
class MethodConfig(ScheduleConfig):
    """What every method has."""

    name: str = MISSING


@dataclass
class DeepSADConfig(MethodConfig):
    """Deep SAD (section 3.3)."""

    eta: float = MISSING
    center_from: str = MISSING  # unlabeled_and_normal, all or labeled_normal


@dataclass
class AutoencoderConfig(MethodConfig):
    """The autoencoder as a method (appendix C)."""

    loss: str = MISSING  # mse, or cross_entropy
    sees_labeled_anomalies: bool = MISSING


@dataclass
class TrainerConfig:
    """Where and how to compute; of these only max_epochs and precision are a part of the run's identity."""

    accelerator: str = "auto"  # auto, cpu, gpu
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"  # auto, ddp
    precision: str = "32-true"  # or bf16-mixed
    threads: int | None = None  # CPU threads; null: torch's choice
    max_epochs: int | None = None  # caps each training, for a trial run
    checkpoint_seconds: float = 30.0  # at most one checkpoint in that time, at the end of an epoch


@dataclass
class LoggerConfig:
    """Base of the choices of ``logger``."""

    name: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases."""

    mode: str = MISSING  # offline or online
    project: str = "deepsad-pl"
    entity: str | None = None
    group: str | None = None  # null: <dataset>/<method>
    job_type: str = "train"
    tags: list[str] = field(default_factory=list)
    plots: bool | None = None  # ROC curve and score histogram; null: in single runs, not in sweeps


@dataclass
class TrainConfig:
    """One experiment."""

    data_dir: str = "${oc.env:DEEPSAD_DATA_DIR,data}"
    output_dir: str = "runs"
    seed: int = 0
    force: bool = False  # train again although the run is finished
    dataset: DatasetConfig = MISSING
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    recipe: RecipeConfig = MISSING
    pretrain: PretrainConfig = MISSING
    method: MethodConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING


def register() -> None:
    """Make the types known to Hydra."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig)
    nodes: dict[str, dict[str, type]] = {
        "dataset": {"images": ImagesConfig, "image_folder": ImageFolderConfig, "table": TableConfig},
        "scenario": {"base": ScenarioConfig},
        "recipe": {"base": RecipeConfig},
        "pretrain": {"none": PretrainConfig, "autoencoder": AutoencoderPretrainConfig},
        "method": {"deep_sad": DeepSADConfig, "autoencoder": AutoencoderConfig},
        "trainer": {"base": TrainerConfig},
        "logger": {"base": LoggerConfig, "wandb": WandbConfig},
    }
    for group, configs in nodes.items():
        for name, node in configs.items():
            store.store(group=f"schema/{group}", name=name, node=node)
