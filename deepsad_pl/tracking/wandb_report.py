"""Log the report of a study to W&B: tables, figures and files as one run, offline or online."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepsad_pl.tracking.wandb_run import Destination, open_run

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

JOB_TYPE = "report"


def report_key(name: str) -> str:
    """The key of a table or picture in the run."""
    return f"{JOB_TYPE}/{name}"


def log_report(
    folder: Path,
    destination: Destination,
    *,
    tables: Mapping[str, "pd.DataFrame"],
    files: Sequence[Path],
    config: Mapping[str, Any],
) -> bool:
    """Open a W&B run of the job type ``report``, log everything and close it.

    If this fails, it logs a warning; the local report is not affected.

    Args:
        folder: folder of the report; W&B's files go into ``wandb`` in it.
        destination: where the run is logged, with the group of the study's experiments.
        tables: tables to log, each under :func:`report_key` of its name.
        files: files to log: each ``.png`` as an image under :func:`report_key` of its stem, the others as copies of
            their current content.
        config: configuration with flat keys.

    Returns:
        Whether everything was logged.
    """
    try:
        name = "/".join(folder.parts[-2:])
        # Leaving the context closes the run, with the status "failed" after an exception.
        with open_run(folder, destination, name=name, job_type=JOB_TYPE, config=config) as run:
            _fill(run, tables, files)
    except Exception as error:
        log.debug("the report was not logged", exc_info=True)
        log.warning("W&B has no run of this report (%s: %s); its files are in %s", type(error).__name__, error, folder)
        return False
    return True


def _fill(run: Any, tables: Mapping[str, "pd.DataFrame"], files: Sequence[Path]) -> None:
    import wandb

    shown: dict[str, Any] = {report_key(name): _table(frame) for name, frame in tables.items()}
    pictures = [path for path in files if path.suffix == ".png"]
    shown |= {report_key(path.stem): wandb.Image(str(path)) for path in pictures}
    run.log(shown)
    for path in files:
        if path not in pictures:
            # A link would show what a later report writes into the file.
            copy = shutil.copy(path, run.dir)
            run.save(str(copy), base_path=run.dir, policy="now")


def _table(frame: "pd.DataFrame") -> Any:
    import wandb

    # W&B treats NaN as a number, even in a column of text.
    values = frame.astype(object).where(frame.notna(), None)
    mixed = any(len({type(value) for value in values[name] if value is not None}) > 1 for name in values)
    rows: list[Iterable[Any]] = [list(row) for row in values.itertuples(index=False)]
    return wandb.Table(columns=[str(name) for name in values], data=rows, allow_mixed_types=mixed)
