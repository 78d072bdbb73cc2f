"""The types of the configuration: Hydra refuses what does not fit them, before any work.

Each group's YAML starts from one of these (``schema/<group>: <name>``). A default stands once: in the YAML where it is
an option's choice, here where all options share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from deepsad_pl.catalog import METHODS


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
    lr_from_test: bool = False  # whether lr was chosen by AUROC on test data, which reports then say


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
    anomaly_class: Any = MISSING  # the known one: index or name, or a list of all; null draws k_l by the seed
    gamma_l: float = MISSING  # labeled anomalies / all training rows
    gamma_p: float = MISSING  # pollution / unlabeled training rows
    k_l: int = MISSING  # anomaly classes among the labeled ones; 1 or its length where anomaly_class is a list
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
    cache: bool = True  # keep a trained autoencoder under <output_dir>/cache, and take it from there


@dataclass
class AutoencoderPretrainConfig(ScheduleConfig, PretrainConfig):
    """Pre-training as an autoencoder (appendix A)."""

    data: str = MISSING  # all, or unlabeled: without labeled anomalies
    loss: str = MISSING  # mse, or cross_entropy


@dataclass
class VAEPretrainConfig(ScheduleConfig, PretrainConfig):
    """Pre-training as a variational autoencoder, M1 of SS-DGM."""

    data: str = MISSING  # as for the autoencoder
    hidden: list[int] | None = None  # units of the hidden layers; null: by the network
    latent: int | None = None  # width of z; null: the network's representation


@dataclass
class MethodConfig:
    """What every method has."""

    name: str = MISSING


@dataclass
class TrainedMethodConfig(ScheduleConfig, MethodConfig):
    """A deep method; all that the classifier has."""


@dataclass
class DeepSADConfig(TrainedMethodConfig):
    """Deep SAD (section 3.3)."""

    eta: float = MISSING
    center_from: str = MISSING  # unlabeled_and_normal, all or labeled_normal


@dataclass
class DeepSVDDConfig(TrainedMethodConfig):
    """One-class Deep SVDD (section 3.1)."""

    sees_labeled_anomalies: bool = False


@dataclass
class SoftBoundarySVDDConfig(DeepSVDDConfig):
    """Soft-boundary Deep SVDD (appendix C)."""

    nu: float = MISSING  # share of the data outside the sphere


@dataclass
class AutoencoderConfig(TrainedMethodConfig):
    """The autoencoder as a method (appendix C)."""

    loss: str = MISSING  # mse, or cross_entropy
    sees_labeled_anomalies: bool = False


@dataclass
class SSDGMConfig(TrainedMethodConfig):
    """The semi-supervised deep generative model (appendix C)."""

    hidden: list[int] | None = None  # units of M2's hidden layers; null: by the network
    latent: int | None = None  # width of M2's z; null: the network's representation


@dataclass
class ShallowConfig(MethodConfig):
    """A shallow detector."""

    features: str = MISSING  # raw, or bottleneck: of a pre-trained autoencoder


@dataclass
class OCSVMConfig(ShallowConfig):
    """The one-class SVM (appendix C)."""

    selection: str = MISSING  # test_subset, holdout or none
    gammas: list[float] = MISSING  # scales of the kernel to select from
    nus: list[float] = MISSING  # those of selection=test_subset
    nu: float = MISSING  # that of selection=holdout and none
    sees_labeled_anomalies: bool = False


@dataclass
class IForestConfig(ShallowConfig):
    """The isolation forest (appendix C)."""

    trees: int = MISSING  # t
    subsample: int = MISSING  # psi
    sees_labeled_anomalies: bool = False


@dataclass
class KDEConfig(ShallowConfig):
    """The kernel density estimator (appendix C)."""

    bandwidths: list[float] = MISSING  # h, to select from by cross-validation
    folds: int = MISSING
    sees_labeled_anomalies: bool = False


@dataclass
class SSADConfig(ShallowConfig):
    """Semi-supervised anomaly detection with a Gaussian kernel (appendix C)."""

    selection: str = MISSING  # test_subset, holdout or none
    gammas: list[float] = MISSING
    kappa: float = MISSING  # weight of the labeled samples' margin
    eta_u: float = MISSING  # weight of the slack of unlabeled samples
    eta_l: float = MISSING  # and of labeled ones


@dataclass
class TrainerConfig:
    """Where and how to compute; of these max_epochs, precision, extra and callbacks are a part of the run's identity.

    What ``precision`` and ``compile`` gain and what they do to AUROC: ``docs/precision.md``.
    """

    accelerator: str = "auto"  # auto, cpu, gpu
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"  # auto, ddp
    precision: str = "32-true"  # or bf16-mixed
    compile: bool = False  # torch.compile of the loss terms; on a GPU with CUDA graphs
    threads: int | None = None  # CPU threads; null: torch's choice
    max_epochs: int | None = None  # caps each training, for a trial run
    checkpoint_seconds: float = 30.0  # at most one checkpoint in that time, at the end of an epoch
    extra: dict[str, Any] = field(default_factory=dict)  # further arguments of Lightning's Trainer
    callbacks: list[Any] = field(default_factory=list)  # each with _target_, a Lightning callback, and its arguments


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
    plots: bool | None = None  # the ROC curve; null: in single runs, not in sweeps; the histograms are always drawn


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
    metrics: dict[str, Any] = field(default_factory=dict)  # by name, each with _target_, a function (y, score) -> float


@dataclass
class StudyConfig:
    """A study of sweep.py; see :class:`deepsad_pl.study.grid.Study`."""

    name: str = MISSING
    title: str = MISSING
    datasets: list[str] = field(default_factory=lambda: ["mnist", "fmnist", "cifar10"])
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    axes: dict[str, list[Any]] = field(default_factory=dict)  # values of each; the rows of the table
    keys: dict[str, str] = field(default_factory=dict)  # the setting of each axis
    depends: dict[str, Any] = field(default_factory=dict)  # whom each axis changes: all, seeing_labels, [methods]
    fixed: dict[str, Any] = field(default_factory=dict)  # settings of all experiments
    # For a method, settings to try in turn; the column shows the best (appendix C).
    variants: dict[str, dict[str, list[Any]]] = field(
        default_factory=lambda: {"soft_boundary_svdd": {"method.nu": [0.01, 0.1]}}
    )
    normal_classes: Any = "all"  # in turn; or a list
    anomaly_classes: Any = "all"  # known, in turn, never the normal one; or a list; or null: drawn by the seed
    seeds: list[int] = field(default_factory=lambda: [0])
    paper: bool = False  # whether the paper has figures for it
    figure: str = "auroc"  # or regions: Figure 1


@dataclass
class SweepConfig(TrainConfig):
    """A study, or without one a free sweep."""

    study: StudyConfig | None = None
    action: str = "run"  # report, status, dashboard or forget
    dry_run: bool = False  # stop before the first experiment
    experiments_per_job: int = 1  # of a job that is submitted, trained as one where that is possible


PRETRAIN_CONFIGS: dict[str, type[PretrainConfig]] = {
    "none": PretrainConfig,
    "autoencoder": AutoencoderPretrainConfig,
    "vae": VAEPretrainConfig,
}
METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    "deep_sad": DeepSADConfig,
    "deep_svdd": DeepSVDDConfig,
    "soft_boundary_svdd": SoftBoundarySVDDConfig,
    "autoencoder": AutoencoderConfig,
    "classifier": TrainedMethodConfig,
    "ss_dgm": SSDGMConfig,
    "ocsvm": OCSVMConfig,
    "iforest": IForestConfig,
    "kde": KDEConfig,
    "ssad": SSADConfig,
}
# Of each group, the types that an option may start from.
GROUP_CONFIGS: dict[str, Mapping[str, type[Any]]] = {
    "dataset": {"images": ImagesConfig, "image_folder": ImageFolderConfig, "table": TableConfig},
    "scenario": {"base": ScenarioConfig},
    "recipe": {"base": RecipeConfig},
    "pretrain": PRETRAIN_CONFIGS,
    "method": METHOD_CONFIGS,
    "trainer": {"base": TrainerConfig},
    "study": {"base": StudyConfig},
    "logger": {"base": LoggerConfig, "wandb": WandbConfig},
}
