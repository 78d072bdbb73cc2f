"""Deep semi-supervised anomaly detection (Deep SAD) with PyTorch Lightning and Hydra.

>>> from deepsad_pl import list_methods
>>> "deep_sad" in list_methods()
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepsad_pl.commands.api import Result, list_datasets, list_methods, load_data, run
    from deepsad_pl.commands.loading import load
    from deepsad_pl.common.errors import DeepSADError
    from deepsad_pl.data.datamodule import AnomalyDataModule
    from deepsad_pl.data.scenario import Scenario
    from deepsad_pl.data.sources import Source
    from deepsad_pl.estimators.baseline_estimators import LOE, DevNet, FeaWAD, PReNet, RoSAS
    from deepsad_pl.estimators.deep_estimators import (
        HSC,
        SSDGM,
        Autoencoder,
        Classifier,
        DeepSAD,
        DeepSVDD,
        SoftBoundarySVDD,
    )
    from deepsad_pl.estimators.labeled_auroc import labeled_auroc
    from deepsad_pl.estimators.shallow_estimators import (
        KDE,
        KNN,
        OCSVM,
        SSAD,
        XGBOD,
        ExtraTrees,
        IsolationForest,
        KNNRatio,
        TabICL,
    )
    from deepsad_pl.methods.autoencoder import AutoencoderModule
    from deepsad_pl.methods.base import TrainedMethod
    from deepsad_pl.methods.classifier import ClassifierModule
    from deepsad_pl.methods.deep_sad import DeepSADModule
    from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
    from deepsad_pl.methods.devnet import DevNetModule
    from deepsad_pl.methods.feawad import FeaWADModule
    from deepsad_pl.methods.hsc import HSCModule
    from deepsad_pl.methods.loe import LOEModule
    from deepsad_pl.methods.prenet import PReNetModule
    from deepsad_pl.methods.rosas import RoSASModule
    from deepsad_pl.methods.ss_dgm import SSDGMModule
    from deepsad_pl.methods.vae import VAEModule

__version__ = "0.1.0"

# Where each public name is; a module is imported when one of its names is first used (PEP 562).
_WHERE = {
    **dict.fromkeys(("Result", "list_datasets", "list_methods", "load_data", "run"), "commands.api"),
    "load": "commands.loading",
    "DeepSADError": "common.errors",
    "AnomalyDataModule": "data.datamodule",
    "Scenario": "data.scenario",
    "Source": "data.sources",
    **dict.fromkeys(
        ("Autoencoder", "Classifier", "DeepSAD", "DeepSVDD", "HSC", "SSDGM", "SoftBoundarySVDD"),
        "estimators.deep_estimators",
    ),
    **dict.fromkeys(
        ("ExtraTrees", "IsolationForest", "KDE", "KNN", "KNNRatio", "OCSVM", "SSAD", "TabICL", "XGBOD"),
        "estimators.shallow_estimators",
    ),
    **dict.fromkeys(("DevNet", "FeaWAD", "LOE", "PReNet", "RoSAS"), "estimators.baseline_estimators"),
    "labeled_auroc": "estimators.labeled_auroc",
    "AutoencoderModule": "methods.autoencoder",
    "TrainedMethod": "methods.base",
    "ClassifierModule": "methods.classifier",
    "DeepSADModule": "methods.deep_sad",
    **dict.fromkeys(("DeepSVDDModule", "SoftBoundarySVDDModule"), "methods.deep_svdd"),
    "HSCModule": "methods.hsc",
    "DevNetModule": "methods.devnet",
    "LOEModule": "methods.loe",
    "PReNetModule": "methods.prenet",
    "FeaWADModule": "methods.feawad",
    "RoSASModule": "methods.rosas",
    "SSDGMModule": "methods.ss_dgm",
    "VAEModule": "methods.vae",
}

__all__ = [
    "HSC",
    "KDE",
    "KNN",
    "LOE",
    "OCSVM",
    "SSAD",
    "SSDGM",
    "XGBOD",
    "AnomalyDataModule",
    "Autoencoder",
    "AutoencoderModule",
    "Classifier",
    "ClassifierModule",
    "DeepSAD",
    "DeepSADError",
    "DeepSADModule",
    "DeepSVDD",
    "DeepSVDDModule",
    "DevNet",
    "DevNetModule",
    "ExtraTrees",
    "FeaWAD",
    "FeaWADModule",
    "HSCModule",
    "IsolationForest",
    "KNNRatio",
    "LOEModule",
    "PReNet",
    "PReNetModule",
    "Result",
    "RoSAS",
    "RoSASModule",
    "SSDGMModule",
    "Scenario",
    "SoftBoundarySVDD",
    "SoftBoundarySVDDModule",
    "Source",
    "TabICL",
    "TrainedMethod",
    "VAEModule",
    "labeled_auroc",
    "list_datasets",
    "list_methods",
    "load",
    "load_data",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepsad_pl.training.fast_import import no_collection

    with no_collection():
        found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
