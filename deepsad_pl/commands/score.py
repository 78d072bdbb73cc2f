"""The command ``score.py``: score new data with the detector of a finished run.

Heavy libraries are imported only if the arguments are correct, so that ``--help`` and errors appear quickly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deepsad_pl.commands.loading import load, planned, require_run
from deepsad_pl.commands.plain_words import parse_words, run_command
from deepsad_pl.common.console import progress_columns
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import real_path
from deepsad_pl.common.ranges import AtLeast1, Share
from deepsad_pl.common.ranges import problems as value_problems
from deepsad_pl.common.signals import signals_exit

if TYPE_CHECKING:
    from deepsad_pl.detector.detector import Detector
    from deepsad_pl.detector.reasons import Explain

TRAIN = "train"
# The choices of query.by, the default first.
QUERIES = ("anomalous", "uncertain", "diverse")
# How many samples that cannot be scored are named on standard error; the output has all of them.
_MOST_TOLD = 20

HELP = """Score new data with the detector of a finished run.

  python score.py run=<run folder> input=new.csv output=scores.csv
  python score.py run=<run folder> input=photos output=scores.parquet threshold.alpha=0.01
  cat new.csv | python score.py run=<run folder> input=- output=daily.csv append=true
  python score.py run=<run folder> input=train output=train.csv
  python score.py run=<run folder> input=train output=ask.csv query=20 query.by=uncertain

run         folder of the run, which train.py prints at its end
input       a table (.csv, .tsv, also .gz; .parquet; X of .npz or .mat), an image, a folder of images, a glob, a list
            of these, - for CSV on standard input, or train for the training samples
output      .csv, .jsonl or .parquet with the columns id (or path), score, p_value, anomaly; higher is more anomalous
append      true: append to an existing .csv or .jsonl file (default false: replace it, if it is a file of scores)
id          column with the name of each row; none: number the rows from 0 (default: the run's dataset.id, which the
            input must then have; in a run without dataset.id: the column id if there is one, else number the rows)
drop        columns to leave out, such as drop=[label]
query       number of samples to ask labels for: write the unlabeled training samples to label next, with an empty
            column to fill in; then train with dataset.labels=<output> (needs input=train and a .csv output)
query.by    anomalous (default), uncertain (near the threshold), diverse (spread over the most anomalous ones)
explain     true: add the columns that raise each row's score most, or a heat map of each image (default false)
heat_maps   folder of the heat maps of explain=true (default: scores-heat_maps for output=scores.csv)
batch_size  number of samples scored at once (default: as in the run)
device      auto (default), cpu, cuda
data_dir    folder of the run's data, for input=train and runs of earlier releases (default: as in the run)
threshold.alpha
            false-alarm rate that sets the threshold (default: the run's)
"""


@dataclass
class ThresholdWords:
    """The settings of a threshold that can be changed after training."""

    alpha: float | None = None


@dataclass
class ScoreWords:
    """The arguments of the command; see ``HELP``."""

    run: str = MISSING
    input: list[str] = MISSING
    output: str = MISSING
    append: bool = False
    id: str | None = None
    drop: list[str] = field(default_factory=list)
    batch_size: int | None = None
    query: int | None = None
    query_by: str | None = field(default=None, metadata={"key": "query.by"})
    explain: bool = False
    heat_maps: str | None = None
    device: str = "auto"
    data_dir: str | None = None
    threshold: ThresholdWords = field(default_factory=ThresholdWords)


@signals_exit()
def score() -> None:
    """Entry point of ``python score.py`` and ``deepsad-score``."""
    run_command(HELP, lambda words, stderr: score_new(parsed(words), stderr))


def parsed(words: Sequence[str]) -> ScoreWords:
    """Parse the arguments of the command.

    Raises:
        DeepSADError: with every problem found.
    """
    found = parse_words(
        words,
        ScoreWords,
        command="score.py",
        verbatim=("run", "output", "id", "heat_maps", "device", "data_dir"),
        required=("run", "input", "output"),
    )
    problems: list[str] = []
    problems += value_problems("batch_size", found.batch_size, AtLeast1 | None)
    problems += value_problems("threshold.alpha", found.threshold.alpha, Share | None)
    if found.heat_maps is not None and not found.explain:
        problems.append("heat_maps is set, but there are none without explain=true; add it")
    if not found.input:
        problems.append("input is an empty list; name what is to be scored")
    if found.input == [TRAIN]:
        problems += [
            f"{key} is set, but the training samples have the columns and names of the run's data; leave it out"
            for key in ("id", "drop")
            if getattr(found, key)
        ]
    problems += _query_problems(found)
    if problems:
        raise DeepSADError(*problems)
    return found


def _query_problems(words: ScoreWords) -> Iterator[str]:
    if words.query is None:
        if words.query_by is not None:
            yield "query.by is set, but without query=... no labels are asked for; add it, such as query=20"
        return
    yield from value_problems("query", words.query, AtLeast1)
    if words.query_by not in (None, *QUERIES):
        yield f"query.by is {words.query_by!r}; choose {', '.join(QUERIES)}"
    if words.input != [TRAIN]:
        yield "query asks for labels of training samples; give input=train"
    if Path(words.output).suffix.lower() != ".csv":
        yield f"output is {words.output}, but query writes CSV for a person to fill in; give a file that ends in .csv"
    for key in ("append", "explain"):
        if getattr(words, key):
            yield f"{key} is true, but query writes a file of its own; leave {key} out"


def score_new(words: ScoreWords, stderr: Console) -> str:
    """Score new data as specified, and return a summary.

    Args:
        words: the arguments of the command.
        stderr: console for the progress and the samples that cannot be scored.

    Raises:
        DeepSADError: with every problem found before any row is scored; later, if the input cannot be read to its end.
    """
    from deepsad_pl.detector.write_output import Output, output_problems

    run, problems = Path(words.run).expanduser(), []
    problems += output_problems(Path(words.output), append=words.append, asks=words.query is not None)
    of_training = words.input == [TRAIN]
    for check in (lambda: require_run(run), lambda: [] if of_training else _files(words.input)):
        try:
            check()
        except DeepSADError as error:
            problems += error.problems
    if problems:
        raise DeepSADError(*problems)
    if words.query is not None:
        return _ask(run, words, stderr)

    from deepsad_pl.training.fast_import import import_lightning

    # This must come before everything that imports Lightning.
    import_lightning()
    from deepsad_pl.detector.inputs import unusual_sentences
    from deepsad_pl.detector.read_input import chunks_of, input_problems, is_table
    from deepsad_pl.detector.score_chunks import score_chunks

    detector = _detector(words)
    inputs = detector.facts.inputs
    if of_training:
        from deepsad_pl.commands.training_samples import training_samples

        samples = training_samples(run, words.data_dir)
        first, chunks, total = samples.called, samples.chunks(inputs), len(samples.index)
    else:
        files = _files(words.input)
        if problems := input_problems(files, inputs, id_column=words.id, drop=words.drop, needs_ids=True):
            raise DeepSADError(*problems)
        kinds = {is_table(file) for file in files}
        if len(kinds) > 1:
            raise DeepSADError("input: tables and images cannot be in one output; score them one after the other")
        first, total = "id" if kinds == {True} else "path", None
        chunks = chunks_of(files, inputs, id_column=words.id, drop=words.drop, needs_ids=True)

    explain, more = _explain(detector, words)
    told = 0

    def tell(sentence: str) -> None:
        nonlocal told
        told += 1
        if told <= _MOST_TOLD:
            stderr.print(sentence, style="yellow", markup=False, soft_wrap=True)

    with (
        Output(Path(words.output), first, more=more, append=words.append) as output,
        _progress(stderr) as bar,
    ):
        if output.undone is not None:
            told_once = (
                f"an earlier run was killed while it appended to {words.output}; the rows that it had written are "
                "removed, so score its input again"
            )
            bar.console.print(told_once, style="yellow", markup=False, soft_wrap=True)
        task = bar.add_task("", total=total)
        tally = score_chunks(
            detector, chunks, output, tell=tell, advance=lambda count: bar.advance(task, count), explain=explain
        )
        bar.update(task, total=tally.scored + tally.unscored)
        if tally.unscored and not tally.scored:
            # Raised before the output is closed, since closing it without an error would put it in its place.
            many = f"none of the {tally.unscored:,} samples of the input can be scored"
            told_once = many if tally.unscored > 1 else "the only sample of the input cannot be scored"
            raise DeepSADError(f"{told_once}, so nothing is written to {words.output}; correct the input")
    if told > _MOST_TOLD:
        stderr.print(f"and {told - _MOST_TOLD:,} more, which have an empty score in the output", style="yellow")
    for told_once in unusual_sentences(tally.unusual):
        stderr.print(told_once, style="yellow", markup=False, soft_wrap=True)
    parts = [f"{tally.scored:,} scored"]
    parts += [f"{tally.unscored:,} could not be scored"] if tally.unscored else []
    if tally.anomalies is not None:
        level = "" if detector.threshold.alpha is None else f" at alpha {detector.threshold.alpha:g}"
        parts.append(f"{tally.anomalies:,} {'anomaly' if tally.anomalies == 1 else 'anomalies'}{level}")
    return f"{', '.join(parts)}: {words.output}"


def _ask(run: Path, words: ScoreWords, stderr: Console) -> str:
    """Write the training samples to label next, and return a summary."""
    from deepsad_pl.commands.ask_labels import ask_labels, query_problems

    if problems := query_problems(planned(run, words.data_dir)):
        raise DeepSADError(*problems)
    from deepsad_pl.training.fast_import import import_lightning

    import_lightning()
    from deepsad_pl.commands.training_samples import training_samples

    detector, samples = _detector(words), training_samples(run, words.data_dir)
    assert words.query is not None
    by: Any = words.query_by or QUERIES[0]
    with _progress(stderr) as bar:
        task = bar.add_task("", total=len(samples.index))
        return ask_labels(
            detector,
            samples,
            Path(words.output),
            count=words.query,
            by=by,
            advance=lambda count: bar.advance(task, count),
        )


def _progress(stderr: Console) -> Progress:
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*progress_columns(stderr, *columns), console=stderr)


def _explain(detector: "Detector", words: ScoreWords) -> tuple["Explain | None", Sequence[str]]:
    """The function that explains scores, and the names of the output columns that it fills."""
    if not words.explain:
        return None, ()
    from deepsad_pl.detector.reasons import HEAT_MAP, REASONS, explain_images, explain_rows

    detector.require_references()
    inputs = detector.facts.inputs
    if inputs.are_rows:
        if words.heat_maps is not None:
            raise DeepSADError("heat_maps is set, but the run scores rows of a table, which get reasons; leave it out")
        return explain_rows(detector), REASONS
    if not (len(inputs.shape) == 3 and inputs.scale is not None and inputs.shape[0] in (1, 3)):
        raise DeepSADError(f"explain: there are no heat maps for {inputs.described()}; leave it out")
    output = Path(words.output).expanduser()
    folder = output.with_name(f"{output.stem}-heat_maps") if words.heat_maps is None else Path(words.heat_maps)
    folder = real_path(folder.expanduser())
    for word in words.input:
        # A glob with ** also finds what is below its first part.
        place = Path(word.partition("**")[0])
        if place.is_dir() and folder.is_relative_to(real_path(place)):
            raise DeepSADError(
                f"the heat maps would be in {folder}, below the input {place}, and be scored as images the next time; "
                "give heat_maps=<a folder elsewhere>"
            )
    return explain_images(detector, folder), (HEAT_MAP,)


def _files(words: Sequence[str]) -> list[str]:
    from deepsad_pl.detector.read_input import files_of

    return files_of(words)


def _detector(words: ScoreWords) -> "Detector":
    detector = load(words.run, data_dir=words.data_dir).with_alpha(words.threshold.alpha)
    import torch

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    detector.to(automatic if words.device == "auto" else words.device)
    detector.batch_size = words.batch_size or detector.batch_size
    return detector
