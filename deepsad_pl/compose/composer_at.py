"""Make a composer without a command line, such as for the Python API."""

from os import PathLike
from pathlib import Path

from hydra._internal.utils import create_config_search_path

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import real_path
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.store import register
from deepsad_pl.compose.strict import StrictLoader
from deepsad_pl.settings.about import CONF


def composer_at(config_dir: str | PathLike[str] | None = None) -> Composer:
    """Make a composer of the package's configuration.

    Args:
        config_dir: a folder with further configurations, like ``--config-dir`` of the commands.

    Raises:
        DeepSADError: if there is no such folder.
    """
    register()
    path = create_config_search_path(str(CONF))
    if config_dir is not None:
        if not (folder := real_path(Path(config_dir).expanduser())).is_dir():
            told = f"config_dir is {config_dir}, which is not a folder; pass the folder that holds method/ or dataset/"
            raise DeepSADError(told)
        schema = path.get_path().pop()
        path.append("command-line", f"file://{folder}")
        path.append(schema.provider, schema.path)
    return Composer(StrictLoader(path))
