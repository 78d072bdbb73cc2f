"""Report the outcomes of a sweep's jobs to Hydra and the console, without torch if all were finished before."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from rich.text import Text

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import BusyError
from deepsad_pl.common.messages import CommandLineError
from deepsad_pl.common.records import auroc_of
from deepsad_pl.compose.composer import Composer
from deepsad_pl.experiment.finished import Outcome, answer, lacks_report
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.show_outcome import show_outcome


def finished_before(composer: Composer, jobs: Sequence[Sequence[str]]) -> list[Outcome] | None:
    """The outcome of each job if all of them were finished before, with the pages asked for, else None.

    Args:
        composer: composes the jobs' settings.
        jobs: the overrides of each.
    """
    outcomes: list[Outcome] = []
    for overrides in jobs:
        try:
            settings = composer.settings(overrides)
            plan = make_plan(settings, multirun=True)
            outcome = answer(plan, settings, wait=False)
        except (DeepSADError, BusyError):
            return None
        if outcome is None or lacks_report(plan):
            return None
        outcomes.append(outcome)
    return outcomes


def job_return(overrides: Sequence[str], result: Outcome | Exception) -> JobReturn:
    """The return value that Hydra expects from a job: the experiment's AUROC, or the exception it failed with."""
    if isinstance(result, DeepSADError):
        result = CommandLineError(str(result))
    return JobReturn(
        overrides=list(overrides),
        status=JobStatus.FAILED if isinstance(result, Exception) else JobStatus.COMPLETED,
        _return_value=result if isinstance(result, Exception) else auroc_of(result.record),
    )


def show_job(index: int, overrides: Sequence[str], result: Outcome | Exception) -> None:
    """Print the outcome of a job.

    Args:
        index: number of the job.
        overrides: overrides of the job.
        result: outcome of the job, or the exception it failed with.
    """
    console.rule(Text(f"job {index}: {' '.join(overrides)}"), align="left")
    if isinstance(result, Exception):
        console.print(str(result), style="red", markup=False, soft_wrap=True)
    else:
        show_outcome(result, compact=True)
