"""Load the detector of a finished run; for a run of an earlier release, make it from the checkpoints and data."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import RECORD, identity_hash, undamaged_record, valid_record
from deepsad_pl.detector.detector_folder import DETECTOR, FACTS, MODEL, MODULE
from deepsad_pl.experiment.finished import locked_run, record_of
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.experiment.warm_start import KEY as WARM_START
from deepsad_pl.experiment.warm_start import with_earlier

if TYPE_CHECKING:
    from deepsad_pl.detector.detector import Detector

_CONFIG = "config.yaml"


def load(run: str | PathLike[str], *, data_dir: str | PathLike[str] | None = None) -> "Detector":
    """Load the detector of a finished run.

    Args:
        run: the run folder.
        data_dir: folder of the run's data, needed if the run is of an earlier release and the data have moved.

    Raises:
        DeepSADError: if the run is not finished, or its detector is damaged or cannot be made.
    """
    folder = Path(run).expanduser()
    require_run(folder)
    from deepsad_pl.detector.detector import Detector

    if not (folder / DETECTOR / FACTS).exists():
        return _made(folder, data_dir)
    return _at_the_records_level(Detector.read(folder / DETECTOR), folder)


def _at_the_records_level(detector: "Detector", folder: Path) -> "Detector":
    """Set a detector's alpha or fpr to that of the run's record: earlier releases changed it only there."""
    try:
        record = undamaged_record(folder)
    except (OSError, ValueError):  # the detector was copied without its run, or the record is damaged
        return detector
    entry = record.get("threshold") if isinstance(record, dict) else None
    if detector.has_threshold and isinstance(entry, dict) and entry.get("kind") == detector.threshold.kind:
        levels = {key: entry[key] for key in ("alpha", "fpr") if key in entry}
        detector.threshold = replace(detector.threshold, **levels)
    return detector


def require_run(folder: Path) -> None:
    """Raise an error unless a folder holds a detector or a finished run."""
    if not folder.is_dir():
        raise DeepSADError(f"run: there is no folder {folder}; give the run folder that train.py names at its end")
    if (folder / DETECTOR / FACTS).exists() or ((folder / RECORD).exists() and (folder / _CONFIG).exists()):
        return
    raise DeepSADError(
        f"run: {folder} does not hold a finished run, since it has neither {DETECTOR}/{FACTS} nor {RECORD} with "
        f"{_CONFIG}; give the folder of a finished run, or repeat the command of this one to finish it"
    )


def planned(folder: Path, data_dir: str | PathLike[str] | None) -> Plan:
    """The plan of a finished run, made again from its configuration.

    Raises:
        DeepSADError: if it cannot be planned again, or its data have changed.
    """
    told = f"run: {folder} cannot be planned again from its {_CONFIG}"
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(folder / _CONFIG), resolve=True)
        assert isinstance(loaded, dict)
        settings: dict[str, Any] = {str(key): value for key, value in loaded.items()}
        # The devices of the training do not matter, and this machine may lack them.
        settings["trainer"] |= {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}
        # Releases without thresholds did not write this group.
        settings.setdefault("threshold", {"name": "none"})
        settings |= {"force": False} | ({} if data_dir is None else {"data_dir": str(data_dir)})
        # The run that it started from may be gone. Only its hash is needed, and the record has it.
        started_warm = settings.pop(WARM_START, None) is not None
        plan = replace(make_plan(settings), run_dir=folder)
        if started_warm:
            earlier_hash = undamaged_record(folder)["identity"][WARM_START]
            plan = replace(plan, identity=with_earlier(plan.identity, earlier_hash))
    except DeepSADError as error:
        raise DeepSADError(*(f"{told}: {one}" for one in error.problems)) from error
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, AssertionError, KeyError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise DeepSADError(f"{told} ({type(error).__name__}: {said}); run it again") from error
    try:
        valid_record(folder, identity_hash(plan.identity))
    except (OSError, ValueError) as error:
        # Not the warning of read_record, that the experiment counts as unfinished: nothing is trained here.
        raise DeepSADError(
            f"run: {folder} cannot be used, since its data or its code have changed since the training, or its "
            f"{RECORD} is damaged ({error}); set data_dir to the data of the training, or run the experiment again"
        ) from error
    return plan


def _made(folder: Path, data_dir: str | PathLike[str] | None) -> "Detector":
    """Make the detector of a run of an earlier release, and load it."""
    plan = planned(folder, data_dir)
    from deepsad_pl.detector.detector import Detector
    from deepsad_pl.experiment.build import build, load_data
    from deepsad_pl.experiment.keep_detector import keep_detector

    with locked_run(plan):
        record = record_of(plan)
        assert record is not None
        try:
            keep_detector(plan, build(plan, load_data(plan)), record)
            return Detector.read(folder / DETECTOR)
        except DeepSADError as error:
            # If the files made from a damaged checkpoint stayed, the next call would not report the cause.
            for name in (FACTS, MODULE, MODEL):
                (folder / DETECTOR / name).unlink(missing_ok=True)
            told = f"run: the detector of {folder} cannot be made from its checkpoints and data"
            raise DeepSADError(*(f"{told}: {one}" for one in error.problems)) from error
