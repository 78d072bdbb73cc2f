"""The command line: Hydra composes the configuration, the rest happens elsewhere.

Heavy libraries are imported when an experiment starts, so that ``--help`` and errors come at once.
"""

import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import hydra._internal.hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from deepsad_pl import about
from deepsad_pl.config import register
from deepsad_pl.console import console
from deepsad_pl.data.class_names import quote_names
from deepsad_pl.declared import to_settings
from deepsad_pl.errors import DeepSADError
from deepsad_pl.lean import import_lightning
from deepsad_pl.plan import make_plan
from deepsad_pl.ranks import is_main_process
from deepsad_pl.signals import sigterm_exits
from deepsad_pl.strict import StrictLoader, is_searchpath

if TYPE_CHECKING:
    from deepsad_pl.finished import Outcome

CONF = str(about.CONF)

# Before torch starts its threads: between two operators they spin for 300,000 rounds by default, which beside any other
# busy process makes these small networks 20 to 70 times slower. Alone on the machine this costs next to nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

register()


class CommandLineError(CompactHydraException):
    """An error that Hydra prints without a traceback."""


def first_line(error: object) -> str:
    """What a person reads first: the first line, with the second one if that only announces a list."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, Exception) and not isinstance(error, CommandLineError | DeepSADError) and str(error).strip():
        lines[0] = f"{type(error).__name__}: {lines[0]}"
    return f"{lines[0]} {lines[1].strip()}" if len(lines) > 1 and lines[0].endswith("problems:") else lines[0]


def run_job(cfg: DictConfig) -> float:
    """Run one experiment and return its AUROC, which Hydra's sweepers can optimize."""
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    outcome = run_configured(cfg, plots=not multirun)
    if is_main_process(cfg.trainer.devices * cfg.trainer.num_nodes):
        from deepsad_pl.tables import show_outcome

        show_outcome(outcome, compact=multirun)
    return float(outcome.record["auroc"])


def run_configured(cfg: DictConfig, *, plots: bool) -> "Outcome":
    """Run the experiment of a configuration that Hydra composed.

    Args:
        cfg: the configuration, without Hydra's own.
        plots: whether the tracker draws where its settings do not say.

    Raises:
        CommandLineError: if the user can mend what is wrong.
    """
    job = HydraConfig.get()
    multirun = job.mode == RunMode.MULTIRUN
    if multirun:
        console.rule(Text(f"job {job.job.num}: {' '.join(job.overrides.task)}"), align="left")
    try:
        settings = to_settings(cfg)
        set_up_logging(is_main_process(cfg.trainer.devices * cfg.trainer.num_nodes))
        plan = make_plan(settings, multirun=multirun)
        from deepsad_pl.finished import answer

        with sigterm_exits():
            if (finished := answer(plan, settings)) is not None:
                return finished
            import_lightning()
            from deepsad_pl.experiment import run_experiment

            return run_experiment(
                plan,
                config=settings,
                config_yaml=OmegaConf.to_yaml(cfg, resolve=True),
                command=repeat_command(job.overrides.task, job),
                plots=plots,
            )
    except DeepSADError as error:
        if multirun:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise CommandLineError(str(error)) from None
    except SystemExit as stop:
        # Lightning leaves with no code at SIGTERM, which would look like success.
        raise SystemExit(stop.code or 128 + signal.SIGTERM) from None


def repeat_command(overrides: Sequence[str], hydra_conf: HydraConf) -> str:
    """The command that repeats a job on its own, from the same directory.

    Args:
        overrides: of the job.
        hydra_conf: Hydra's own configuration, for its search path.
    """
    script = Path(sys.argv[0])
    if script.name not in ("train.py", "sweep.py") and not script.name.startswith("deepsad-"):
        # The job of a launcher that starts processes of its own.
        script = about.CONF.with_name("train.py")
        if not script.exists():
            script = Path("deepsad-train")
        elif script.is_relative_to(Path.cwd()):
            script = script.relative_to(Path.cwd())
    if script.name.startswith("deepsad-"):
        program = [str(script.with_name("deepsad-train"))]
    else:
        python = Path(sys.executable)
        inside = python.is_relative_to(Path.cwd())
        program = [str(python.relative_to(Path.cwd())) if inside else "python", str(script.with_name("train.py"))]
    extra = [source.path for source in hydra_conf.runtime.config_sources if source.provider == "command-line"]
    options = [word for path in extra for word in ("--config-dir", path)]
    return shlex.join([*program, *options, *filter(is_searchpath, hydra_conf.overrides.hydra), *overrides])


class ConsoleHandler(logging.Handler):
    """Our messages to the console, warnings in yellow; tracebacks are for the run's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message as it is."""
        if record.exc_info is None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(self.format(record), style=style, soft_wrap=True, markup=False)


def set_up_logging(main: bool) -> None:
    """Our messages to the console of the main process, with more detail to the run's log file."""
    logger = logging.getLogger("deepsad_pl")
    logging.getLogger().setLevel(logging.INFO)
    logger.setLevel(logging.DEBUG)
    if main and not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler(logging.INFO))


def _run_hydra(config_name: str) -> None:
    internal: Any = hydra._internal.hydra
    before, internal.ConfigLoaderImpl = internal.ConfigLoaderImpl, StrictLoader
    try:
        hydra.main(version_base="1.3", config_path=CONF, config_name=config_name)(run_job)()
    finally:
        internal.ConfigLoaderImpl = before


def _hasten_help() -> None:
    """Keep Hydra from copying its one store with every look at a group: a hundred times, half of the time of a help."""
    if not {"-h", "--help", "--hydra-help"}.isdisjoint(sys.argv[1:]):
        ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


def train() -> None:
    """``python train.py`` and ``deepsad-train``."""
    _hasten_help()
    sys.argv[1:] = map(quote_names, sys.argv[1:])
    _run_hydra("train")


# Those of Hydra that say what to do in place of, or how to do, a multirun.
_INFORMING = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
_FLAGS = (*_INFORMING, "-r", "--run", "-m", "--multirun")

# Words of a study that Hydra has not seen: it would try them on the one method and data set of its own configuration.
held_back: list[str] = []


# All that action=forget needs of Hydra: what else it names may be gone.
_OF_FORGET = ("study", "action", "dry_run", "output_dir", "hydra")


def hold_back(words: list[str]) -> tuple[list[str], list[str]]:
    """A command line without the settings that only some of a study's methods or data sets have, and these."""
    if "action=forget" in words:
        settings = [w for w in words if "=" in w and not w.startswith("-")]
        held = [w for w in settings if re.split("[.=/]", w.lstrip("+~"))[0] not in _OF_FORGET]
    else:
        held = [w for w in words if w.lstrip("+~").startswith(("method.", "pretrain.", "dataset."))]
    if not any(word.startswith("study=") for word in words):
        return words, []
    return [word for word in words if word not in held], held


def sweep() -> None:
    """``python sweep.py`` and ``deepsad-sweep``."""
    _hasten_help()
    sys.argv[1:], held_back[:] = hold_back(list(map(quote_names, sys.argv[1:])))
    if not any(word.split("=")[0] in _FLAGS for word in sys.argv[1:]):
        # The configuration says so as well, but where it has an error Hydra would complain about comma lists instead.
        sys.argv.insert(1, "--multirun")
    _run_hydra("sweep")
