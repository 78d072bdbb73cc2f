"""The command-line entry points: Hydra composes the configuration, other modules do the work.

Heavy libraries are imported only when an experiment starts, so that ``--help`` and errors appear quickly.
"""

import sys
from typing import Any

import hydra
import hydra._internal.hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from deepsad_pl import __version__
from deepsad_pl.common.console import prepare_output
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import as_utf8
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.records import auroc_of
from deepsad_pl.common.signals import signals_exit
from deepsad_pl.compose.configured import run_configured
from deepsad_pl.compose.flags import flags_first
from deepsad_pl.compose.override_text import home_expanded
from deepsad_pl.compose.store import register
from deepsad_pl.compose.strict import StrictLoader
from deepsad_pl.data.class_names import quote_names
from deepsad_pl.settings import about
from deepsad_pl.study.command_line import held_back, hold_back

CONF = str(about.CONF)

register()


def run_job(cfg: DictConfig) -> float:
    """Run one experiment and return its AUROC, which Hydra's sweepers can optimize."""
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    with signals_exit():
        outcome = run_configured(cfg, single=not multirun)
        if is_main_process(cfg.trainer.devices * cfg.trainer.num_nodes):
            from deepsad_pl.experiment.show_outcome import show_outcome

            show_outcome(outcome, compact=multirun)
        return auroc_of(outcome.record)


def _run_hydra(config_name: str) -> None:
    internal: Any = hydra._internal.hydra
    before, internal.ConfigLoaderImpl = internal.ConfigLoaderImpl, StrictLoader
    try:
        hydra.main(version_base="1.3", config_path=CONF, config_name=config_name)(run_job)()
    finally:
        internal.ConfigLoaderImpl = before


def _hasten_help() -> None:
    """Keep Hydra from copying its config store at each group lookup, which takes half of the time of ``--help``."""
    if not {"-h", "--help", "--hydra-help"}.isdisjoint(sys.argv[1:]):
        ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


def _hydras_words(script: str) -> list[str]:
    """The words of the command line as Hydra has to read them.

    Args:
        script: name of the command, for messages.

    Raises:
        SystemExit: after a sentence, if a word is not UTF-8, as configurations and records are, or no flag or setting.
    """
    words = sys.argv[1:]
    for word in words:
        if (shown := as_utf8(word)) != word:
            print(f"{shown} is not UTF-8; type it in a terminal whose encoding is UTF-8", file=sys.stderr)
            raise SystemExit(1)
    try:
        words = flags_first(words, script)
    except DeepSADError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    return [quote_names(home_expanded(word)) for word in words]


def _says_version() -> bool:
    """Print our version and Hydra's if ``--version`` was given; return whether it was."""
    if "--version" not in sys.argv[1:]:
        return False
    print(f"deepsad_pl {__version__}, Hydra {hydra.__version__}")
    return True


def train() -> None:
    """The command ``train.py``."""
    prepare_output(only_shows=any(word.split("=")[0] in _INFORMING for word in sys.argv[1:]))
    if _says_version():
        return
    _hasten_help()
    sys.argv[1:] = _hydras_words("train.py")
    _run_hydra("train")


# Hydra's flags that show something instead of starting a multirun.
_INFORMING = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
_FLAGS = (*_INFORMING, "-r", "--run", "-m", "--multirun")


def sweep() -> None:
    """The command ``sweep.py``."""
    prepare_output(only_shows=any(word.split("=")[0] in _INFORMING for word in sys.argv[1:]))
    if _says_version():
        return
    _hasten_help()
    words = _hydras_words("sweep.py")
    try:
        sys.argv[1:], held_back[:] = hold_back(words)
    except DeepSADError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    if not any(word.split("=")[0] in _FLAGS for word in sys.argv[1:]):
        # The configuration sets this too, but if it has an error, Hydra would complain about comma lists instead.
        sys.argv.insert(1, "--multirun")
    _run_hydra("sweep")
