"""Build what a plan needs: the data and the modules with their initial weights, in the order of training."""

import copy
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deepsad_pl.common.components import instantiate, load
from deepsad_pl.common.errors import BlankCellError, DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.common.thresholds import require_enough
from deepsad_pl.data.calibration import calibration_rows
from deepsad_pl.data.datamodule import AnomalyDataModule, training_set_of
from deepsad_pl.data.exposure import exposed_images
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.queried_labels import QueriedLabels
from deepsad_pl.data.scenario import Scenario, TooFewAnomaliesError, is_given
from deepsad_pl.data.sources import Source, as_source, image_source
from deepsad_pl.data.training_counts import Counts
from deepsad_pl.experiment.asked import with_answers
from deepsad_pl.experiment.identity import (
    code_of,
    equivalent_arguments,
    files_digest,
    holdout_folds,
    label_files_digest,
)
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.shared_training import determined_by
from deepsad_pl.experiment.warm_start import start_from_earlier
from deepsad_pl.methods.base import TrainedMethod, require_one_each
from deepsad_pl.settings.choices import DatasetChoice, MethodChoice, PretrainChoice, TrainingChoice
from deepsad_pl.settings.typed import accepted
from deepsad_pl.shallow.selection import anomaly_folds

log = logging.getLogger(__name__)

# Independent random streams of a run's seed.
_INIT, _SHUFFLE_PRETRAIN, _SHUFFLE_FIT, _NOISE_PRETRAIN, _NOISE_FIT, SHALLOW_STREAM = range(100, 106)
_EPOCHS = {"pretrain": 106, "fit": 107}


@dataclass(frozen=True)
class Phase:
    """One training of an experiment.

    Attributes:
        name: ``pretrain``, or ``fit`` for the method's own.
        module: what is trained.
        data: what it is trained on.
        determined_by: everything that the result depends on, if other experiments can reuse it; else None.
    """

    name: str
    module: TrainedMethod
    data: AnomalyDataModule
    determined_by: dict[str, Any] | None


@dataclass(frozen=True)
class Parts:
    """What an experiment is made of.

    Attributes:
        phases: its trainings in order, ending with the method's own unless the method is shallow.
        data: training, calibration and test data of the method.
    """

    phases: list[Phase]
    data: AnomalyDataModule


def load_data(plan: Plan) -> Source:
    """Load the plan's data set.

    Raises:
        DeepSADError: if the data cannot be obtained or read, or have changed since the run was planned.
    """
    dataset, facts = plan.dataset, plan.dataset.about
    offered = {
        "data_dir": plan.data_dir,
        "seed": plan.seed,
        "digest": plan.identity["dataset"].get("files"),
        "given": is_given(plan.scenario),
    }
    node = {"_target_": dataset.target, **dataset.arguments}
    made = instantiate(node, "dataset", **accepted(dataset.target, offered))
    try:
        _require_facts(made, dataset)
        source = as_source(made, seed=plan.seed, scaling=dataset.scaling)
        if not is_given(plan.scenario):
            _require_classes(source, plan.classes)
        if (source.scale is None) != (facts.inputs == "rows"):
            found = "rows" if source.scale is None else "images"
            raise DeepSADError(
                f"it returned {found}, but its YAML says about.inputs: {facts.inputs}; write about: {{inputs: {found}}}"
            )
    except DeepSADError as error:
        said_by = f"dataset={dataset.name}, {dataset.target}"
        raise DeepSADError(*(f"{said_by}: {one}" for one in error.problems)) from None
    known = {key: plan.identity["dataset"].get(key) for key in ("files", "label_files")}
    files = files_digest(dataset, facts.files, plan.data_dir) if facts.files else known["files"]
    if (files, label_files_digest(dataset, plan.data_dir).get("label_files")) != (known["files"], known["label_files"]):
        raise DeepSADError(f"the files of dataset={dataset.name} have changed since the run was planned; run it again")
    digest = data_digest(dataset.kind, plan.data_dir, dataset.settings().get("table"))
    if digest != plan.identity["dataset"].get("data_digest"):
        raise DeepSADError(
            f"the files of {dataset.name} in {plan.data_dir} have changed since the run was planned, so its "
            "result would not be that of the planned data; run it again"
        )
    if digest is not None:
        log.info(
            "%s in %s is not the published data set, so its runs get separate folders", dataset.name, plan.data_dir
        )
    return source


def _require_facts(made: Any, dataset: DatasetChoice) -> None:
    """Raise an error if what a data set declares contradicts what its function returned."""
    if dataset.about.own_test_set and isinstance(made, tuple | list) and len(made) == 2:
        # A stack would train the experiments of all seeds on the first one's split.
        raise DeepSADError("it returned (x, labels), which the seed splits; remove own_test_set from about in its YAML")
    # A function that accepts ``scaling`` scales the rows itself.
    scaling = None if "scaling" in dataset.arguments else dataset.scaling
    if isinstance(made, Source) and made.scale is None and scaling is not None:
        raise DeepSADError(
            f"it returned a Source, whose rows are used unchanged, but dataset.scaling is {scaling}; return arrays, "
            "or remove scaling from its YAML"
        )


def _require_classes(source: Source, classes: Sequence[str]) -> None:
    """Raise an error unless every label is the index of a class."""
    labels = np.concatenate([source.labels_train, source.labels_test])
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise DeepSADError(
            f"its labels go from {labels.min()} to {labels.max()}, but dataset.classes names {len(classes)}: "
            f"{', '.join(classes)}; name each class, in the order of the labels from 0"
        )


def network_of(dataset: DatasetChoice, source: Source) -> dict[str, Any]:
    """The plain description of phi for this data: the data set's network with the shape of a sample."""
    network = dataset.network.settings()
    if not code_of(dataset.network):
        # The package's own components are known by their short names, so checkpoints need no dotted paths.
        del network["_target_"]
    shape = {"in_features": source.shape[0]} if len(source.shape) == 1 else {"in_shape": list(source.shape)}
    return {**network, **shape}


def build(plan: Plan, source: Source) -> Parts:
    """Build the data and the trainings of a plan.

    Raises:
        BlankCellError: if the data hold fewer anomalies than ``scenario.labels``.
        DeepSADError: if the data do not allow the scenario, or the network does not fit the data.
    """
    try:
        return _build(plan, source)
    except TooFewAnomaliesError as error:
        if plan.scenario.label_count is None:
            raise
        raise BlankCellError(*error.problems, experiment=identity_hash(plan.identity)) from error


def _build(plan: Plan, source: Source) -> Parts:
    source = with_answers(plan, source)
    # A method that also serves as a pre-training must shuffle as the pre-training does, to give the same result.
    shuffle = _SHUFFLE_PRETRAIN if plan.about.is_pretraining else _SHUFFLE_FIT
    held_out = _held_out(plan, source)
    if len(held_out) and source.refit is not None:
        rows = training_set_of(source, plan.scenario, plan.classes).index[held_out]
        source = source.refit(np.delete(np.arange(len(source.x_train)), rows))
    if source.refit is not None:
        # It keeps the raw data in memory, which nobody needs any more; arrow would keep even what is free.
        source = replace(source, refit=None)
        if (arrow := sys.modules.get("pyarrow")) is not None:
            arrow.default_memory_pool().release_unused()
    exposure = _exposure(plan, source, len(held_out))
    data = _data(plan, source, plan.method, shuffle, held_out, exposure)
    _check_rows(plan, data)
    phases: list[Phase] = []
    if plan.pretrain and not plan.starts_warm:
        pretrain_data = _data(plan, source, plan.pretrain, _SHUFFLE_PRETRAIN, held_out, exposure)
        phases.append(_phase(plan.pretrain, plan, source, pretrain_data))
    if not plan.about.shallow:
        phases.append(_phase(plan.method, plan, source, data))
        if plan.earlier is not None:
            start_from_earlier(plan.earlier, phases[-1].module, source)
    return Parts(phases, data)


def stream(seed: int, number: int) -> int:
    """The seed of one of a run's independent random streams."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint32)[0])


def epochs_seed(plan: Plan, phase: Phase) -> int:
    """The seed of what a training draws from the global random streams."""
    return stream(plan.seed, _EPOCHS[phase.name])


def _held_out(plan: Plan, source: Source) -> npt.NDArray[np.int64]:
    """The positions in the training set of the samples that calibrate the threshold.

    Raises:
        DeepSADError: if there are too few for it.
    """
    threshold = plan.threshold
    if threshold.share is None:
        return np.zeros(0, np.int64)
    semi_y = training_set_of(source, plan.scenario, plan.classes).semi_y
    conformal = threshold.kind == "conformal"
    # Drawn as without labels that were filled in later, so that a run that starts from an earlier one's weights is not
    # calibrated on samples that these were trained on.
    drawn_from = source.semi_y_before if conformal and source.semi_y_before is not None else semi_y
    rows = calibration_rows(drawn_from, kind=threshold.kind, share=threshold.share, seed=plan.seed)
    if conformal:
        rows = rows[semi_y[rows] != -1]
        assert threshold.alpha is not None
        require_enough(len(rows), threshold.alpha)
    return rows


def _exposure(plan: Plan, source: Source, held_out: int) -> npt.NDArray[Any] | None:
    """The images of a second data set that are known anomalies; None if the scenario has none.

    Raises:
        DeepSADError: if they cannot be obtained, have another shape, or have changed since the run was planned.
    """
    exposure = plan.scenario.exposure
    if exposure is None:
        return None
    count = len(training_set_of(source, plan.scenario, plan.classes).index) - held_out
    second = _second_set(exposure.kind, plan.data_dir, exposure.data_digest)
    if second.scale != source.scale:
        raise DeepSADError(
            f"scenario.exposure={exposure.kind} has pixels that are divided by {second.scale}, but those of the data "
            f"set are divided by {source.scale}; let its source have scale={second.scale}, or use null"
        )
    return exposed_images(second.x_train, exposure, source.shape, count, seed=plan.seed)


@lru_cache(maxsize=1)
def _second_set(kind: Any, data_dir: Path, digest: str | None) -> Source:
    """A published data set; kept, because the experiments of a stack may share it."""
    found = image_source(kind, data_dir=data_dir, seed=0)
    if data_digest(kind, data_dir) != digest:
        raise DeepSADError(
            f"the files of scenario.exposure={kind} have changed since the run was planned; run it again"
        )
    return found


def _data(
    plan: Plan,
    source: Source,
    phase: TrainingChoice,
    shuffle: int,
    held_out: npt.NDArray[np.int64],
    exposure: npt.NDArray[Any] | None,
) -> AnomalyDataModule:
    options: dict[str, Any] = {} if phase.batch_size is None else {"batch_size": phase.batch_size}
    leaves_out = isinstance(phase, PretrainChoice) and phase.data == "unlabeled"
    return AnomalyDataModule(
        source,
        plan.scenario,
        classes=plan.classes,
        seed=stream(plan.seed, shuffle),
        labeled_anomalies=not leaves_out and not plan.method.hides_labeled_anomalies,
        held_out=held_out,
        exposure=exposure,
        **options,
    )


def _check_rows(plan: Plan, data: AnomalyDataModule) -> None:
    """Check what depends on the number of training rows, before anything is trained."""
    method, scenario, counts, facts = plan.method.settings(), plan.scenario, data.counts, plan.about
    if facts.check is not None:
        check = load(facts.check, "method.about.check")
        check(data.semi_y, **accepted(facts.check, method))
        for fold, kept in enumerate(_kept_of_folds(plan, data), 1):
            try:
                check(data.semi_y[kept], **accepted(facts.check, method))
            except DeepSADError as error:
                without = f"without the rows of fold {fold} of method.selection=holdout"
                raise DeepSADError(*(f"{without}: {one}" for one in error.problems)) from None
    for key, value in facts.needs_labeled_normals.items():
        if method.get(key) == value and not counts.labeled_normals:
            because, way_out = _none_labeled(scenario, "gamma_n", "normal", counts.total)
            raise DeepSADError(f"method.{key} is {value}, but {because}; {way_out} or choose another method.{key}")
    if facts.labels == "needed" and not counts.known_anomalies:
        because, way_out = _none_labeled(scenario, "gamma_l", "anomaly", counts.total)
        raise DeepSADError(f"method={method['name']} learns from labeled anomalies, but {because}; {way_out}")


def _kept_of_folds(plan: Plan, data: AnomalyDataModule) -> Iterator[npt.NDArray[np.int64]]:
    """The training rows outside each fold in which the method selects its hyper-parameters.

    Raises:
        DeepSADError: if there are too few rows for the folds.
    """
    most = holdout_folds(plan.method, plan.scenario)
    for held in [] if most is None else anomaly_folds(data.semi_y, stream(plan.seed, SHALLOW_STREAM), most):
        yield np.setdiff1d(np.arange(len(data.semi_y)), held)


def _none_labeled(scenario: Scenario, ratio: str, kind: str, total: int) -> tuple[str, str]:
    """Why no training row is labeled as of a kind, and what to do."""
    if is_given(scenario):
        return (
            f"none of {total} training rows is a known {kind}",
            f"label some, and name their labels in dataset.{kind}",
        )
    if isinstance(scenario, QueriedLabels):
        because = f"none of the {scenario.labels} samples asked about is a known {kind}"
        return because, "raise scenario.start, or choose another seed or method"
    return f"scenario.{ratio}={getattr(scenario, ratio)} labels none of {total} training rows", "raise it"


def _phase(choice: TrainingChoice, plan: Plan, source: Source, data: AnomalyDataModule) -> Phase:
    name = "pretrain" if choice is plan.pretrain else "fit"
    try:
        with _seeded(plan.seed, _INIT):
            module = _module(choice, plan, network_of(plan.dataset, source), data.counts)
    except DeepSADError as error:
        if isinstance(error.__cause__, ValueError):
            told = f"dataset.network or the {name} settings do not fit the data: {error.__cause__}"
            raise DeepSADError(told) from error
        raise
    data.sample(module.sampling)
    if module.partners:
        module.set_partners(*map(torch.from_numpy, data.partners(module.partners)))
    if code_of(choice):
        _try_score(module, source)
    known = determined_by(plan, choice)
    return Phase(name, module, data, known and {**known, "rows": data.digest()})


def _try_score(module: TrainedMethod, source: Source) -> None:
    """Score two samples to detect a wrong shape before a training that may take hours.

    Raises:
        DeepSADError: if the result is not one number per sample.
    """
    x = torch.from_numpy(source.x_train[:2]).float() / (source.scale or 1)
    one, score = copy.deepcopy(module).eval(), None
    # Ignore other errors: the method may lack what it sets only when training begins. Real ones show up in training.
    with torch.no_grad(), torch.random.fork_rng(devices=[]), suppress(Exception):
        score = one.score(x)
    if score is not None:
        require_one_each(one, "score", score, len(x))


def _module(choice: TrainingChoice, plan: Plan, network: dict[str, Any], counts: Counts) -> TrainedMethod:
    unit_interval = plan.dataset.about.lies_in_unit_interval(plan.dataset.scaling)
    before = plan.pretrain.arguments if plan.pretrain else {}
    offered = {
        "network": network,
        "sigmoid": unit_interval,
        "likelihood": "bernoulli" if unit_interval else "gaussian",
        "labeled_share": 1 - counts.unlabeled / counts.total,
        "polluted_share": plan.scenario.gamma_p * counts.unlabeled / counts.total,
        "anomaly_share": counts.known_anomalies / counts.total,
        "m1": {key: before[key] for key in ("hidden", "latent") if key in before} or None,
        "seed": stream(plan.seed, _NOISE_PRETRAIN if choice is plan.pretrain else _NOISE_FIT),
    }
    target = choice.target
    arguments = choice.arguments
    if isinstance(choice, MethodChoice):
        # Equal identities must have equal states.
        arguments = equivalent_arguments(arguments, choice.about, plan.scenario)
    made = instantiate({"_target_": target, **arguments}, choice.group, **accepted(target, offered))
    if not isinstance(made, TrainedMethod):
        raise DeepSADError(
            f"{choice.group}._target_ is {target}, which creates a {type(made).__name__}; use a subclass of "
            "deepsad_pl.methods.base.TrainedMethod"
        )
    if not made.hparams:
        raise DeepSADError(
            f"{choice.group}._target_ is {target}, whose constructor does not call self.save_hyperparameters(), so "
            "that no detector could be made of it; call it there"
        )
    return made


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, number))
        yield
