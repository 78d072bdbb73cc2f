"""The commands that are disturbed, all short, with the inputs that they need."""

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from own_tables import parts
from tiny_data import write_image_folder

from torture.trial import Bench, Ended, WrongError, require_done

_CPU = ("trainer=cpu", "trainer.threads=1", "trainer.checkpoint_seconds=0")
_SHORT = ("pretrain.epochs=[4]", "pretrain.lr=[1e-3]", "method.epochs=[4]", "method.lr=[1e-3]", *_CPU)
_LABELS = ("dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part")
TABLE = ("dataset=table", "dataset.path=parts.csv", *_LABELS, "dataset.truth=truth")
STACK = ("-m", "hydra/launcher=stacked", "hydra.launcher.n_jobs=1")
_STUDY = (
    *("study=labeled_anomalies", "dataset=digits", "method=deep_sad,ocsvm_raw", "study.axes.gamma_l=[0.0,0.05]"),
    *("study.normal_classes=[0]", "study.anomaly_classes=[1]", "hydra.launcher.n_jobs=1", "logger=none"),
)


@dataclass(frozen=True)
class Workload:
    """A command.

    Attributes:
        script: the script.
        words: its arguments; ``{run}`` stands for the run folder of ``after``.
        exact: whether a disturbed run has the same results to the bit; stacks have them only up to rounding.
        after: name of the workload whose results it needs.
        inputs: writes the files that it needs, if they are not those of ``after``.
    """

    script: str
    words: tuple[str, ...]
    exact: bool = True
    after: str | None = None
    inputs: Callable[[Path], None] = lambda _: None


def _table(folder: Path) -> None:
    parts(240).to_csv(folder / "parts.csv", index=False)


def _new_rows(folder: Path) -> None:
    parts(500, seed=1).drop(columns=["quality", "truth"]).to_csv(folder / "new.csv", index=False)


def _appended(folder: Path) -> None:
    _new_rows(folder)
    (folder / "daily.csv").write_text("id,score,p_value,anomaly\nbefore,1.5,0.25,false\n")


def _answers(folder: Path) -> None:
    truth = parts(240)
    asked = truth[truth["quality"] == ""].head(12)
    pd.DataFrame({"id": asked["part"], "quality": asked["truth"]}).to_csv(folder / "ask.csv", index=False)


def _photos(folder: Path) -> None:
    write_image_folder(folder / "photos")


_PHOTOS = (
    *("dataset=image_folder", "dataset.root=photos", "dataset.name=photos", "dataset.image_size=16", "data_dir=data"),
    *("scenario.normal_class=b-side", "scenario.anomaly_class=null"),
)

WORKLOADS = {
    "single": Workload("train.py", (*_SHORT, "logger=csv")),
    "table": Workload("train.py", (*TABLE, *_SHORT, "logger=none"), inputs=_table),
    "photos": Workload("train.py", (*_PHOTOS, *_SHORT, "logger=none"), inputs=_photos),
    "shallow": Workload(
        "train.py", ("method=ocsvm_hybrid", "pretrain.epochs=[4]", "pretrain.lr=[1e-3]", *_CPU, "logger=none")
    ),
    "stacked": Workload("train.py", (*STACK, "seed=0,1,2", *_SHORT, "logger=csv"), exact=False),
    "study": Workload("sweep.py", (*_STUDY, *_SHORT), exact=False),
    "score": Workload("score.py", ("run={run}", "input=new.csv", "output=out.csv"), after="table", inputs=_new_rows),
    "append": Workload(
        "score.py", ("run={run}", "input=new.csv", "output=daily.csv", "append=true"), after="table", inputs=_appended
    ),
    "query": Workload("score.py", ("run={run}", "input=train", "output=ask.csv", "query=10"), after="table"),
    "relabel": Workload(
        "train.py",
        (*TABLE, "dataset.labels=ask.csv", "warm_start={run}", *_SHORT, "logger=none"),
        after="table",
        inputs=_answers,
    ),
}
TRAININGS = ("single", "table", "photos", "shallow", "stacked", "study", "relabel")


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes:
        before: the folder before the command.
        after: the folder after the command.
        ended: the command.
        events: number of its file events.
    """

    before: Path
    after: Path
    ended: Ended
    events: int


class References:
    """The undisturbed runs, each made at its first use.

    Args:
        folder: where they are kept.
        bench: makes a bench in a folder.
    """

    def __init__(self, folder: Path, bench: Callable[[Path], Bench]) -> None:
        self._folder, self._bench = folder, bench
        self._made: dict[str, Reference] = {}
        self._locks = {name: threading.Lock() for name in WORKLOADS}

    def of(self, name: str) -> Reference:
        """The undisturbed run of a workload.

        Raises:
            WrongError: if it fails.
        """
        with self._locks[name]:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: str) -> Reference:
        workload, home = WORKLOADS[name], self._folder / name
        shutil.rmtree(home, ignore_errors=True)
        before, after = home / "before", home / "after"
        before.mkdir(parents=True)
        if workload.after is not None:
            shutil.copytree(self.of(workload.after).after, before, dirs_exist_ok=True)
        workload.inputs(before)
        shutil.copytree(before, after)
        count = home / "events"
        # The first command waits for the fork server's imports, which must not count as time of the workload.
        self._bench(after).run("train.py", "--version")
        ended = self._bench(after).run(
            workload.script,
            *self.words(name),
            env={"DEEPSAD_TEST_HOOK": "torture.hook", "TORTURE_COUNT": str(count)},
        )
        require_done(ended, f"the undisturbed run of {name}")
        return Reference(before, after, ended, len(count.read_text().splitlines()))

    def words(self, name: str) -> tuple[str, ...]:
        """The arguments of a workload's command."""
        workload = WORKLOADS[name]
        run = "" if workload.after is None else str(self.run_of(workload.after))
        return tuple(word.replace("{run}", run) for word in workload.words)

    def run_of(self, name: str) -> Path:
        """The run folder of a workload with a single run, relative to the working directory."""
        after = self.of(name).after
        return next(path.parent.relative_to(after) for path in sorted(after.rglob("metrics.json")))

    def put(self, name: str, folder: Path) -> None:
        """Copy what a workload needs into a folder."""
        shutil.copytree(self.of(name).before, folder, dirs_exist_ok=True)

    def put_finished(self, name: str, folder: Path) -> None:
        """Copy what an undisturbed run has left into a folder."""
        shutil.copytree(self.of(name).after, folder, dirs_exist_ok=True)


def require_results(name: str, references: References, got: Path, *, times: Sequence[int] = (1,)) -> None:
    """Require the results of an undisturbed run.

    Args:
        name: of the workload.
        references: the undisturbed runs.
        got: the working directory of the disturbed one.
        times: how often appended rows may be there: a command may have been killed after it had done its work.

    Raises:
        WrongError: if they differ.
    """
    from torture.oracles import require_same_tree

    reference = references.of(name)
    appends = name == "append"
    exact = WORKLOADS[name].exact
    require_same_tree(reference.after, got, exact=exact, but=lambda path: appends and path == "daily.csv")
    if appends:
        header, *before = (reference.before / "daily.csv").read_text().splitlines()
        _, *after = (reference.after / "daily.csv").read_text().splitlines()
        new = after[len(before) :]
        if (got / "daily.csv").read_text().splitlines() not in [[header, *before, *new * many] for many in times]:
            raise WrongError("daily.csv lacks rows, or has some of them twice")
