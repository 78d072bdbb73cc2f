"""The user's own metrics: checked before any work, not part of an identity, computed from the scores of a run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_records import SCORE, Y, write_finished
from planned import METHODS, plan_of, problems_of, settings_of
from processes import ROOT
from stacks import SHORT, alone, records, together
from studies import planner, study_of

from deepsad_pl.common import records as results
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import BusyError
from deepsad_pl.common.records import TAKEN_NAMES
from deepsad_pl.experiment.finished import Outcome, answer, finished_outcome, locked_run, record_of
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.own_metrics import lacking, values_of
from deepsad_pl.stacked.grouping import stack_key
from deepsad_pl.study.grid import study_problems
from deepsad_pl.study.results import COLUMNS, results_frame
from deepsad_pl.study.state import state_of
from deepsad_pl.sweep.decisive import is_decisive
from deepsad_pl.sweep.failures import Failures

CLI = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = ROOT / "examples" / "metrics"

FUNCTIONS = """
import numpy as np
from calls import note

def lowest(y, score, *, factor=1.0):
    note("lowest")
    return factor * score.min()

def bounded(y, score, bound):
    note("bounded")
    return 1.0

def share(y, score):
    return y.mean()

def true(y, score):
    return bool((y >= 0).all())

def count(y, score):
    return len(y)

def single(y, score):
    return np.float32(0.5)

def types(y, score):
    return (y.dtype, score.dtype, y.shape, score.shape) == (np.int64, np.float64, (5,), (5,))

def sorting(y, score):
    score.sort()
    y[:] = 7
    return 0.0

def fails(y, score):
    raise KeyError("inside")

def text(y, score):
    return "high"

def nan(y, score):
    return float("nan")

def array(y, score):
    return score

def too_large(y, score):
    return 10**400

def nothing(y, score):
    pass

class Class:
    def __init__(self, y, score): ...

def one(y): ...

def needing(y, score, n): ...

def any_number(*arrays): ...
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Importable functions, and the calls that some of them have recorded."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_functions.py").write_text(FUNCTIONS)
    (folder / "calls.py").write_text("calls = []\nnote = calls.append\n")
    monkeypatch.syspath_prepend(folder)
    for name in ("own_functions", "calls"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import calls  # type: ignore[import-not-found]

    made: list[str] = calls.calls
    return made


def asked(name: str, function: str | None = None) -> str:
    return f"+metrics.{name}._target_=own_functions.{function or name}"


def record_in(plan: Plan) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((plan.run_dir / "metrics.json").read_text())
    return read


def answered(plan: Plan) -> dict[str, Any]:
    outcome = answer(plan, {})
    assert outcome is not None
    assert {**outcome.record, "sha256": record_in(plan)["sha256"]} == record_in(plan)
    return outcome.record


def test_values_of_any_number_type_become_floats(tmp_path: Path) -> None:
    names = ("lowest", "share", "true", "count", "single", "types")
    plan = plan_of(f"output_dir={tmp_path}", *map(asked, names))
    write_finished(plan)
    record = answered(plan)
    assert values_of(record) == {
        **{"lowest": min(SCORE), "share": sum(Y) / 5, "true": 1.0, "count": 5.0, "single": 0.5, "types": 1.0}
    }
    assert {type(record[name]) for name in names} == {float}


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("fails", r"own_functions.fails failed \(KeyError: 'inside'\); correct its arguments or its code"),
        ("too_large", r"own_functions.too_large failed \(OverflowError: "),
        ("text", r"own_functions.text returned 'high' \(str\); let it return one finite number"),
        ("nan", r"own_functions.nan returned nan \(float\)"),
        ("array", r"own_functions.array returned array\(.* \(ndarray\)"),
        ("nothing", r"own_functions.nothing returned None \(NoneType\)"),
        ("any_number", r"own_functions.any_number returned None"),
    ],
)
def test_a_metric_without_a_number_is_one_sentence(tmp_path: Path, function: str, told: str) -> None:
    plan = plan_of(f"output_dir={tmp_path}", asked("wrong", function), asked("lowest"))
    write_finished(plan)
    with pytest.raises(DeepSADError, match=f"^metrics.wrong: {told}") as caught:
        answer(plan, {})
    assert len(caught.value.problems) == 1
    assert values_of(record_in(plan)) == {"lowest": min(SCORE)}


def test_a_module_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    (tmp_path / "code" / "half.py").write_text("import no_such_module\ndef f(y, score): ...\n")
    plan = plan_of(f"output_dir={tmp_path}", "+metrics.half._target_=half.f")
    write_finished(plan)
    with pytest.raises(DeepSADError, match=r"metrics.half: half.f cannot be created \(.*no_such_module"):
        answer(plan, {})


def test_a_metric_that_changes_its_arguments_affects_no_other(tmp_path: Path) -> None:
    plan = plan_of(f"output_dir={tmp_path}", asked("a", "sorting"), asked("share"))
    write_finished(plan)
    assert answered(plan)["share"] == sum(Y) / 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["+metrics.p=3"], "metrics.p is 3; it must be a mapping with _target_, the function (y, score) -> float"),
        (["+metrics.p.n=3"], "metrics.p is {'n': 3}; it must be a mapping with _target_"),
        (["+metrics.p={_target_: own_functions.share, _args_: [1]}"], "metrics.p._args_ is [1], but y and score come"),
        ([asked("auroc", "share")], "metrics.auroc: auroc is the name of another field of the results"),
        ([asked("paper_n", "share")], "metrics.paper_n: paper_n is the name of another field"),
        (["+metrics={p@5: {_target_: own_functions.share}}"], "metrics.p@5: 'p@5' becomes a field of metrics.json"),
        (["+metrics.p._target_=nowhere.at_all"], "metrics.p._target_ is nowhere.at_all, whose module is not found"),
        ([asked("p", "gone")], "own_functions.py defines no gone"),
        ([asked("p", "Class")], "own_functions.py; use a function (y, score, ...)"),
        ([asked("p", "one")], "own_functions.py takes y; use a function (y, score, ...)"),
        ([asked("p", "needing")], "metrics.p lacks n, which own_functions.needing in"),
        (
            [asked("p", "needing"), "+metrics.p.n=1", "+metrics.p.y=1"],
            "it has n besides y and score, which are passed to it",
        ),
        ([asked("p", "share"), "+metrics.p.n=1"], "metrics.p.n is not an argument of own_functions.share"),
    ],
)
def test_errors_are_reported_before_any_work(words: list[str], told: str) -> None:
    (problem,) = problems_of(*words)
    assert told in problem


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems_of("+metrics.p=3", asked("seed", "share"), "seed=-1")) == 3


def test_unreadable_code_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "code" / "outside_metrics").mkdir()
    for name, text in {"mine": "from . import other\ndef f(y, score): ...\n", "other": "a = = 1\n"}.items():
        (tmp_path / "code" / "outside_metrics" / f"{name}.py").write_text(text)
    (problem,) = problems_of("+metrics.p._target_=outside_metrics.mine.f")
    assert "other.py, line 1, is not valid Python" in problem


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("metrics.p._target_=a.b",),
            "there is no setting metrics.p._target_ yet; write +metrics.p._target_=a.b to add",
        ),
        (
            ("metrics.p={_target_: a.b}",),
            "there is no setting metrics.p yet; write +metrics.p={_target_: a.b} to add it",
        ),
        (("+metrics=ranking",), "metrics is a mapping; write +metrics.<name>._target_=..., or +metrics=<file> with"),
        (("metrics={a: 1}",), "metrics is a mapping; write +metrics.<name>._target_=..., or"),
        (("--config-dir", str(EXAMPLE / "conf"), "metrics=ranking"), "write +metrics=ranking"),
        (
            ("--config-dir", str(EXAMPLE / "conf"), "+metrics=rankin"),
            "metrics has no option rankin; did you mean ranking?",
        ),
    ],
)
def test_the_command_line_says_how_to_add_a_metric(cli: CLI, words: tuple[str, ...], told: str) -> None:
    done = cli("train.py", *words)
    assert done.returncode != 0
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_metrics_are_in_no_identity_and_no_stack_key() -> None:
    without, within = plan_of(), plan_of(asked("share"))
    assert (within.identity, within.run_dir) == (without.identity, without.run_dir)
    assert stack_key(within) == stack_key(without) is not None
    assert not is_decisive(asked("share"))
    assert not is_decisive("+metrics=ranking")
    assert set(within.metrics) == {"share"}
    assert without.metrics == {}


def test_a_metric_may_not_have_the_name_of_another_field(experiment: Callable[..., Outcome]) -> None:
    record = experiment("trainer.max_epochs=1", "method=ocsvm_hybrid", asked("share")).record
    assert record.keys() - {"share"} <= TAKEN_NAMES
    assert set(COLUMNS) <= TAKEN_NAMES


def test_a_new_run_and_a_finished_one_get_the_same_number(tmp_path: Path) -> None:
    words = ("logger=none", "trainer.max_epochs=1")
    new = alone(tmp_path / "a", *words, asked("lowest"))
    before = alone(tmp_path / "b", *words)
    files = {path: path.stat().st_mtime_ns for path in before.run_dir.rglob("*") if path.is_file()}
    after = alone(tmp_path / "b", *words, asked("lowest"))
    assert after.was_finished
    assert after.record["lowest"] == new.record["lowest"]
    assert {key for key in after.record if after.record[key] != before.record.get(key)} == {"lowest", "metrics"}
    changed = [path.name for path, written in files.items() if path.stat().st_mtime_ns != written]
    assert {*changed} - {".lock"} == {"metrics.json"}


def test_a_metric_is_recomputed_only_if_it_has_changed(tmp_path: Path, functions: list[str]) -> None:
    def plan(*words: str) -> Plan:
        return plan_of(f"output_dir={tmp_path}", asked("lowest"), *words)

    write_finished(plan())
    assert [answered(plan())["lowest"] for _ in range(2)] == [0.25, 0.25]
    assert functions == ["lowest"]
    twice = plan("+metrics.lowest.factor=-2.0", asked("share"))
    assert answered(twice)["lowest"] == -0.5
    assert functions == ["lowest"] * 2
    # Other metrics stay, and a negative value is valid.
    assert set(values_of(answered(plan_of(f"output_dir={tmp_path}")))) == {"lowest", "share"}
    file = tmp_path / "code" / "own_functions.py"
    file.write_text(f"{file.read_text()}\n# changed\n")
    assert lacking(plan("+metrics.lowest.factor=-2.0").metrics, record_in(twice))
    assert answered(plan("+metrics.lowest.factor=-2.0"))["lowest"] == -0.5
    assert functions == ["lowest"] * 3


@pytest.mark.parametrize("bound", ["inf", "nan", "[1.5,{a:null}]"])
def test_arguments_of_any_kind_are_recognized(tmp_path: Path, functions: list[str], bound: str) -> None:
    plan = plan_of(f"output_dir={tmp_path}", asked("p", "bounded"), f"+metrics.p.bound={bound}")
    write_finished(plan)
    assert [answered(plan)["p"] for _ in range(2)] == [1.0, 1.0]
    assert functions == ["bounded"]


@pytest.mark.parametrize("stacked", [False, True])
def test_a_failing_metric_leaves_the_record(tmp_path: Path, stacked: bool) -> None:
    words = ("logger=none", *SHORT, asked("fails"), asked("lowest"))
    if stacked:
        found = together(tmp_path, *([*words, f"seed={seed}"] for seed in (0, 1)))
        assert [type(one) for one in found] == [DeepSADError] * 2
    else:
        with pytest.raises(DeepSADError, match=r"metrics.fails: own_functions.fails failed \(KeyError: 'inside'\)"):
            alone(tmp_path, *words)
    plan = plan_of(f"output_dir={tmp_path}", *words[:-2])
    assert (outcome := finished_outcome(plan)) is not None
    assert set(values_of(outcome.record)) == {"lowest"}
    assert outcome.record["trainer"]["replicas"] == (2 if stacked else 1)
    log = (plan.run_dir / "train.log").read_text()
    assert "in fails" in log
    assert "KeyError: 'inside'" in log
    # Once it is fixed, no training is needed.
    file = tmp_path / "code" / "own_functions.py"
    file.write_text(file.read_text().replace('raise KeyError("inside")', "return 1.5"))
    sys.modules.pop("own_functions")
    again = alone(tmp_path, *words)
    assert (again.was_finished, again.record["fails"]) == (True, 1.5)
    assert again.record["auroc"] == outcome.record["auroc"]


def test_another_process_is_waited_for_or_reported(tmp_path: Path) -> None:
    plan = plan_of(f"output_dir={tmp_path}", asked("share"))
    write_finished(plan)
    with locked_run(plan):
        with pytest.raises(BusyError):
            answer(plan, {}, wait=False)
        assert "share" not in record_in(plan)
        outcome = answer(plan, {}, has_lock=True)
    assert outcome is not None
    assert outcome.record["share"] == sum(Y) / 5


def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    plan = plan_of(
        f"output_dir={tmp_path}", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", asked("share")
    )
    write_finished(plan)
    assert (outcome := answer(plan, {})) is not None
    assert "share" not in outcome.record
    assert "share" not in record_in(plan)


@pytest.mark.parametrize(
    ("changed", "valid"),
    [
        ({"metrics": {"own": {}}, "own": -1e300}, True),
        ({"metrics": {}}, True),
        ({"metrics": {"own": {}}}, False),
        ({"metrics": {"own": {}}, "own": True}, False),
        ({"metrics": {"own": {}}, "own": float("inf")}, False),
        ({"metrics": {"own": {}}, "own": "1"}, False),
        ({"metrics": {"own": 3}, "own": 1.0}, False),
        ({"metrics": ["own"], "own": 1.0}, False),
    ],
)
def test_the_metrics_of_a_record_are_checked(tmp_path: Path, changed: dict[str, Any], valid: bool) -> None:
    results.warn_once.cache_clear()
    plan = plan_of(f"output_dir={tmp_path}")
    write_finished(plan, **changed)
    assert (record_of(plan) is not None) is valid


def test_a_study_has_a_column_for_each_metric_and_waits_for_the_requested_ones(tmp_path: Path) -> None:
    study = study_of(
        "labeled_anomalies",
        **{"datasets": ["digits"], "methods": ["deep_sad"], "normal_classes": [0], "anomaly_classes": [1]},
        axes={"gamma_l": [0.01, 0.05, 0.1]},
    )
    assert not list(study_problems(study, METHODS))
    with planner(f"output_dir={tmp_path}", asked("share")) as made:
        planned = made.plan(study, {})
    jobs = planned.unique
    for job in jobs[:2]:
        write_finished(job.plan)
    answered(jobs[0].plan)
    state = state_of(jobs, Failures(tmp_path / "failures"))
    assert list(state.records) == [jobs[0].plan.run_dir]
    assert state.waiting == jobs[1:]
    shown = state_of(jobs, Failures(tmp_path / "failures"), with_scores=False).records
    frame = results_frame([planned], shown, study, ())
    assert list(frame) == [*COLUMNS, "gamma_l", "share"]
    assert frame["share"].tolist()[0] == sum(Y) / 5
    assert frame["share"].isna().tolist() == [False, True, True]
    assert frame["auroc"].isna().tolist() == [False, False, True]


def script(name: str, *words: str, cwd: Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A separate process, since a forked one has the import path of its parent."""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLE), "COLUMNS": "200"}
    command = [sys.executable, *python, str(ROOT / name), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


CONF = ("--config-dir", str(EXAMPLE / "conf"))


def test_the_example_runs_alone_and_a_finished_run_gets_it_without_torch(tmp_path: Path) -> None:
    trainer = ("trainer.max_epochs=1", "trainer.threads=1", "trainer.accelerator=cpu")
    # A page, which changes with the record, needs torch.
    short = ("dataset=digits", "logger=none", "report=false", *trainer)
    one = script("train.py", *CONF, "+metrics=ranking", *short, "output_dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stdout + one.stderr
    (record,) = records(tmp_path / "one")
    assert 0.9 < record["r_precision"] <= record["precision_at_10"] == 1.0
    assert f"r_precision        {record['r_precision']:.4g}" in one.stdout
    more = ("+metrics.precision_at_3={_target_: ranking.precision_at_n, n: 3}", *short, "output_dir=one")
    asks = ("train.py", *CONF, "+metrics=ranking", *more)
    again = script(*asks, cwd=tmp_path, python=("-X", "importtime"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "this run had already finished" in again.stdout
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "deepsad_pl.experiment.finished" in imported
    assert "torch" not in imported
    (after,) = records(tmp_path / "one")
    assert after.pop("precision_at_3") == 1.0
    del after["metrics"]["precision_at_3"]
    assert after == {**record, "sha256": after["sha256"]}


@pytest.mark.slow
def test_the_example_runs_in_a_stacked_study_even_when_finished(tmp_path: Path) -> None:
    study = (
        *("study=labeled_anomalies", "study.axes.gamma_l=[0.0,0.05]", "study.normal_classes=[0]", "dataset=digits"),
        *("study.anomaly_classes=[1]", "method=deep_sad", "hydra/launcher=stacked", "hydra.launcher.n_jobs=1"),
        *("logger=none", "trainer.max_epochs=1", "trainer.threads=1", "trainer.accelerator=cpu"),
    )
    done = script("sweep.py", *CONF, "+metrics=ranking", *study, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path)
    assert [one["trainer"]["replicas"] for one in found] == [2, 2]
    path = tmp_path / "runs" / "studies" / "labeled_anomalies" / "results.csv"
    written = pd.read_csv(path, float_precision="round_trip")
    assert sorted(written["r_precision"]) == sorted(one["r_precision"] for one in found)

    more = (*CONF, "+metrics=ranking", "+metrics.at_3={_target_: ranking.precision_at_n, n: 3}", *study)
    asked = script("sweep.py", *more, "dry_run=true", cwd=tmp_path)
    assert "2 of these lack only a metric, which needs no training" in asked.stdout, asked.stderr
    assert records(tmp_path) == found
    again = script("sweep.py", *more, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 finished, 0 to do" in again.stdout
    assert pd.read_csv(path)["at_3"].tolist() == [1.0, 1.0]
    changed = dict.fromkeys(("at_3", "metrics", "sha256"))
    assert [{**one, **changed} for one in records(tmp_path)] == [{**one, **changed} for one in found]

    # The same experiments as a sweep without a study.
    free = (
        *CONF,
        "+metrics=ranking",
        "+metrics.at_4={_target_: ranking.precision_at_n, n: 4}",
        *study[3:4],
        *study[6:],
    )
    swept = script("train.py", "-m", *free, "scenario.gamma_l=0.05", "scenario.anomaly_class=1", cwd=tmp_path)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "at_4 1, run folder" in swept.stdout
    assert sum("at_4" in one for one in records(tmp_path)) == 1

    clash = script("sweep.py", "+metrics.gamma_l._target_=ranking.precision_at_n", *study, cwd=tmp_path)
    assert "metrics.gamma_l: study=labeled_anomalies has an axis of that name" in clash.stderr


@pytest.mark.slow
def test_a_study_reports_a_failing_metric_and_keeps_its_experiments(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("def f(y, score):\n    raise KeyError('inside')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    words = ("study=labeled_anomalies", "study.axes.gamma_l=[0.05]", "study.normal_classes=[0]", "dataset=digits")
    words += ("study.anomaly_classes=[1]", "method=iforest_raw", "logger=none", "trainer.threads=1")
    for number in range(2):
        command = [sys.executable, str(ROOT / "sweep.py"), *words, "+metrics.bad._target_=failing.f"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "1 of 1 experiments is not finished" in done.stderr, number
        assert "metrics.bad: failing.f failed (KeyError: 'inside')" in done.stderr
        assert len(records(tmp_path)) == 1
        assert "report: runs/studies/labeled_anomalies" in done.stdout
    (before,) = records(tmp_path)
    (tmp_path / "failing.py").write_text("def f(y, score):\n    return -1.0\n")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (after,) = records(tmp_path)
    assert after["bad"] == -1.0
    assert after["seconds"] == before["seconds"]


def test_the_example_is_short() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) == 2
    assert all(len(path.read_text().splitlines()) <= 40 for path in files)


def test_settings_have_no_metrics_unless_they_are_given() -> None:
    assert settings_of()["metrics"] == {}
