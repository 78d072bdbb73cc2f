"""W&B reads the sweep file in ``examples``, and its own agent starts a trial of it, without a server."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb_file
from planned import plan_of
from processes import ROOT, run_script
from tiny_data import write_odds
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import load_sweep_config

SWEEP = load_sweep_config(str(ROOT / "examples" / "wandb_sweep.yaml"))
SHORT = ["logger.mode=offline", "trainer.max_epochs=1", "trainer.threads=1"]


def trials() -> list[dict[str, Any]]:
    """The assignments of the grid."""
    values = [[(name, value) for value in one["values"]] for name, one in SWEEP["parameters"].items()]
    return [dict(pairs) for pairs in itertools.product(*values)]


def command_of(trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """The command that W&B's agent would run for an assignment, after setting the environment as the agent does."""
    for name, value in (("SWEEP_ID", "sweep1"), ("RUN_ID", ""), ("SWEEP_PARAM_PATH", ""), ("DIR", str(folder))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    started: list[list[str]] = []

    def start(*, command: list[str], **_: Any) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", start)
    agent = SimpleNamespace(
        _sweep_command=list(SWEEP["command"]),
        _function=None,
        _in_jupyter=False,
        _forward_signals=False,
        _run_processes={},
    )
    args = {name: {"value": value} for name, value in trial.items()}
    wandb_agent.Agent._command_run(agent, {"run_id": "trial1", "program": SWEEP["program"], "args": args})
    return started[0]


def test_every_trial_is_a_separate_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = set()
    for trial in trials():
        command = command_of(trial, monkeypatch, tmp_path)
        assert command[:3] == ["/usr/bin/env", "python", "train.py"]
        folders.add(plan_of(*command[3:]).run_dir)
    assert len(folders) == len(trials()) == 12


def test_a_trial_runs_in_the_run_of_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_odds(tmp_path / "data", "cardio", rows=300)
    trial = {"scenario.gamma_l": 0.05, "method.eta": 10, "seed": 2}
    assert trial in trials()
    _, _, script, *words = command_of(trial, monkeypatch, tmp_path)
    monkeypatch.delenv("WANDB_DIR")
    done = run_script(script, *words, *SHORT, "data_dir=data", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob("runs/cardio/deep_sad/*/metrics.json")
    (path,) = record.parent.glob("wandb/offline-run-*-trial1/run-trial1.wandb")
    run = wandb_file.read(path)
    assert (run.ids, run.sweeps) == ({"trial1"}, {"sweep1"})
    assert run.summary[SWEEP["metric"]["name"]] == json.loads(record.read_text())["auroc"]
    assert trial.items() <= run.config.items()
