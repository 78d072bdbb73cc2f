"""Open W&B runs: silently, independently of any other open run, offline unless online mode is requested."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.tracking.wandb_folders import ensure_folders

log = logging.getLogger(__name__)

# W&B's own limits.
_NOT_IN_PROJECTS, _LONGEST_PROJECT, _LONGEST_TAG = "/\\#?%:", 128, 64
_LONGEST_SAID = 300
# What W&B raises if no user is logged in, or the user may not write to the project.
_REFUSALS = ("UsageError", "AuthenticationError")


@dataclass(frozen=True)
class Destination:
    """Where runs are logged, and how they are labeled there.

    Attributes:
        mode: ``offline`` or ``online``.
        project: project of the runs.
        entity: owner of the project; None for the account's default.
        group: group of the runs.
        tags: tags of the runs.
    """

    mode: str
    project: str
    entity: str | None
    group: str
    tags: tuple[str, ...]

    @property
    def online(self) -> bool:
        """Whether the run is sent to W&B while it is running."""
        return self.mode == "online"


class NotStartedError(DeepSADError):
    """W&B cannot start a run because of its environment; the experiment can do without it."""


def destination_problems(project: str, tags: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each setting of a run that W&B would refuse.

    Args:
        project: project of the run.
        tags: tags of the run.
    """
    if wrong := [char for char in _NOT_IN_PROJECTS if char in project]:
        yield (
            f"logger.project is {project!r}, but W&B allows no {' '.join(wrong)} in it; leave it out (logger.entity is "
            "the owner)"
        )
    elif not 1 <= len(project) <= _LONGEST_PROJECT:
        yield f"logger.project has {len(project)} characters; W&B allows 1 to {_LONGEST_PROJECT}"
    for tag in tags:
        if not 1 <= len(tag) <= _LONGEST_TAG:
            yield f"logger.tags has {tag!r}, of {len(tag)} characters; W&B allows 1 to {_LONGEST_TAG}"


def destination_of(logger: Mapping[str, Any], *, group: str) -> Destination:
    """Return the destination given by the settings of ``logger=wandb``.

    Args:
        logger: settings of W&B.
        group: group to use if the settings name none.
    """
    return Destination(
        mode=logger["mode"],
        project=logger["project"],
        entity=logger["entity"],
        group=logger["group"] or group,
        tags=tuple(logger["tags"]),
    )


def trial_id() -> str | None:
    """The id of the run that the agent of a W&B sweep created for this process; None without an agent."""
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
    """Open a run. The trial of a W&B agent always goes to the project of its sweep, whatever the destination says.

    Args:
        folder: W&B's files go into ``wandb`` in it.
        destination: where the run is logged.
        name: name of the run.
        job_type: job type of the run.
        config: configuration with flat keys.
        run_id: ID of the run, which is continued if it exists; None for a new run.

    Returns:
        The ``wandb.Run``, a context manager that closes the run.

    Raises:
        DeepSADError: if the mode is online and no user is logged in.
        NotStartedError: if W&B cannot start for any other reason.
    """
    trial = trial_id() is not None
    if trial and not destination.online:
        log.warning(
            "this is a trial of a W&B sweep, but logger.mode is %s, so the sweep sees its result only after make "
            "wandb-sync; use logger.mode=online",
            destination.mode,
        )
    try:
        # It may be the import that fails, such as where no thread can be started.
        import wandb

        ensure_folders(folder / "wandb")
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
            # Also offline: the upload of the second part then continues where the first one ended.
            resume="allow" if run_id is not None else None,
            mode="online" if destination.online else "offline",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
    except Exception as error:  # of pydantic, of the system, or of W&B
        if destination.online and type(error).__name__ in _REFUSALS:
            raise DeepSADError(
                f"logger.mode is online, but W&B cannot start a run ({_said(error)}); run `wandb login`, or use "
                "logger.mode=offline"
            ) from error
        raise NotStartedError(
            f"W&B cannot start a run ({_said(error)}); check its environment variables (env | grep WANDB), or do "
            "without it by logger=csv"
        ) from error
    if destination.online:
        log.info("W&B run: %s", run.url)
    return run


def _said(error: Exception) -> str:
    """What W&B says in one line; pydantic has a line for the setting, one for what is wrong, and a link."""
    lines = [line.strip() for line in str(error).splitlines() if not line.strip().startswith("For further information")]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= _LONGEST_SAID else f"{text[:_LONGEST_SAID]} ..."
