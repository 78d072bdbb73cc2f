"""How a study handles failing launchers, killed jobs and interruptions."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from made_records import write_finished
from studies import composer, fields_of

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.signals import Stopped
from deepsad_pl.compose.composer import Composer
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.study.study import Launch, StudyRun
from deepsad_pl.sweep.failures import STOPPED, Failures

WORDS = ("trainer.max_epochs=1", "logger=none")
NARROWED = {"datasets": ["digits"], "methods": ["deep_sad"], "normal_classes": [0], "axes": {"gamma_l": [0.05]}}


class Bench:
    """A study of nine experiments, with a function in place of the launcher."""

    def __init__(self, composer: Composer, where: Path) -> None:
        self.composer, self.where = composer, where
        self.launched: list[list[str]] = []
        self.requests = where / "studies" / "labeled_anomalies" / "requests.json"
        self.failures = Failures(where / "studies" / "labeled_anomalies" / "failures")

    def run(
        self,
        launch: Launch,
        *more: str,
        action: str = "run",
        narrowed: Mapping[str, Any] = NARROWED,
        dry_run: bool = False,
    ) -> None:
        whole = fields_of("labeled_anomalies")
        StudyRun(
            asked={**whole, **narrowed},
            whole=whole,
            arguments=[*self.words(action, more), f"output_dir={self.where}", *more],
            composer=self.composer,
            output_dir=str(self.where),
            processes=2,
            tasks=None,
            launch=launch,
        ).act(action, dry_run=dry_run)

    def words(self, action: str, more: Sequence[str]) -> list[str]:
        given = {word.split("=")[0] for word in more}
        return [word for word in WORDS if word.split("=")[0] not in given] if action == "run" else []

    def known(self, overrides: Sequence[str]) -> str:
        return next(word.split("=")[1] for word in overrides if word.startswith("scenario.anomaly_class"))

    def begin(self, overrides: Sequence[str]) -> None:
        self.launched.append(list(overrides))
        self.failures.note(list(overrides), STOPPED)

    def finish(self, overrides: Sequence[str]) -> None:
        plan = make_plan(self.composer.settings(overrides))
        write_finished(plan, auroc=len(self.launched) / 1000)
        self.failures.forget(list(overrides))

    def all(self, jobs: Sequence[Sequence[str]]) -> list[Any]:
        """A launcher that finishes everything."""
        for job in jobs:
            self.begin(job)
            self.finish(job)
        return [0.5] * len(jobs)

    def table(self) -> list[dict[str, str]]:
        with (self.where / "studies" / "labeled_anomalies" / "table.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    fields_of("labeled_anomalies")
    shared = composer()
    with initialize_config_dir(CONF, version_base="1.3"):
        yield Bench(shared, tmp_path)


def test_a_launcher_that_gives_up_does_not_stop_the_others(bench: Bench) -> None:
    """The process of class 3 dies each time, and with it the launcher and the process beside it."""

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        deadly = [job for job in jobs if bench.known(job) == "3"]
        for job in jobs:
            bench.begin(job)
            if job in deadly:
                raise RuntimeError("a worker was killed")
            if not (deadly and bench.known(job) == "2"):
                bench.finish(job)
        return [0.5] * len(jobs)

    with pytest.raises(DeepSADError) as caught:
        bench.run(launch)
    (text,) = caught.value.problems
    assert "1 of 9 experiments is not finished" in text
    assert "scenario.anomaly_class=3" in text
    assert "a worker was killed" in text
    assert sorted(map(bench.known, bench.launched)) == [*"12233456789"]
    assert (bench.where / "studies" / "labeled_anomalies" / "table.md").exists()


def test_finished_experiments_are_launched_for_their_pages(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(bench.all)
    bench.launched.clear()

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        """The page of class 3 cannot be written."""
        for job in jobs:
            bench.launched.append(list(job))
            if bench.known(job) != "3":
                (make_plan(bench.composer.settings(job)).run_dir / "report.html").touch()
        return [0.5] * len(jobs)

    for launched in ("123456789", "3"):
        bench.run(launch, "report=true")
        assert sorted(map(bench.known, bench.launched)) == [*launched]
        assert "1 page was not written; python report.py run=<run> says why" in capsys.readouterr().out
        bench.launched.clear()
    bench.run(launch)
    assert bench.launched == []
    page = (bench.where / "studies" / "labeled_anomalies" / "report.html").read_text()
    assert (page.count(">page</a>"), page.count("<code>python report.py")) == (8, 1)


def test_a_launcher_that_cannot_start_is_reported_once(bench: Bench) -> None:
    calls = []

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        calls.append(len(jobs))
        raise RuntimeError("there is no sbatch")

    with pytest.raises(DeepSADError, match=r"cannot run the experiments \(RuntimeError: there is no sbatch\)"):
        bench.run(launch)
    assert calls == [9]


def test_the_launchers_own_error_is_shown_unchanged(bench: Bench) -> None:
    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        raise DeepSADError("experiments_per_job is 0; it must be a number >= 1")

    with pytest.raises(DeepSADError, match=r"^experiments_per_job is 0; it must be a number >= 1$"):
        bench.run(launch)


def test_a_killed_job_is_named_with_the_launchers_message(bench: Bench) -> None:
    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        for job in jobs:
            bench.begin(job)
        for job in jobs[1:]:
            bench.finish(job)
        return [RuntimeError("job 7 was cancelled\nand more"), *[0.5] * (len(jobs) - 1)]

    with pytest.raises(DeepSADError, match=r"RuntimeError: job 7 was cancelled$"):
        bench.run(launch)
    assert bench.failures.error(bench.launched[0]) == "RuntimeError: job 7 was cancelled"


@pytest.mark.parametrize(("stop", "code"), [(Stopped(130), 130), (Stopped(143), 143)])
def test_an_interruption_ends_with_its_exit_code(bench: Bench, stop: BaseException, code: int) -> None:
    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        bench.begin(jobs[0])
        raise stop

    with pytest.raises(SystemExit) as caught:
        bench.run(launch)
    assert caught.value.code == code
    assert bench.failures.error(bench.launched[0]) == STOPPED


def test_notes_of_an_earlier_sweep_are_not_repeated(bench: Bench) -> None:
    """8 and 9 failed and 7 was killed before: all are tried again, although a worker dies at the first experiment."""

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        known = [bench.known(job) for job in jobs]
        if not bench.launched:
            for job in jobs:
                if bench.known(job) in ("8", "9"):
                    bench.failures.note(list(job), "the disk is full")
                elif bench.known(job) == "7":
                    bench.failures.note(list(job), STOPPED)
            bench.launched.append([])
            raise Stopped(130)
        for job in jobs:
            bench.begin(job)
            if len(bench.launched) == 2:
                raise RuntimeError("a worker was killed")
            bench.finish(job)
        return [0.5] * len(known)

    with pytest.raises(SystemExit):
        bench.run(launch)
    bench.run(launch)
    assert sorted(bench.known(job) for job in bench.launched[1:]) == sorted(
        [bench.known(bench.launched[1]), *"123456789"]
    )


def test_force_repeats_everything(bench: Bench) -> None:
    bench.run(bench.all)
    bench.run(bench.all)
    assert len(bench.launched) == 9
    bench.run(bench.all, "force=true")
    assert len(bench.launched) == 18
    assert not list(bench.where.rglob("*.before"))


def test_force_deletes_nothing_if_nothing_can_run(bench: Bench) -> None:
    bench.run(bench.all)
    files = {path: path.read_text() for path in bench.where.rglob("metrics.json")}

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        raise RuntimeError("there is no sbatch")

    with pytest.raises(DeepSADError, match="there is no sbatch"):
        bench.run(launch, "force=true")
    assert {path: path.read_text() for path in bench.where.rglob("metrics.json")} == files


def test_requests_differ_by_what_the_study_fixes(bench: Bench) -> None:
    bench.run(bench.all)
    (before,) = bench.table()
    fixed = {**fields_of("labeled_anomalies")["fixed"], "scenario.gamma_p": 0.2}
    bench.run(bench.all, narrowed={**NARROWED, "fixed": fixed})
    (after,) = bench.table()
    assert len(bench.launched) == 18
    assert float(after["mean"]) > float(before["mean"])
    assert after["n"] == before["n"] == "9"


def test_n_is_the_requested_number_even_for_values_not_in_the_yaml(bench: Bench) -> None:
    bench.run(bench.all, narrowed={**NARROWED, "axes": {"gamma_l": [0.05, 0.3]}})
    assert [(line["gamma_l"], line["n"], line["expected"]) for line in bench.table()] == [
        ("0.05", "9", "9"),
        ("0.3", "9", "9"),
    ]


@pytest.mark.slow
def test_an_earlier_request_that_is_no_longer_possible_is_left_out(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = bench.where / "studies" / "labeled_anomalies" / "requests.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(json.dumps([{"passed_on": list(WORDS), "narrowed": {"datasets": ["gone"]}}]))
    bench.run(bench.all)
    assert "an earlier request (datasets=['gone']) is left out" in capsys.readouterr().out
    assert [line["n"] for line in bench.table()] == ["9"]


SECOND = {**NARROWED, "axes": {"gamma_l": [0.1]}}
MISTAKE = {**NARROWED, "axes": {"gamma_l": [0.3]}}


def test_a_mistaken_command_is_forgotten_and_its_experiments_stay(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(bench.all)
    bench.run(bench.all, narrowed=SECOND)
    with pytest.raises(DeepSADError, match="9 of 9 experiments are not finished"):
        bench.run(lambda jobs: [RuntimeError("no")] * len(jobs), narrowed=MISTAKE)
    bench.run(bench.all, action="report", narrowed={})
    assert [line["gamma_l"] for line in bench.table()] == ["0.05", "0.1", "0.3"]
    files = {path: path.read_bytes() for path in bench.where.glob("digits/**/*") if path.is_file()}

    with pytest.raises(DeepSADError) as caught:
        bench.run(bench.all, *WORDS, "recipe=paper", action="forget", narrowed=MISTAKE)
    lines = str(caught.value).splitlines()
    assert "remembers no command dataset=digits method=deep_sad" in lines[0]
    assert len(lines) == 4
    known = "dataset=digits method=deep_sad 'study.axes={gamma_l:[0.3]}' 'study.normal_classes=[0]'"
    assert lines[-1].startswith(f"  {known}")

    capsys.readouterr()
    for dry_run in (True, False):
        bench.run(bench.all, *reversed(WORDS), action="forget", narrowed=MISTAKE, dry_run=dry_run)
        told = " ".join(capsys.readouterr().out.split())
        assert f"study=labeled_anomalies {'would forget' if dry_run else 'has forgotten'} {known}" in told
        assert len(json.loads(bench.requests.read_text())) == (3 if dry_run else 2)
    bench.run(bench.all, action="report", narrowed={})
    assert [line["gamma_l"] for line in bench.table()] == ["0.05", "0.1"]
    assert {path: path.read_bytes() for path in bench.where.glob("digits/**/*") if path.is_file()} == files


def test_a_request_that_can_no_longer_be_planned_can_be_forgotten(bench: Bench) -> None:
    gone = {"datasets": ["gone"], "methods": ["deep_bad"], "normal_classes": ["cat"]}
    bench.requests.parent.mkdir(parents=True)
    entry = {"passed_on": ["method.gone=1", f"output_dir={bench.where}"], "narrowed": gone}
    bench.requests.write_text(json.dumps([entry]))
    bench.run(bench.all, "method.gone=1", action="forget", narrowed=gone)
    assert json.loads(bench.requests.read_text()) == []
    with pytest.raises(DeepSADError, match="remembers no command, so there is none to forget"):
        bench.run(bench.all, "method.gone=1", action="forget", narrowed=gone)


def test_nothing_is_written_where_nothing_is_remembered(bench: Bench) -> None:
    with pytest.raises(DeepSADError, match="remembers no command"):
        bench.run(bench.all, action="forget")
    assert not any(bench.where.iterdir())


def test_a_command_about_finished_experiments_recalls_their_settings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(bench.all, "recipe=paper")
    seen: list[Any] = []
    monkeypatch.setattr("deepsad_pl.study.reporting.log_report", lambda *_, **kwargs: seen.append(kwargs["config"]))
    two = {"datasets": ["digits"], "methods": ["deep_sad", "ocsvm_raw"], "normal_classes": [0]}
    for narrowed in ({}, two):
        bench.run(bench.all, action="report", narrowed=narrowed)
        assert {line["n"] for line in bench.table() if line["column"] == "deep_sad"} >= {"9"}
        assert {line["run_with"] for line in bench.table()} == {"trainer.max_epochs=1 recipe=paper"}
    assert len(bench.launched) == 9
    assert seen == [], "nothing was logged to W&B, and so is not the report"
    bench.run(bench.all, "logger=wandb", action="report", narrowed={})
    assert [config["study.run_with"] for config in seen] == [["trainer.max_epochs=1", "recipe=paper"]]


def test_experiments_share_a_wandb_group_and_the_cores(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)

    def launch(jobs: Sequence[Sequence[str]]) -> list[Any]:
        for job in jobs:
            bench.begin(job)
        raise Stopped(130)

    with pytest.raises(SystemExit):
        bench.run(launch, "logger=wandb")
    assert {"logger.group=labeled_anomalies", "trainer.threads=4"} <= set(bench.launched[0])
    bench.launched.clear()
    with pytest.raises(SystemExit):
        bench.run(launch, "logger=wandb", "logger.group=mine", "trainer.threads=1")
    assert {"logger.group=mine", "trainer.threads=1"} <= set(bench.launched[0])
    assert len([word for word in bench.launched[0] if word.startswith(("logger.group", "trainer.threads"))]) == 2
