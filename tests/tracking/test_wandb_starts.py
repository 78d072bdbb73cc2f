"""W&B that cannot start costs the reports of a run, not the run; what it would refuse is told before any work."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from planned import settings_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.tracking.trackers import RUN_ID, SCORES, _histograms, _run_id
from deepsad_pl.tracking.wandb_run import Destination, NotStartedError, destination_problems, open_run

Experiment = Callable[..., Outcome]
OFFLINE = Destination("offline", "p", None, "g", ())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("logger.project=a/b", "logger.project is 'a/b', but W&B allows no / in it"),
        ("logger.project='a%b#'", "W&B allows no # % in it"),
        (f"logger.project={'p' * 129}", "logger.project has 129 characters; W&B allows 1 to 128"),
        ("logger.project=''", "logger.project has 0 characters"),
        (f"logger.tags=[short,{'t' * 65}]", "of 65 characters; W&B allows 1 to 64"),
        ("logger.tags=['']", "logger.tags has '', of 0 characters"),
    ],
    ids=["slash", "signs", "long_project", "no_project", "long_tag", "no_tag"],
)
def test_what_wandb_would_refuse_is_told_before_any_work(word: str, told: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        make_plan(settings_of("logger=wandb", word))
    assert told in str(caught.value)
    assert make_plan(settings_of("logger=csv"))


def test_what_wandb_allows_is_allowed() -> None:
    assert not [*destination_problems("p" * 128, ["t" * 64, "ä", "a/b"])]
    wandb.Settings(project="p" * 128, run_tags=("t" * 64, "ä", "a/b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODE", "foo"), ("CONSOLE", "foo"), ("BASE_URL", "nonsense"), ("SERVICE", "garbage"), ("INIT_TIMEOUT", "soon")],
)
def test_a_wrong_environment_variable_costs_only_the_reports(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb.sdk.wandb_setup, "_singleton", None)
    monkeypatch.setenv(f"WANDB_{name}", value)
    with pytest.raises(NotStartedError) as caught:
        open_run(tmp_path, OFFLINE, name="n", job_type="j", config={})
    told = str(caught.value)
    assert told.startswith("W&B cannot start a run (")
    assert told.endswith("or do without it by logger=csv")
    assert value in told
    assert "\n" not in told


@pytest.mark.parametrize("home", [None, "", "missing", "file"], ids=repr)
def test_without_a_home_everything_is_in_the_output(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb.sdk.wandb_setup, "_singleton", None)
    (tmp_path / "run").mkdir()
    (tmp_path / "file").touch()
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home and str(tmp_path / home))
    for name in ("CACHE_DIR", "DATA_DIR"):
        # So that it is unset again after the test.
        monkeypatch.setenv(f"WANDB_{name}", "")
        monkeypatch.delenv(f"WANDB_{name}")
    with open_run(tmp_path / "run", OFFLINE, name="n", job_type="j", config={}) as run:
        run.log({"table": wandb.Table(columns=["a"], data=[[1]])})
    wandb.teardown()
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "run" / "wandb" / "cache" / "wandb" / "logs").is_dir()
    assert (tmp_path / "run" / "wandb" / "data" / "artifacts").is_dir()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["CACHE_DIR", "DATA_DIR"])
def test_a_folder_of_the_environment_that_cannot_be_written_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"WANDB_{name}", "/proc/1/x")
    with pytest.raises(NotStartedError, match=rf"WANDB_{name} is /proc/1/x, where nothing can be written.*logger=csv"):
        open_run(tmp_path, OFFLINE, name="n", job_type="j", config={})


def test_without_threads_the_run_goes_on_with_one_warning(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(**_: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "_start_new_thread", lambda *_: (_ for _ in ()).throw(RuntimeError("no thread")))
            threading.Thread(target=print).start()

    monkeypatch.setattr(wandb, "init", none_left)
    done = experiment("trainer.max_epochs=1", "logger=[csv,wandb]")
    assert (done.run_dir / "metrics.json").exists()
    assert (done.run_dir / "losses.csv").exists()
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("the run goes on without its reports: W&B cannot start a run (no thread")
    assert "logger=csv" in told


def test_the_trial_of_an_agent_needs_wandb(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no thread")

    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "r")
    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(NotStartedError, match="no thread"):
        experiment("trainer.max_epochs=1", "logger=wandb")


@pytest.mark.parametrize("content", [b"", b"a/b", b"\xff\xfe", b"two words", None], ids=repr)
def test_a_run_id_that_is_none_is_replaced(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / RUN_ID).write_bytes(content)
    made = _run_id(tmp_path)
    assert len(made) == 8
    assert _run_id(tmp_path) == made == (tmp_path / RUN_ID).read_text()


Y = np.array([0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    "score",
    [
        [1.0] * 5,
        [0.0] * 5,
        [1e17] * 5,
        [1.0, 1.0, 1.0, 1.0, 1.0 + 2e-16],
        [1.0, 1.0, 1.0, 1.0, 1.0 + 1e-12],
        [1e-300, 1e-300, 1e-300, 1e-300, 1e-300 + 1e-315],
        [0.0, 0.0, 0.0, 0.0, 5e-324],
        [-1.7e308, 0.0, 0.0, 0.0, 1.7e308],
        np.nextafter(np.float32([3, 3, 3, 3, 3]), np.float32([3, 3, 3, 3, 4])),
        [0.1, 0.2, 0.3, 0.4, 0.9],
    ],
    ids=str,
)
def test_scores_that_are_nearly_equal_have_histograms(score: Any) -> None:
    with np.errstate(all="ignore"):
        drawn = _histograms(Y, np.asarray(score))
    for name, count in zip(SCORES, (3, 2), strict=True):
        edges = np.asarray(drawn[name].bins)
        assert sum(drawn[name].histogram) == count
        assert np.isfinite(edges).all()
        assert (np.diff(edges) >= 0).all()


def test_other_scores_have_the_bins_of_numpy() -> None:
    score = np.random.default_rng(0).normal(size=5)
    assert (np.asarray(_histograms(Y, score)[SCORES[0]].bins) == np.histogram_bin_edges(score, 64)).all()
