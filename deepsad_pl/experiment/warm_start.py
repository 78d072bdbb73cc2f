"""Start a training from the weights of a finished run instead of a pre-training (``warm_start=<run>``).

The whole state of the module is loaded, including the center of a hypersphere, so the objective is that of the earlier
run, with more labels. Only the optimizer starts anew. Checks of settings import this module, so torch is imported on
demand.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import read_json
from deepsad_pl.common.records import RECORD, undamaged_record
from deepsad_pl.networks.usual import USUAL
from deepsad_pl.settings import about

if TYPE_CHECKING:
    from deepsad_pl.data.sources import Source
    from deepsad_pl.experiment.plan import Plan
    from deepsad_pl.methods.base import TrainedMethod

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]

# The same names as in detector/detector_folder.py, whose imports a check does not need.
_FACTS, _MODULE = Path("detector", "detector.json"), Path("detector", "module.ckpt")
KEY = "warm_start"


@dataclass(frozen=True)
class Earlier:
    """The finished run whose weights a training starts from.

    Attributes:
        run: its folder.
        hash: hash of its identity.
        method: name of its method.
        target: class of its module.
        inputs: its inputs, as in ``detector.json``.
    """

    run: Path
    hash: str
    method: str
    target: str
    inputs: Mapping[str, Any]


def read_earlier(run: str | Path) -> Earlier:
    """Read what a finished run has trained.

    Raises:
        DeepSADError: if it is not a finished run, or has no weights to start from.
    """
    folder = Path(run).expanduser()
    way_out = "give the run folder that train.py has named at its end"
    try:
        facts = read_json(folder / _FACTS)
        method, target, package = facts["method"], facts["target"], facts["package"]
        found = Earlier(folder, str(facts["hash"]), str(method), str(target), dict(facts["inputs"]))
    except FileNotFoundError:
        made = "; for a run of an earlier release, score.py makes it" if (folder / RECORD).exists() else ""
        raise DeepSADError(
            f"warm_start is {run}, which is not a finished run: it has no {_FACTS}; {way_out}{made}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeepSADError(f"warm_start: {folder / _FACTS} cannot be read ({error!r}); {way_out}") from error
    if target is None or package is not None:
        raise DeepSADError(
            f"warm_start: method={method} of {run} is a shallow method, so it has no weights to start from; give a run "
            "of a deep method"
        )
    return found


def method_problems(method: Settings, earlier: Earlier) -> Iterator[str]:
    """Yield a sentence if a method cannot start from the weights of an earlier run.

    Args:
        method: settings of the method.
        earlier: the earlier run.
    """
    if about.of_method(method).shallow:
        yield (
            f"warm_start: method={method['name']} is a shallow method, so it has no weights to start from; leave "
            "warm_start out, or choose a deep method, such as method=deep_sad"
        )
    elif method["_target_"] != earlier.target and _family(method["_target_"]) != _family(earlier.target):
        yield (
            f"warm_start: method={method['name']} cannot start from the weights of {earlier.run}, which is a run of "
            f"method={earlier.method}; choose that method, or a run of {method['name']}"
        )


def _family(target: str) -> str:
    """The family of a class: methods of one family have the same state.

    The package's methods with the same ``stack`` form a family; any other class is a family of its own.
    """
    own = about.own("method").values()
    family = next((about.of_method(one).stack for one in own if one.get("_target_") == target), None)
    return family or target


def with_earlier(identity: Settings, earlier_hash: str) -> dict[str, Any]:
    """The identity of a run that starts from an earlier run, whose hash replaces the pre-training."""
    return {**identity, "pretrain": None, KEY: earlier_hash}


def start_from_earlier(earlier: Earlier, module: "TrainedMethod", source: "Source") -> None:
    """Load the earlier run's state into a module.

    Args:
        earlier: the earlier run.
        module: the new module, of the same class or family.
        source: the data that it is to be trained on.

    Raises:
        DeepSADError: if the network or the columns differ, or the file is missing or damaged.
    """
    from deepsad_pl.common.checkpoints import DamagedError, from_bytes
    from deepsad_pl.detector.inputs import Inputs
    from deepsad_pl.methods.hyperparameters import plain
    from deepsad_pl.training.restorable import require_state

    try:
        checkpoint = from_bytes((earlier.run / _MODULE).read_bytes())
        before, now = Inputs.from_dict(earlier.inputs), Inputs.of_source(source)
    except (OSError, DamagedError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeepSADError(
            f"warm_start: {earlier.run / _MODULE} cannot be used ({error}); copy the run again, or repeat it with "
            "force=true"
        ) from error
    others = list(_differences({"shape": before.shape, **_named(before)}, {"shape": now.shape, **_named(now)}))
    others += _differences(_kept(checkpoint.get("hyper_parameters", {})), _kept(plain(dict(module.hparams))))
    state: Any = checkpoint.get("state_dict")
    try:
        if not others:
            state = module.adapted(state) if isinstance(state, Mapping) else state
            require_state(state, module)
    except DamagedError as error:
        others.append(str(error))
    if others:
        raise DeepSADError(
            f"warm_start: {earlier.run} has a different network or different columns ({'; '.join(others)}); choose "
            "the same ones, or leave warm_start out"
        )
    module.load_state_dict(state)


def _kept(hyper_parameters: Settings) -> Settings:
    """The settings that must stay the same: those of the network but for its initial weights."""
    network = hyper_parameters.get("network") or {}
    same = {key: value for key, value in network.items() if key != "initial_weights"}
    return {"leakiness": USUAL["leakiness"], **same}


def _named(inputs: Any) -> dict[str, Any]:
    """The names of the values of a prepared row, in their order; an encoded table has one for each category."""
    if not inputs.are_rows:
        return {}
    sources = getattr(inputs.preparation, "sources", None)
    return {"columns": inputs.feature_names if sources is None else [one.label for one in sources]}


def _differences(before: Settings, now: Settings) -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, list | tuple) and isinstance(new, list | tuple):
            if list(old) == list(new):
                continue
            if key == "columns":
                odd = [one for one in (*old, *new) if (one in old) != (one in new)]
                yield f"columns in another order: {', '.join(old[:5])}, ..." if not odd else f"only one has {odd[0]}"
                continue
        if old != new:
            yield f"{key} is {old} there and {new} here"


def warn_if_calibrated_on_seen(plan: "Plan") -> None:
    """Log a warning if the earlier run may have been trained on samples that calibrate the threshold.

    It was not if both runs draw these samples from the same data with the same seed and threshold. The run that the
    earlier run itself started from is not checked.
    """
    if plan.earlier is None or plan.threshold.share is None:
        return
    try:
        record = undamaged_record(plan.earlier.run)
        before, now = record["identity"], plan.identity
        same = record["seed"] == plan.seed and before.get("threshold") == now.get("threshold")
        # Labels that were added later do not change what ``conformal`` draws; ``labeled`` draws from all labels.
        keys = ["files", "data_digest", *(["label_files"] if plan.threshold.kind == "labeled" else [])]
        same = same and all(before["dataset"].get(key) == now["dataset"].get(key) for key in keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        log.warning(
            "%s may have been trained on samples that now calibrate the threshold; their scores, and therefore the "
            "threshold, are then too low, and the false-alarm rate may exceed alpha; use the data, the seed and the "
            "threshold of that run, with threshold=conformal",
            plan.earlier.run,
        )
