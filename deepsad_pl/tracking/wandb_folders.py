"""W&B's own folders, which lie in the home by default; substitutes for a user who has no home that can be written."""

import os
from pathlib import Path

from deepsad_pl.common.errors import DeepSADError


def ensure_folders(substitute: Path) -> None:
    """Create W&B's cache and data folders; where the home cannot hold them, choose others for this process.

    Without a cache folder, W&B's background process prints its log to the terminal. Without a data folder, tables
    cannot be logged.

    Args:
        substitute: parent of the folders that replace those of the home; must be writable.

    Raises:
        DeepSADError: if an environment variable names a folder that cannot be written.
        RuntimeError: if the system knows no home of this user, without which W&B cannot do.
    """
    from wandb import env

    home = os.environ.get("HOME")
    # The background process of W&B asks $HOME only.
    at_home = bool(home) and Path(str(home)).is_dir()
    for variable, default, name in (
        (env.CACHE_DIR, env.get_cache_dir(), "cache"),
        (env.DATA_DIR, env.get_data_dir(), "data"),
    ):
        if named := os.environ.get(variable):
            if not _made(Path(named)):
                raise DeepSADError(f"{variable} is {named}, where nothing can be written")
        elif not (at_home and _made(Path(default))):
            os.environ[variable] = str(substitute / name)


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
