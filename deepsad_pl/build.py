"""From a plan to what is trained: the data, the modules with their initial weights, in the order of training."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deepsad_pl.catalog import METHODS, is_shallow
from deepsad_pl.checks import lies_in_unit_interval
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.scenario import Counts
from deepsad_pl.data.sources import Source, load_source
from deepsad_pl.errors import DeepSADError
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
from deepsad_pl.methods.ss_dgm import SSDGMModule
from deepsad_pl.methods.vae import VAEModule
from deepsad_pl.plan import Plan, hides_labeled_anomalies, image_size, root_of

log = logging.getLogger(__name__)

# Independent random streams of a run's seed.
_INIT, _SHUFFLE_PRETRAIN, _SHUFFLE_FIT, _NOISE_PRETRAIN, _NOISE_FIT, SHALLOW_STREAM = range(100, 106)

# Raised when what an autoencoder's settings mean changes, so that a cached one is not mistaken for another.
_CACHE_FORMAT = 1


@dataclass(frozen=True)
class Phase:
    """One training.

    Attributes:
        name: ``pretrain``, or ``fit`` for the method's own.
        module: what is trained.
        data: what it is trained on.
        determined_by: all that the result depends on, if other experiments can use it; else None.
    """

    name: str
    module: TrainedMethod
    data: AnomalyDataModule
    determined_by: dict[str, Any] | None


@dataclass(frozen=True)
class Parts:
    """What an experiment is made of.

    Attributes:
        phases: its trainings, in order; the last one is the method's own unless that is shallow.
        data: what the method sees and is tested on.
    """

    phases: list[Phase]
    data: AnomalyDataModule


def load_data(plan: Plan) -> Source:
    """The source of the plan's data set.

    Raises:
        DeepSADError: if the data cannot be had or read, or are not those that were planned.
    """
    dataset = plan.dataset
    options: dict[str, Any] = {"scaling": dataset.get("scaling")}
    if "root" in dataset:
        options |= {
            "root": root_of(dataset),
            "image_size": image_size(dataset),
            "channels": dataset["channels"],
            "digest": plan.identity["dataset"]["files"],
        }
    source = load_source(dataset["kind"], data_dir=plan.data_dir, seed=plan.seed, **options)
    digest = data_digest(dataset["kind"], plan.data_dir)
    if digest != plan.identity["dataset"].get("data_digest"):
        raise DeepSADError(
            f"the files of {dataset['name']} in {plan.data_dir} have changed since the run was planned, so that its "
            "result would stand for other data; run it again"
        )
    if digest is not None:
        log.info(
            "%s in %s is not the published data set: its runs have folders of their own", dataset["name"], plan.data_dir
        )
    return source


def network_of(dataset: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The plain description of phi for this data: the data set's network with the shape of a sample."""
    network = dict(dataset["network"])
    if network["name"] == "mlp":
        return {**network, "in_features": source.shape[0]}
    return {**network, "in_shape": list(source.shape)}


def build(plan: Plan, source: Source) -> Parts:
    """The data and the trainings of the plan.

    Raises:
        DeepSADError: if the scenario cannot be had from the data, or the network does not fit them.
    """
    # The method autoencoder is the very autoencoder that others pre-train.
    shuffle = _SHUFFLE_PRETRAIN if plan.method["name"] == "autoencoder" else _SHUFFLE_FIT
    data = _data(plan, source, plan.method, shuffle)
    _check_rows(plan, data)
    phases: list[Phase] = []
    if plan.pretrain:
        pretrain_data = _data(plan, source, plan.pretrain, _SHUFFLE_PRETRAIN)
        phases.append(_phase("pretrain", plan, source, pretrain_data))
    if not is_shallow(plan.method["name"]):
        phases.append(_phase("fit", plan, source, data))
    return Parts(phases, data)


def stream(seed: int, number: int) -> int:
    """The seed of one of a run's independent random streams."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint32)[0])


def _data(plan: Plan, source: Source, settings: Mapping[str, Any], shuffle: int) -> AnomalyDataModule:
    options = {"batch_size": settings["batch_size"]} if "batch_size" in settings else {}
    return AnomalyDataModule(
        source,
        plan.scenario,
        classes=plan.classes,
        seed=stream(plan.seed, shuffle),
        labeled_anomalies=settings.get("data") != "unlabeled" and not hides_labeled_anomalies(plan.method),
        **options,
    )


def _check_rows(plan: Plan, data: AnomalyDataModule) -> None:
    """What only the number of rows tells, before anything is trained."""
    method, scenario, counts = plan.method, plan.scenario, data.counts
    if METHODS[method["name"]].schema == "ssad":
        # It brings scipy.optimize along, which no other method needs here.
        from deepsad_pl.shallow.ssad_problem import make_problem, require_feasible

        weights = {key: method[key] for key in ("eta_u", "eta_l")}
        require_feasible(make_problem(data.semi_y, counts.total, method["kappa"], **weights), **weights)
    if counts.total < method.get("folds", 0):
        raise DeepSADError(
            f"method.folds is {method['folds']}, but there are {counts.total} training rows; give at most as many folds"
        )
    if method.get("center_from") == "labeled_normal" and not counts.labeled_normals:
        raise DeepSADError(
            f"method.center_from is labeled_normal, but scenario.gamma_n={scenario.gamma_n} labels none of "
            f"{counts.total} training rows; raise it or use unlabeled_and_normal"
        )
    if METHODS[method["name"]].needs_labeled_anomalies and not counts.labeled_anomalies:
        raise DeepSADError(
            f"method={method['name']} learns from labeled anomalies, but scenario.gamma_l={scenario.gamma_l} labels "
            f"none of {counts.total} training rows; raise it"
        )


def _phase(name: str, plan: Plan, source: Source, data: AnomalyDataModule) -> Phase:
    settings = plan.pretrain if name == "pretrain" else plan.method
    assert settings is not None
    try:
        with _seeded(plan.seed, _INIT):
            module = _module(plan, settings, network_of(plan.dataset, source), data.counts)
    except ValueError as error:
        raise DeepSADError(f"dataset.network or the {name} settings do not fit the data: {error}") from error
    determined_by = None
    if settings["name"] in ("autoencoder", "vae"):
        training = dict(plan.identity["pretrain" if name == "pretrain" else "method"])
        # The rows themselves say who sees what.
        for key in ("data", "sees_labeled_anomalies"):
            training.pop(key, None)
        determined_by = {
            "format": _CACHE_FORMAT,
            "dataset": plan.identity["dataset"],
            "rows": data.digest(),
            "training": training,
            "seed": plan.seed,
            "precision": plan.trainer["precision"],
            **({"trainer": plan.identity["trainer"]} if "trainer" in plan.identity else {}),
        }
    return Phase(name, module, data, determined_by)


def _module(plan: Plan, settings: Mapping[str, Any], network: Mapping[str, Any], counts: Counts) -> TrainedMethod:
    unit_interval = lies_in_unit_interval(plan.dataset)
    likelihood = "bernoulli" if unit_interval else "gaussian"
    schedule = {key: settings[key] for key in ("lr", "epochs", "weight_decay")}
    sizes = {key: settings[key] for key in ("hidden", "latent") if key in settings}
    match settings["name"]:
        case "autoencoder":
            return AutoencoderModule(network, sigmoid=unit_interval, loss=settings["loss"], **schedule)
        case "vae":
            noise = stream(plan.seed, _NOISE_PRETRAIN)
            return VAEModule(network, likelihood=likelihood, seed=noise, **sizes, **schedule)
        case "deep_sad":
            return DeepSADModule(network, eta=settings["eta"], center_from=settings["center_from"], **schedule)
        case "deep_svdd":
            return DeepSVDDModule(network, **schedule)
        case "soft_boundary_svdd":
            return SoftBoundarySVDDModule(network, nu=settings["nu"], **schedule)
        case "classifier":
            return ClassifierModule(network, **schedule)
        case "ss_dgm_m2" | "ss_dgm_m1m2":
            m1 = plan.pretrain and {key: plan.pretrain[key] for key in ("hidden", "latent")}
            return SSDGMModule(
                network,
                likelihood=likelihood,
                labeled_share=1 - counts.unlabeled / counts.total,
                m1=m1,
                seed=stream(plan.seed, _NOISE_FIT),
                **sizes,
                **schedule,
            )
    raise ValueError(f"nothing is trained for {settings['name']!r}")


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, number))
        yield
