"""How a run of W&B is opened: silent, beside any other, offline unless it is to be online."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.common.errors import DeepSADError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Destination:
    """Where runs go and how they are found there.

    Attributes:
        mode: ``offline`` or ``online``.
        project: of the runs.
        entity: whose project it is; None for the account's default.
        group: of the runs.
        tags: of the runs.
    """

    mode: str
    project: str
    entity: str | None
    group: str
    tags: tuple[str, ...]

    @property
    def online(self) -> bool:
        """Whether W&B is spoken to."""
        return self.mode == "online"


def destination_of(logger: Mapping[str, Any], *, group: str) -> Destination:
    """The destination that the settings of ``logger=wandb`` name.

    Args:
        logger: the settings.
        group: where they name none.
    """
    return Destination(
        mode=logger["mode"],
        project=logger["project"],
        entity=logger["entity"],
        group=logger["group"] or group,
        tags=tuple(logger["tags"]),
    )


def trial_id() -> str | None:
    """The id of the W&B run that the agent of a W&B sweep has made for this process; None without an agent."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def open_run(
    folder: Path,
    destination: Destination,
    *,
    name: str,
    job_type: str,
    config: Mapping[str, Any],
    run_id: str | None = None,
) -> Any:
    """Open a run. That of an agent's trial goes to the project of its sweep, whatever the destination says.

    Args:
        folder: W&B's files go into ``wandb`` in it.
        destination: of the run.
        name: of the run.
        job_type: of the run.
        config: flat keys.
        run_id: of a run that goes on if there is one of this id; None for a new run.

    Returns:
        The ``wandb.Run``; as a context it closes itself.

    Raises:
        DeepSADError: if W&B cannot be reached or refuses.
    """
    import wandb

    trial = trial_id() is not None
    if trial and not destination.online:
        log.warning(
            "this is the trial of a W&B sweep, but logger.mode is %s: the sweep learns of it at make wandb-sync; use "
            "logger.mode=online",
            destination.mode,
        )
    try:
        run = wandb.init(
            project=None if trial else destination.project,
            entity=None if trial else destination.entity,
            group=destination.group,
            job_type=job_type,
            name=name,
            tags=list(destination.tags),
            config=dict(config),
            dir=folder,
            id=run_id,
            # Offline too: the upload of a second part then goes on where the first one ended.
            resume="allow" if run_id is not None else None,
            mode="online" if destination.online else "offline",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
    except wandb.errors.Error as error:
        raise DeepSADError(
            f"logger.mode is {destination.mode}, but W&B cannot start a run ({error}); run `wandb login`, or use "
            "logger.mode=offline"
        ) from error
    if destination.online:
        log.info("W&B run: %s", run.url)
    return run
