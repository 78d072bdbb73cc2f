"""The types of the configuration; values that do not match them are rejected before any work.

Groups whose options all have the same keys start from a data class here (``schema/<group>: <name>``), which Hydra
enforces. The options of the other groups (data sets, networks, pre-trainings, methods) name a component by
``_target_``; see :mod:`deepsad_pl.settings.choices`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import MISSING, DictConfig, OmegaConf

from deepsad_pl.common.ranges import AtLeast1, Seconds, Share, Workers
from deepsad_pl.data.adbench_tables import ADBENCH_FOLDER, adbench_tables, table_named, units_for
from deepsad_pl.settings.about import paper_grid
from deepsad_pl.settings.choices import CHOICES


def wandb_env(name: str, default: Any) -> Any:
    """The value of one of W&B's environment variables, or a default where it is empty or not set.

    Args:
        name: after ``WANDB_``; ``TAGS`` are a comma list.
        default: in its place.
    """
    value = os.environ.get(f"WANDB_{name}", "").strip()
    if name == "MODE" and value not in ("online", "offline"):
        return default
    tags = [tag.strip() for tag in value.split(",") if tag.strip()]
    return (tags if name == "TAGS" else value) if value else default


def adbench(what: Literal["name", "units", "lr_from_test", "shape", "rows"], *, _root_: DictConfig) -> Any:
    """What ``dataset=adbench`` derives from its table.

    A table that does not exist gets values as well: the check of the settings, which comes later, tells about it.

    Args:
        what: the setting: ``name``, of the run folders and reports; ``units``, the widths of the recommended network;
            ``lr_from_test``; or ``shape`` or ``rows`` of ``about``.
    """
    table = table_named(OmegaConf.select(_root_, "dataset.table", throw_on_missing=False))
    if what == "units":
        return units_for(table.columns if table is not None else 1)
    if what == "shape":
        return None if table is None else [table.columns]
    if what == "rows":
        return None if table is None else [table.rows - table.anomalies, table.anomalies]
    if what == "lr_from_test":
        return table is not None and table.is_classic
    return f"adbench-{table.name}" if table is not None else "adbench"


def adbench_entries(most_rows: int, which: Literal["all", "at_hand"] = "all", *, _root_: DictConfig) -> list[str]:
    """The tables of ADBench up to a size as entries of ``study.datasets``, such as ``adbench/cardio``.

    Args:
        most_rows: number of rows that a table has at most.
        which: ``at_hand`` for those whose file lies in ``data_dir``; the others would be downloaded.
    """
    folder = Path(OmegaConf.select(_root_, "data_dir") or "data").expanduser() / ADBENCH_FOLDER
    tables = [table for table in adbench_tables().values() if table.rows <= most_rows]
    return [f"adbench/{table.name}" for table in tables if which != "at_hand" or (folder / table.file).is_file()]


# Wherever a configuration is composed or resolved, this module has been imported.
OmegaConf.register_new_resolver("adbench", adbench, replace=True)
OmegaConf.register_new_resolver("adbench_tables", adbench_entries, replace=True)
OmegaConf.register_new_resolver("wandb_env", wandb_env, replace=True)


@dataclass
class ScenarioConfig:
    """Base of the choices of ``scenario``."""


@dataclass
class GivenConfig(ScenarioConfig):
    """The labels come with the data; nothing is drawn."""

    given: bool = True
    selection: str = MISSING  # default of method.selection


@dataclass
class DrawnConfig(ScenarioConfig):
    """Which classes are normal, labeled or pollution, and in what shares (section 4.2)."""

    normal_class: Any = MISSING  # index, name or a list of them
    anomaly_class: Any = MISSING  # known classes: index, name or a list; null draws k_l classes by the seed
    gamma_l: float = MISSING  # labeled anomalies / all training rows
    gamma_p: float = MISSING  # pollution / unlabeled training rows
    k_l: int = MISSING  # number of labeled anomaly classes; if anomaly_class is a list, 1 or its length
    gamma_n: float = MISSING  # labeled normals / all training rows
    labels: int | None = None  # number of labeled anomalies; null: by gamma_l
    unlabeled: str = "normal"  # or all: every anomaly of the training data that is not labeled stays in it
    gamma_e: float = 0.0  # share of the labeled anomalies that are in truth normal
    gamma_en: float = 0.0  # share of the labeled normals that are in truth anomalies
    exposure: str | None = None  # data set whose training images are known anomalies as well: mnist, fmnist or cifar10


@dataclass
class QueriedConfig(ScenarioConfig):
    """Labels are asked for in rounds, and the truth answers (``docs/labeling_budget.md``)."""

    normal_class: Any = MISSING  # index, name or a list of them
    gamma_p: float = MISSING  # anomalies / rows of the pool, from all other classes
    start: int = MISSING  # rows labeled at random before the first training
    rounds: int = MISSING  # of questions after it
    query_by: str = MISSING  # anomalous, uncertain, diverse or random
    query_count: int = MISSING  # rows asked about in a round


@dataclass
class ThresholdConfig:
    """Base of the choices of ``threshold``, and its choice ``none``: a run ends with scores alone."""

    name: str = "none"


@dataclass
class ConformalConfig(ThresholdConfig):
    """Split-conformal p-values: on fresh normal data, at most a share alpha of false alarms."""

    share: float = MISSING  # of the training samples not labeled as anomalies; kept out of training for calibration
    alpha: float = MISSING  # false-alarm rate


@dataclass
class QuantileConfig(ThresholdConfig):
    """The 1 - alpha quantile of the training samples' own scores; optimistic, since training has lowered these."""

    alpha: float = MISSING  # false-alarm rate among the training samples not labeled as anomalies


@dataclass
class LabeledConfig(ThresholdConfig):
    """The best threshold on labeled samples that are kept out of training."""

    share: float = MISSING  # of the labeled samples of each kind
    fpr: float | None = None  # wanted false-positive rate among known normal ones; null: the best F1


@dataclass
class RecipeConfig:
    """The schedule that both phases use by default."""

    name: str = MISSING
    lr: list[float] = MISSING
    epochs: list[int] = MISSING
    batch_size: int = MISSING


@dataclass
class TrainerConfig:
    """Where and how to compute; max_epochs, precision, extra and callbacks are part of the run's identity.

    See ``docs/precision.md`` for the effect of ``precision`` and ``compile`` on speed and AUROC.
    """

    accelerator: str = "auto"  # auto, cpu, gpu
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"  # auto, ddp
    precision: str = "32-true"  # or bf16-mixed
    compile: bool = False  # torch.compile of the loss terms; on a GPU with CUDA graphs
    threads: int | None = None  # CPU threads; null: torch's choice
    max_epochs: int | None = None  # caps each training, for a trial run
    checkpoint_seconds: float = 30.0  # least time between two checkpoints, written at the end of an epoch
    extra: dict[str, Any] = field(default_factory=dict)  # further arguments of Lightning's Trainer
    callbacks: list[Any] = field(default_factory=list)  # each with _target_, a Lightning callback, and its arguments


@dataclass
class LoggerConfig:
    """Base of the choices of ``logger``; it also holds a node with ``_target_`` for each other logger."""

    name: str = "none"  # csv or wandb, the latter if both are chosen; none if neither is


@dataclass
class WandbNode:
    """The settings of Weights & Biases at ``logger.wandb``; each defaults to the setting of that name at ``logger``."""

    mode: str = "${logger.mode}"
    project: str = "${logger.project}"
    entity: str | None = "${logger.entity}"
    group: str | None = "${logger.group}"
    job_type: str = "${logger.job_type}"
    tags: list[str] = "${logger.tags}"  # type: ignore[assignment]
    plots: bool | None = "${logger.plots}"  # type: ignore[assignment]


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases."""

    mode: str = MISSING  # offline or online
    project: str = "${wandb_env:PROJECT,deepsad-pl}"
    entity: str | None = "${wandb_env:ENTITY,null}"
    group: str | None = "${wandb_env:RUN_GROUP,null}"  # null: <dataset>/<method>
    job_type: str = "train"
    tags: list[str] = "${wandb_env:TAGS,[]}"  # type: ignore[assignment]
    plots: bool | None = None  # draw the ROC curve; null: in single runs only; histograms are always drawn
    wandb: WandbNode = field(default_factory=WandbNode)


@dataclass
class TrainConfig:
    """One experiment."""

    data_dir: str = "${oc.env:DEEPSAD_DATA_DIR,data}"
    output_dir: str = "runs"
    seed: int = 0
    force: bool = False  # train again even if the run is finished
    report: bool | None = None  # write report.html into the run folder; null: in single runs only
    warm_start: str | None = None  # folder of a finished run whose weights the training starts from: docs/labeling.md
    dataset: dict[str, Any] = MISSING
    network: dict[str, Any] = MISSING
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    recipe: RecipeConfig = MISSING
    pretrain: dict[str, Any] = MISSING
    method: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    metrics: dict[str, Any] = field(default_factory=dict)  # by name, each with _target_: a function (y, score) -> float


@dataclass
class StudyConfig:
    """A study run by sweep.py; see :class:`deepsad_pl.study.grid.Study`."""

    name: str = MISSING
    title: str = MISSING
    # choices of dataset, or tables such as adbench/cardio or table/parts.csv
    datasets: list[str] = field(default_factory=lambda: paper_grid()["datasets"])
    methods: list[str] = field(default_factory=lambda: paper_grid()["methods"])
    axes: dict[str, list[Any]] = field(default_factory=dict)  # values of each axis; the rows of the table
    keys: dict[str, str] = field(default_factory=dict)  # the setting of each axis
    depends: dict[str, Any] = field(default_factory=dict)  # the methods it affects: all, seeing_labels, [methods]
    fixed: dict[str, Any] = field(default_factory=dict)  # settings of all experiments
    # For a method, alternative settings; the column shows the best (appendix C).
    variants: dict[str, dict[str, list[Any]]] = field(default_factory=lambda: paper_grid()["variants"])
    # all: each in turn; declared: those that the data set itself calls normal, together; or a list
    normal_classes: Any = "all"
    # all: each class but the normal one in turn; together: all of them at once; or a list; or null: drawn by the seed
    anomaly_classes: Any = "all"
    seeds: list[int] = field(default_factory=lambda: [0])
    paper: bool = False  # whether the paper reports results for it
    metric: str = "auroc"  # of tables, tests, figures: auroc_known, auroc_novel, ..., or the name in metrics.<name>
    # or regions: Figure 1; or budget: AUROC over the number of labels; or ranks of the methods over many data sets
    figure: str = "auroc"
    # A CSV of finished experiments, which are not run again; new ones are written into it. action=report needs no run
    # folders then. With figure=ranks, the results.csv to report.
    results: str | None = None
    choices: dict[str, str] = field(default_factory=dict)  # the option of each group that all experiments use
    sample: int | None = None  # number of pairs of classes that are run, balanced over the classes; null: all
    sample_seed: int = 0  # which pairs; a larger sample contains the smaller one


@dataclass
class FigureConfig:
    """The size of the figures in a study's report (``docs/figures.md``)."""

    style: str = "paper"  # or slides
    width: str = "page"  # or column


@dataclass
class SweepConfig(TrainConfig):
    """A study, or a plain sweep if ``study`` is null."""

    study: StudyConfig | None = None
    action: str = "run"  # report, serve, status, dashboard or forget
    port: int = 0  # of action=serve; 0: any free one
    figure: FigureConfig = field(default_factory=FigureConfig)
    dry_run: bool = False  # stop before the first experiment
    experiments_per_job: int = 1  # experiments per submitted job, trained as one stack where possible


# For each other group, the types that an option may start from.
GROUP_CONFIGS: dict[str, Mapping[str, type[Any]]] = {
    "scenario": {"base": DrawnConfig, "given": GivenConfig, "queried": QueriedConfig},
    "threshold": {
        "none": ThresholdConfig,
        "conformal": ConformalConfig,
        "quantile": QuantileConfig,
        "labeled": LabeledConfig,
    },
    "recipe": {"base": RecipeConfig},
    "trainer": {"base": TrainerConfig},
    "study": {"base": StudyConfig},
    "logger": {"base": LoggerConfig, "wandb": WandbConfig},
}
# For settings of these groups, types that are narrower than those that Hydra enforces.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "threshold": {"share": Share, "alpha": Share, "fpr": Share | None},
    "trainer": {
        "accelerator": Literal["auto", "cpu", "gpu"],
        "strategy": Literal["auto", "ddp"],
        "precision": Literal["32-true", "bf16-mixed"],
        **dict.fromkeys(("devices", "num_nodes"), Workers),
        "threads": Workers | None,
        "max_epochs": AtLeast1 | None,
        "checkpoint_seconds": Seconds,
    },
}
# All groups of an experiment.
GROUPS = frozenset({*GROUP_CONFIGS, *CHOICES})
