"""The cost of an experiment on one CPU core, estimated from its plan alone. Does not import torch.

The unit is :func:`~deepsad_pl.study.machine_speed.probe_seconds`. The data set declares its size; the network, what a
step of Deep SAD costs with it; the method and the pre-training, the ratio of their own epochs' cost to Deep SAD's; a
shallow method, what a fit costs. See :mod:`deepsad_pl.settings.about`. ``benchmarks/cost.py`` measures these numbers.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil, prod

from deepsad_pl.common.components import load
from deepsad_pl.data.queried_labels import QueriedLabels
from deepsad_pl.data.scenario import ALL, is_given
from deepsad_pl.data.sources import TEST_SHARE
from deepsad_pl.data.training_counts import Counts, count_rows
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.shared_training import training_key
from deepsad_pl.networks.network_work import Work
from deepsad_pl.settings.choices import DatasetChoice, MethodChoice, PretrainChoice, TrainingChoice

_MILLION = 1e6
# The number of rows and columns for which a shallow method declares its cost.
_ROWS, _COLUMNS = 1000, 100


@dataclass(frozen=True)
class Part:
    """A training or a fit of an experiment.

    Attributes:
        per_stack: the cost that does not grow with the number of experiments in a stack: the overhead of its steps.
        per_experiment: the cost of the samples, or of a fit.
        key: equal for trainings that experiments share; None: it is not shared.
    """

    per_stack: float
    per_experiment: float
    key: Hashable = None


def parts_of(plan: Plan) -> list[Part] | None:
    """The trainings and fits of an experiment; None if one of its choices does not declare its cost.

    Args:
        plan: plan of the experiment.
    """
    counts = training_counts(plan)
    if counts is None:
        return None
    trainings: list[TrainingChoice] = []
    if plan.pretrain is not None and not plan.starts_warm:
        trainings.append(plan.pretrain)
    if not plan.about.shallow:
        trainings.append(plan.method)
    found = [_training(plan, training, counts) for training in trainings]
    if plan.about.shallow:
        found.append(_fit(plan, counts))
    parts = [part for part in found if part is not None]
    return parts if len(parts) == len(found) else None


def training_counts(plan: Plan) -> Counts | None:
    """How many training rows of each kind an experiment has; None if the data set does not declare its rows.

    Args:
        plan: plan of the experiment.
    """
    facts, scenario = plan.dataset.about, plan.scenario
    if facts.rows is None or facts.shape is None:
        return None
    share = plan.dataset.arguments.get("test_share", TEST_SHARE)
    assert isinstance(share, float)
    kept = 1.0 if facts.own_test_set else 1 - share
    rows = [round(kept * count) for count in facts.rows]
    if is_given(scenario):
        return Counts(0, 0, sum(rows), 0)
    if len(rows) != len(plan.classes):
        return None
    if isinstance(scenario, QueriedLabels):
        scenario = scenario.pool()
    normals = sum(rows[index] for index in scenario.normal_classes)
    return count_rows(
        normals,
        scenario.gamma_l,
        scenario.gamma_p,
        scenario.gamma_n,
        labels=scenario.label_count,
        gamma_e=scenario.gamma_e,
        gamma_en=scenario.gamma_en,
        anomalies=sum(rows) - normals if scenario.unlabeled == ALL else None,
    )


def network_work(dataset: DatasetChoice) -> Work | None:
    """The work of the data set's network for a sample; None if the network or the data set does not declare it.

    Args:
        dataset: the data set with its network.
    """
    work, shape = dataset.network.about.work, dataset.about.shape
    if work is None or shape is None:
        return None
    found: Work = load(work, "dataset.network.about.work")(dataset.network.settings(), shape)
    return found


def factor_of(method: MethodChoice) -> float:
    """The factor by which settings of a shallow method, such as the number of trees or candidates, multiply its cost.

    Args:
        method: the method.
    """
    unused = {key for setting, by in method.about.unused.items() for key in by.get(method.arguments.get(setting), ())}
    values = [method.arguments[key] for key in method.about.cost_times if key not in unused]
    return prod(len(value) if isinstance(value, list | tuple) else value for value in values)  # type: ignore[misc]


def _rows(plan: Plan, choice: TrainingChoice, counts: Counts) -> int:
    """The number of rows that a training or a fit sees."""
    leaves_out = isinstance(choice, PretrainChoice) and choice.data == "unlabeled"
    known = 0 if leaves_out or plan.method.hides_labeled_anomalies else counts.known_anomalies
    rows = counts.total - counts.known_anomalies + known
    # Exposure adds as many images from the second data set as there are others.
    rows *= 1 if plan.scenario.exposure is None else 2
    return ceil(rows * (1 - (plan.threshold.share or 0)))


def _training(plan: Plan, training: TrainingChoice, counts: Counts) -> Part | None:
    facts, work = plan.dataset.network.about, network_work(plan.dataset)
    if training.about.cost is None or training.batch_size is None or work is None:
        return None
    rows, epochs = _rows(plan, training, counts), sum(training.epochs)
    sample = (facts.operation_cost * work.multiply_adds + facts.value_cost * work.values) / _MILLION
    scale = training.about.cost * epochs
    steps = ceil(rows / training.batch_size)
    return Part(scale * facts.step_cost * steps, scale * sample * rows, training_key(plan, training))


def _fit(plan: Plan, counts: Counts) -> Part | None:
    facts, shape, work = plan.about, plan.dataset.about.shape, network_work(plan.dataset)
    if facts.cost is None or shape is None:
        return None
    if plan.method.features == "raw":
        columns = prod(shape)
    elif work is not None:
        columns = work.width
    else:
        return None
    rows = _rows(plan, plan.method, counts)
    growth = (rows / _ROWS) ** facts.cost_rows * (columns / _COLUMNS) ** facts.cost_columns
    return Part(0.0, facts.cost * growth * factor_of(plan.method))
