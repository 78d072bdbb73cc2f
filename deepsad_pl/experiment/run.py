"""Run one experiment, from its plan to its record: build, pretrain, fit, score, write."""

import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from deepsad_pl import __version__
from deepsad_pl.common.calibration_scores import CALIBRATION, write_calibration
from deepsad_pl.common.counting import classes_named, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.metrics import metrics_where_known
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.records import (
    AUROC_TOLERANCE,
    CLASSES,
    RECORD,
    REPORT,
    SCORES,
    auroc_of,
    identity_hash,
    write_record,
    write_scores,
)
from deepsad_pl.common.thresholds import Threshold
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.queried_labels import is_queried
from deepsad_pl.data.scenario import is_given
from deepsad_pl.data.training_counts import Counts
from deepsad_pl.detector.detector_folder import DETECTOR, keep_threshold
from deepsad_pl.experiment.asked import LABELED_ROWS, require_pool, round_before
from deepsad_pl.experiment.build import Parts, build, load_data
from deepsad_pl.experiment.calibrated import threshold_entry, threshold_metrics
from deepsad_pl.experiment.class_metrics import known_classes, metrics_of, names_of
from deepsad_pl.experiment.finished import CHECKPOINTS, Outcome, answer, locked_run, record_of
from deepsad_pl.experiment.fit_deep import Trained, fit_phase
from deepsad_pl.experiment.keep_detector import keep_detector, warn_if_it_differs
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.rescoring import scores_again
from deepsad_pl.experiment.results_version import RESULTS_VERSION, VERSION_KEY
from deepsad_pl.experiment.run_log import RunLog
from deepsad_pl.experiment.run_report import add_report, try_report
from deepsad_pl.experiment.warm_start import warn_if_calibrated_on_seen
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.settings.own_metrics import values_of, with_metrics
from deepsad_pl.tracking.tracker import NoTracker, Tracker
from deepsad_pl.tracking.trackers import LOSSES, RUN_ID, make_tracker
from deepsad_pl.training.rank_processes import ranks_together
from deepsad_pl.training.trainer import PhaseProgress, make_trainer

log = logging.getLogger(__name__)

CONFIG, LOG = "config.yaml", "train.log"
# Followed by the rank of a distributed run and .log.
_RANK_LOG = "train.rank"
# An invalid record, or one whose scores and model are lost, is renamed to this.
DAMAGED = f"{RECORD}.damaged"
_THREADS = torch.get_num_threads()
_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "scikit-learn", "numpy")


class Score(Protocol):
    """A function that scores a test set, or the calibration samples after it."""

    def __call__(
        self, plan: Plan, module: TrainedMethod, data: AnomalyDataModule, *, calibration: bool = False
    ) -> tuple[Mapping[str, Tensor], torch.device]:
        """Return ``idx``, ``y`` and ``score`` of every sample, and the device used."""


@in_sentences()
def run_experiment(
    plan: Plan, *, config: Mapping[str, Any], config_yaml: str, command: str, single: bool = False
) -> Outcome:
    """Run or resume a planned experiment, or return its outcome if it is finished.

    Args:
        plan: plan of the experiment.
        config: the configuration, nested, for the tracker.
        config_yaml: the configuration as YAML, for the run folder.
        command: command line that repeats the run.
        single: whether it is the only experiment rather than one of a sweep; then its page is written and the tracker
            draws plots, if the settings leave it open.

    Raises:
        DeepSADError: if the plan cannot be carried out; if the data are the reason, before the run folder is created.
    """
    if (finished := answer(plan, config)) is not None:
        add_report(plan, lambda: build(plan, load_data(plan)), finished.record, single=single)
        return finished
    use_threads(plan)
    source = load_data(plan)
    require_pool(plan, source)
    if (before := round_before(plan, config, config_yaml, command)) is not None:
        earlier, config_before, yaml_before, command_before = before
        run_experiment(earlier, config=config_before, config_yaml=yaml_before, command=command_before)
    parts = build(plan, source)
    if not is_main_process(plan.ranks):
        return Outcome(_compute_along(plan, parts, command), plan.run_dir, was_finished=False)
    with locked_run(plan):
        if (finished := finished_or_restored(plan, parts, config)) is not None:
            add_report(plan, lambda: parts, finished.record, single=single)
            return finished
        with (
            begun(plan, parts, config=config, config_yaml=config_yaml, command=command, plots=single) as tracker,
            ranks_together(plan.trainer["devices"], plan.trainer["num_nodes"]),
        ):
            record = _train_and_score(plan, parts, tracker, command)
            if single if plan.report is None else plan.report:
                try_report(plan, lambda: parts, record)
    return Outcome(record, plan.run_dir, was_finished=False)


def finished_or_restored(plan: Plan, parts: Parts, config: Mapping[str, Any]) -> Outcome | None:
    """As :func:`~deepsad_pl.experiment.finished.answer`, but restores lost scores; the caller must hold the lock."""
    finished = answer(plan, config, has_lock=True)
    # Not in a distributed run: all ranks must do the same, and only rank 0 looks at the files.
    if finished is None and not plan.force and plan.ranks == 1 and (record := record_of(plan)) is not None:
        with speaking_for(plan), _log_to(plan.run_dir / LOG):
            restored = _restore_scores(plan, parts, record)
        finished = answer(plan, config, has_lock=True) if restored else None
    return finished


def _restore_scores(plan: Plan, parts: Parts, record: Mapping[str, Any]) -> bool:
    """Recompute the scores of a finished experiment from its trained model; return whether that was possible."""
    found_again = scores_again(plan, parts)
    if found_again is None:
        log.warning("%s: its trained model is lost too, so the experiment is run again", plan.run_dir)
        return False
    result, calibration = found_again
    try:
        found = metrics_where_known(result["score"], result["y"])
        auroc = auroc_of(found)
        same = found["auroc"] == record["auroc"] or abs(auroc - auroc_of(record)) <= AUROC_TOLERANCE
    except ValueError:
        auroc, same = math.nan, False
    if not same:
        told = (
            "%s: its trained model has an AUROC of %.6f, but its record says %.6f; the experiment is run again from "
            "the start"
        )
        log.warning(told, plan.run_dir, auroc, auroc_of(record))
        _forget(plan.run_dir)
        return False
    arrays = {key: tensor.numpy() for key, tensor in result.items()}
    written = _write_scores(plan, parts.data, arrays)
    restored = {**record, "scores": written}
    if calibration is not None:
        restored["threshold"] = _calibrated(plan, parts.data, calibration, arrays)
        keep_threshold(plan.run_dir / DETECTOR, restored["threshold"])
    write_record(plan.run_dir, restored)
    log.info("%s was written again from the trained model", plan.run_dir / SCORES)
    return True


def use_threads(plan: Plan) -> None:
    """Set the number of CPU threads to that of the plan."""
    torch.set_num_threads(plan.trainer["threads"] or _THREADS)


@contextmanager
def begun(
    plan: Plan, parts: Parts, *, config: Mapping[str, Any], config_yaml: str, command: str, plots: bool = False
) -> Iterator[Tracker]:
    """Open an experiment's files and tracker for the block; log any exception that ends it early."""
    if plan.force:
        _forget(plan.run_dir)
    elif (plan.run_dir / RECORD).exists():
        (plan.run_dir / RECORD).replace(plan.run_dir / DAMAGED)
    write_atomic(plan.run_dir / CONFIG, config_yaml)
    with _log_to(plan.run_dir / LOG), _tracked(plan, parts, config, command, plots) as tracker:
        yield tracker


def _compute_along(plan: Plan, parts: Parts, command: str) -> dict[str, Any]:
    """Run a rank above 0 of a distributed run: it writes no file, except a log if it fails."""
    try:
        with ranks_together(plan.trainer["devices"], plan.trainer["num_nodes"]):
            return _train_and_score(plan, parts, NoTracker(), command)
    except Exception:
        name = f"{_RANK_LOG}{os.environ.get('LOCAL_RANK') or os.environ.get('SLURM_PROCID') or '1'}.log"
        with _log_to(plan.run_dir / name):
            log.exception("this rank failed")
        raise


def _forget_errors_of_ranks(run_dir: Path) -> None:
    """Remove the logs that ranks above 0 have left in attempts that failed."""
    for left in run_dir.glob(f"{_RANK_LOG}*.log"):
        left.unlink(missing_ok=True)


def _forget(run_dir: Path) -> None:
    """Remove an earlier run's files, its record first: if killed midway, the run must not look finished."""
    for name in (RECORD, DAMAGED, SCORES, CALIBRATION, LOSSES, RUN_ID, LOG, REPORT):
        (run_dir / name).unlink(missing_ok=True)
    _forget_errors_of_ranks(run_dir)
    for folder in (CHECKPOINTS, DETECTOR):
        shutil.rmtree(run_dir / folder, ignore_errors=True)


# The run folders whose logs get the messages of this context, while many experiments are running; None: all.
_speaks_for: ContextVar[frozenset[Path] | None] = ContextVar("_speaks_for", default=None)


@contextmanager
def speaking_for(*plans: Plan) -> Iterator[None]:
    """Send messages only to the logs of these experiments, while many are running."""
    token = _speaks_for.set(frozenset(plan.run_dir for plan in plans))
    try:
        yield
    finally:
        _speaks_for.reset(token)


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    handler = RunLog(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: (speaks_for := _speaks_for.get()) is None or path.parent in speaks_for)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


@contextmanager
def _tracked(plan: Plan, parts: Parts, config: Mapping[str, Any], command: str, plots: bool) -> Iterator[Tracker]:
    failed, tracker = True, None
    try:
        log.debug("%s", command)
        log.info("%s on %s, %s", plan.method.name, plan.dataset.name, _describe(plan, parts.data.counts))
        for told in parts.data.source.told:
            log.info("%s", told)
        for warned in parts.data.source.warned:
            log.warning("%s", warned)
        if held_out := parts.data.held_out_count:
            kept = counted(held_out, "sample is kept", "samples are kept")
            log.info("%s out of training to calibrate the threshold", kept)
        if plan.earlier is not None:
            log.info("the training starts from the weights of %s, without a pre-training", plan.earlier.run)
            warn_if_calibrated_on_seen(plan)
        steps = {phase.name: phase.data.batches * sum(phase.module.epochs) for phase in parts.phases}
        first_steps = {"pretrain": 0, "fit": steps.get("pretrain", 0)}
        tracker = make_tracker(
            plan.logger, plan.run_dir, config, group=plan.wandb_group, plots=plots, first_steps=first_steps
        )
        yield tracker
        failed = False
    except Exception:
        log.exception("the run failed")
        raise
    except BaseException as stop:
        log.warning("the run was stopped (%s); the same command resumes it", type(stop).__name__)
        raise
    finally:
        if tracker is not None:
            tracker.finish(failed)


def _train_and_score(plan: Plan, parts: Parts, tracker: Tracker, command: str) -> dict[str, Any]:
    trained: dict[str, Trained] = {}
    for before, phase in zip([None, *parts.phases], parts.phases, strict=False):
        if before is not None:
            phase.module.start_from(before.module)
        trained[phase.name] = fit_phase(plan, phase, tracker)
    return score_and_record(plan, parts, trained, tracker, command)


def score_and_record(
    plan: Plan,
    parts: Parts,
    trained: Mapping[str, Trained],
    tracker: Tracker,
    command: str,
    *,
    replicas: int = 1,
    score: Score | None = None,
) -> dict[str, Any]:
    """Score the test set with what was trained, and write the scores and the record.

    Args:
        plan: plan of the experiment.
        parts: its data and trained modules.
        trained: outcome of each training.
        tracker: receives the result.
        command: command line that repeats the run.
        replicas: number of experiments trained at once.
        score: function that scores the test set with a deep method; None: use the Trainer.

    Returns:
        The record.

    Raises:
        DeepSADError: if a user-defined metric cannot be computed; everything else is still recorded.
    """
    data = parts.data
    seconds = {"pretrain": 0.0, "fit": 0.0} | {name: done.seconds for name, done in trained.items()}
    device, selection = torch.device("cpu"), {}
    result: Mapping[str, Tensor]
    calibration: npt.NDArray[Any] | None = None
    if plan.about.shallow:
        # Imported here because it loads scikit-learn and scipy.optimize, which only shallow methods need.
        from deepsad_pl.experiment.fit_shallow import score_shallow

        encoder = parts.phases[0].module if plan.method.features == "bottleneck" else None
        scored = score_shallow(plan, data, encoder, plan.run_dir / CHECKPOINTS)
        result, calibration, selection = scored.result, scored.calibration, {"selection": scored.selection}
        seconds |= {"fit": scored.fit_seconds, "score": scored.score_seconds}
    else:
        start = time.monotonic()
        result, device = (score or _score_by_trainer)(plan, parts.phases[-1].module, data)
        seconds["score"] = time.monotonic() - start
        if plan.threshold:
            calibrated, _ = (score or _score_by_trainer)(plan, parts.phases[-1].module, data, calibration=True)
            calibration = calibrated["score"].numpy()
    if len(result["idx"]) != data.test_counts["test"]:
        raise RuntimeError(f"{len(result['idx'])} of {data.test_counts['test']} test samples were scored")
    labels = None if is_given(plan.scenario) else data.source.labels_test[result["idx"].numpy()]
    with _evaluated(plan):
        metrics = metrics_of(result["score"], result["y"], labels, plan.classes, _known_classes(plan, data))
    by_class = metrics.pop(CLASSES, None)

    record = {
        **metrics,
        **what_was_done(plan),
        "counts": _counts(data, plan.threshold),
        **({} if by_class is None else {CLASSES: by_class}),
        **_known_anomalies(data),
        **_labeled_rows(data),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "spread": {name: done.spread for name, done in trained.items()},
        "epochs": {name: done.epochs for name, done in trained.items()},
        "reused": {name: done.reused for name, done in trained.items() if done.reused},
        **selection,
        "trainer": {
            "device": str(device),
            "world_size": plan.ranks,
            "threads": torch.get_num_threads(),
            "compile": plan.trainer["compile"],
            "replicas": replicas,
        },
        "command": command,
    }
    if is_main_process(plan.ranks):
        arrays = {key: tensor.numpy() for key, tensor in result.items()}
        record["scores"] = _write_scores(plan, data, arrays)
        if calibration is not None:
            with _evaluated(plan):
                record["threshold"] = _calibrated(plan, data, calibration, arrays)
        record, error = with_metrics(plan.run_dir, record, plan.metrics)
        known = {name: value for name, value in metrics.items() if value is not None}
        tracker.result(known | threshold_metrics(record) | values_of(record), arrays["y"], arrays["score"])
        keep_detector(plan, parts, record)
        _forget_errors_of_ranks(plan.run_dir)
        write_record(plan.run_dir, record)
        if not plan.about.shallow:
            warn_if_it_differs(plan, parts, result)
        if error is not None:
            raise error
    return record


def _write_scores(plan: Plan, data: AnomalyDataModule, result: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Write ``scores.csv``; with given labels, no more is known of a sample's class than its ground truth."""
    source = data.source
    classes = None if is_given(plan.scenario) else names_of(plan.classes, source.labels_test)
    return write_scores(plan.run_dir, **result, ids=source.ids_test, classes=classes)


def _known_classes(plan: Plan, data: AnomalyDataModule) -> list[str]:
    return known_classes(plan, data.source.labels_train, _labeled_rows(data).get(LABELED_ROWS, ()))


def _calibrated(
    plan: Plan, data: AnomalyDataModule, calibration: npt.NDArray[Any], test: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """Write the calibration scores, and return the threshold for the record."""
    entry = threshold_entry(plan.threshold, calibration, data.calibration_semi_y, test["score"], test["y"])
    write_calibration(plan.run_dir, calibration, data.calibration_semi_y)
    return entry


@contextmanager
def _evaluated(plan: Plan) -> Iterator[None]:
    """Turn a ValueError about scores that cannot be evaluated into a clear error message."""
    try:
        yield
    except ValueError as error:
        way_out = f"lower method.lr, or correct the scores of {plan.method.target}"
        raise DeepSADError(f"method={plan.method.name} cannot be evaluated: {error}; {way_out}") from error


def _score_by_trainer(
    plan: Plan, module: TrainedMethod, data: AnomalyDataModule, *, calibration: bool = False
) -> tuple[Mapping[str, Tensor], torch.device]:
    trainer = make_trainer(plan.trainer, plan.run_dir, 1, [PhaseProgress("calibrate" if calibration else "score")])
    module.needs_truth = not calibration and not is_given(plan.scenario)
    with _evaluated(plan):
        if calibration:
            trainer.test(module, dataloaders=data.calibration_dataloader(), verbose=False)
        else:
            trainer.test(module, datamodule=data, verbose=False)
    return module.test_result, trainer.strategy.root_device


def _counts(data: AnomalyDataModule, threshold: Threshold) -> dict[str, int]:
    counts = data.counts
    found = {"train": counts.total, "unlabeled": counts.unlabeled, **counts.as_dict(), **data.test_counts}
    if threshold:
        found["calibration"] = data.held_out_count
    if is_given(data.scenario):
        # Nobody knows how many of the unlabeled samples are normal.
        del found["unlabeled_normals"], found["pollution"]
    return found


def _known_anomalies(data: AnomalyDataModule) -> dict[str, list[str]]:
    """The names of the known anomalies, where labels that come with the data have names."""
    names = data.source.ids_train
    if names is None or not is_given(data.scenario):
        return {}
    training_set = data.training_set
    return {"known_anomalies": names[training_set.index[training_set.semi_y == -1]].tolist()}


def _labeled_rows(data: AnomalyDataModule) -> dict[str, list[int]]:
    """The rows of the training data that were asked about, from which the next round goes on."""
    if not is_queried(data.scenario):
        return {}
    return {LABELED_ROWS: data.training_set.index[data.training_set.semi_y != 0].tolist()}


def what_was_done(plan: Plan) -> dict[str, Any]:
    """The part of the record that follows from the plan, and the versions of the packages."""
    return {
        "dataset": plan.dataset.name,
        "method": plan.method.name,
        "seed": plan.seed,
        "scenario": _scenario(plan),
        "hash": identity_hash(plan.identity),
        "identity": plan.identity,
        "versions": dict(_versions()),
        VERSION_KEY: RESULTS_VERSION,
    }


# Values of a scenario that its record has elsewhere, or by name.
_NOT_OF_THE_RECORD = ("normal_classes", "known_classes", "seed")


def _scenario(plan: Plan) -> dict[str, Any]:
    scenario = plan.scenario
    if is_given(scenario):
        return {"given": True}
    normal = [plan.classes[i] for i in scenario.normal_classes]
    if is_queried(scenario):
        return {**scenario.as_dict(), "normal_classes": normal}
    return {
        "normal_class": normal,
        "anomaly_class": [plan.classes[i] for i in scenario.known_classes],
        **{key: value for key, value in scenario.as_dict().items() if key not in _NOT_OF_THE_RECORD},
        "k_l": len(scenario.known_classes),
    }


@cache
def _versions() -> Mapping[str, str]:
    found = {name: version(name) for name in _PACKAGES}
    return {"deepsad_pl": __version__, "python": platform.python_version(), **found}


def _describe(plan: Plan, counts: Counts) -> str:
    """Describe the training set in words, without its empty parts."""
    if is_given(plan.scenario):
        named = [f"{counts.unlabeled} unlabeled"] if counts.unlabeled else []
        named += [f"{counts.labeled_normals} known normal"] if counts.labeled_normals else []
        known = counted(counts.labeled_anomalies, "known anomaly", "known anomalies")
        named += [known] if counts.labeled_anomalies else []
        return f"{counted(counts.total, 'training sample')}: {', '.join(named)}"
    normal, known = (
        classes_named([plan.classes[i] for i in indices])
        for indices in (plan.scenario.normal_classes, plan.scenario.known_classes)
    )
    parts = [f"{counts.unlabeled} unlabeled" + (f" ({counts.pollution} of them pollution)" if counts.pollution else "")]
    if counts.labeled_normals:
        wrong = f" ({counts.wrong_normals} of them wrongly)" if counts.wrong_normals else ""
        parts.append(counted(counts.labeled_normals, "labeled normal") + wrong)
    if counts.labeled_anomalies:
        of_class = "" if is_queried(plan.scenario) else f" of {known}"
        wrong = f" ({counts.wrong_anomalies} of them wrongly)" if counts.wrong_anomalies else ""
        parts.append(f"{counted(counts.labeled_anomalies, 'labeled anomaly', 'labeled anomalies')}{of_class}{wrong}")
    if counts.exposure and plan.scenario.exposure is not None:
        parts.append(f"{counted(counts.exposure, 'image')} of {plan.scenario.exposure.kind} as known anomalies")
    return f"normal {normal}: {', '.join(parts)}"
