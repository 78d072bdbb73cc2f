"""The command ``report.py``: write the page of a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from deepsad_pl.commands.loading import load, planned, require_run
from deepsad_pl.commands.plain_words import parse_words, run_command
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import read_json
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.common.records import RECORD, SCORES, read_record, scores_problem
from deepsad_pl.common.signals import signals_exit

HELP = """Write report.html, the page of a finished run, into its folder.

  python report.py run=<run folder>

run         folder of the run, which train.py prints at its end
data_dir    folder of the run's data, if they have moved (default: as in the run)

Nothing is trained, and no other file of the run changes. Without the data, the page shows no samples.
"""


@dataclass
class ReportWords:
    """The arguments of the command; see ``HELP``."""

    run: str = MISSING
    data_dir: str | None = None


@signals_exit()
def report() -> None:
    """Entry point of ``python report.py`` and ``deepsad-report``."""
    run_command(HELP, lambda words, _: report_run(parsed(words)))


def parsed(words: Sequence[str]) -> ReportWords:
    """Parse the arguments of the command.

    Raises:
        DeepSADError: with every problem found.
    """
    found = parse_words(words, ReportWords, command="report.py", verbatim=("run", "data_dir"), required=("run",))
    require_run(Path(found.run).expanduser())
    return found


def report_run(words: ReportWords) -> str:
    """Write the page of a run as specified, and return a summary.

    Raises:
        DeepSADError: if its record or its scores are missing or damaged, or the page cannot be written.
    """
    folder = Path(words.run).expanduser()
    again = "repeat the command of the run"
    try:
        record = read_record(folder, read_json(folder / RECORD)["hash"])
    except (OSError, ValueError, TypeError, KeyError):
        record = None
    if record is None:
        raise DeepSADError(f"run: {folder} has no valid {RECORD}, from which the page is made; {again}")
    if (problem := scores_problem(folder, record)) is not None:
        raise DeepSADError(f"run: {folder / SCORES} {problem}; {again}, which writes it again without training")
    from deepsad_pl.training.fast_import import import_lightning

    import_lightning()
    from deepsad_pl.experiment.build import build, load_data
    from deepsad_pl.experiment.run_report import Trained, write_report

    trained, without = None, ""
    try:
        plan = planned(folder, words.data_dir)
        trained = Trained(plan, build(plan, load_data(plan)), load(folder, data_dir=words.data_dir))
    except DeepSADError as error:
        without = error.problems[0]
    with in_sentences():
        path = write_report(folder, record, trained, without=without)
    told = f"{path} ({path.stat().st_size / 1000:.0f} kB)"
    return told if trained is not None else f"{told}, without samples: {without}"
