"""Run the experiment of a configuration composed by Hydra, and build the command that repeats it."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.messages import CommandLineError, set_up_logging
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.ranks import is_main_process
from deepsad_pl.common.signals import signals_exit
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.compose.strict import is_searchpath
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.settings import about
from deepsad_pl.training.fast_import import import_lightning

if TYPE_CHECKING:
    from deepsad_pl.experiment.finished import Outcome

# Must be set before torch starts its threads. By default they spin for 300,000 rounds between two operators, which
# makes these small networks 20 to 70 times slower while another process is busy. On an idle machine the lower count
# costs next to nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def run_configured(cfg: DictConfig, *, single: bool) -> "Outcome":
    """Run the experiment of a configuration composed by Hydra.

    Args:
        cfg: the configuration, without Hydra's own settings.
        single: see :func:`~deepsad_pl.experiment.run.run_experiment`.

    Raises:
        CommandLineError: if the user can fix the problem.
    """
    job = HydraConfig.get()
    multirun = job.mode == RunMode.MULTIRUN
    if multirun:
        console.rule(Text(f"job {job.job.num}: {' '.join(job.overrides.task)}"), align="left")
    try:
        settings = to_settings(cfg)
        set_up_logging(is_main_process(cfg.trainer.devices * cfg.trainer.num_nodes))
        plan = make_plan(settings, multirun=multirun)
        from deepsad_pl.experiment.finished import answer, lacks_report

        with signals_exit(), in_sentences():
            if (finished := answer(plan, settings)) is not None and not lacks_report(plan, single=single):
                return finished
            import_lightning()
            from deepsad_pl.experiment.run import run_experiment

            return run_experiment(
                plan,
                config=settings,
                config_yaml=OmegaConf.to_yaml(cfg, resolve=True),
                command=repeat_command(job.overrides.task, job),
                single=single,
            )
    except DeepSADError as error:
        if multirun:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise CommandLineError(str(error)) from None
    except SystemExit as stop:
        # Lightning exits without a code at SIGTERM, which would look like success.
        raise SystemExit(stop.code or 128 + signal.SIGTERM) from None


def repeat_command(overrides: Sequence[str], hydra_conf: HydraConf) -> str:
    """The command that repeats a single job from the same directory.

    Args:
        overrides: overrides of the job.
        hydra_conf: Hydra's own configuration, for its search path.
    """
    script = Path(sys.argv[0])
    if script.name not in ("train.py", "sweep.py") and not script.name.startswith("deepsad-"):
        # In a job process that a launcher has started, sys.argv does not name our script.
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
