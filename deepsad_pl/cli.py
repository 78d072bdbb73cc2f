"""The command line: Hydra composes the configuration, the rest happens elsewhere.

Heavy libraries are imported when an experiment starts, so that ``--help`` and errors come at once.
"""

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from deepsad_pl.config import register
from deepsad_pl.console import console
from deepsad_pl.errors import DeepSADError
from deepsad_pl.plan import Plan, make_plan
from deepsad_pl.ranks import is_main_process

_PACKAGE = Path(__file__).resolve().parent
# In a checkout conf/ stands beside the package, in an installed one inside it.
_CHECKOUT_CONF = _PACKAGE.parent / "conf"
CONF = str(_CHECKOUT_CONF if (_CHECKOUT_CONF / "train.yaml").exists() else _PACKAGE / "conf")

register()


class CommandLineError(CompactHydraException):
    """An error that Hydra prints without a traceback."""


def to_settings(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain dictionaries, every interpolation resolved.

    Raises:
        DeepSADError: if a mandatory value is missing.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise DeepSADError(*(f"{key} is not set; give it on the command line: {key}=..." for key in missing))
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def plan_job(cfg: DictConfig, *, multirun: bool) -> Plan:
    """Check a composed configuration.

    Raises:
        DeepSADError: with every problem found.
    """
    return make_plan(to_settings(cfg), multirun=multirun)


def run_job(cfg: DictConfig) -> float:
    """Run one experiment and return its AUROC, which Hydra's sweepers can optimize."""
    set_up_logging()
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    if multirun:
        job = HydraConfig.get()
        console.rule(Text(f"job {job.job.num}: {' '.join(job.overrides.task)}"), align="left")
    try:
        plan = plan_job(cfg, multirun=multirun)
        from deepsad_pl.experiment import run_experiment

        config_yaml = OmegaConf.to_yaml(cfg, resolve=True)
        settings = to_settings(cfg)
        outcome = run_experiment(
            plan, config=settings, config_yaml=config_yaml, command=repeat_command(), plots=not multirun
        )
    except DeepSADError as error:
        raise CommandLineError(str(error)) from None
    if is_main_process():
        from deepsad_pl.tables import show_outcome

        show_outcome(outcome, compact=multirun)
    return float(outcome.record["auroc"])


def repeat_command() -> str:
    """The command that repeats the current job on its own."""
    program = "deepsad-train" if Path(sys.argv[0]).name.startswith("deepsad-") else "python train.py"
    overrides = list(HydraConfig.get().overrides.task)
    return " ".join([program, *map(shlex.quote, overrides)])


class ConsoleHandler(logging.Handler):
    """Our messages to the console, warnings in yellow; tracebacks are for the run's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message as it is."""
        if record.exc_info is None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(self.format(record), style=style, soft_wrap=True, markup=False)


def set_up_logging() -> None:
    """Our messages to the console, with more detail to the run's log file."""
    logger = logging.getLogger("deepsad_pl")
    logging.getLogger().setLevel(logging.INFO)
    logger.setLevel(logging.DEBUG)
    if is_main_process() and not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler(logging.INFO))


def train() -> None:
    """``python train.py`` and ``deepsad-train``."""
    hydra.main(version_base="1.3", config_path=CONF, config_name="train")(run_job)()


def sweep() -> None:
    """``python sweep.py`` and ``deepsad-sweep``."""
    hydra.main(version_base="1.3", config_path=CONF, config_name="sweep")(run_job)()
