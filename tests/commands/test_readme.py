"""Every command of the README and three pages runs (one epoch, tiny files of the real formats); the README is short."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import own_tables
import pytest
import torch
from processes import ROOT, run_script
from studies import fields_of
from tiny_data import expected_of_cifar10, write_cifar10, write_idx, write_image_folder, write_odds
from torchvision import datasets

from deepsad_pl import list_methods
from deepsad_pl.commands import main as cli
from deepsad_pl.commands.score import score
from deepsad_pl.data.odds import ODDS_FILES

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS, COMPONENTS, RECIPES, METRICS = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("results", "components", "recipes", "metrics")
)


def commands_of(page: str) -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]


def cut(command: str) -> str:
    """A sweep of the results page, reduced to its first data set and seed."""
    return re.sub(r"\b(dataset|seed)=([^,\s]+),\S+", r"\1=\2", command)


COMMANDS = [
    *(command for page in (README, COMPONENTS, RECIPES, METRICS) for command in commands_of(page)),
    *map(cut, commands_of(RESULTS)),
]
SCRIPTS = {"train.py": cli.train, "sweep.py": cli.sweep, "score.py": score}
# The class "scratched" is only in the test data, so the seed must not draw it.
IMAGES = {"train": {"good": 8, "torn": 6}, "test": {"good": 8, "scratched": 6, "torn": 6}}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small ``data`` folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSAD_DATA_DIR", "data")
    for folder in ("MNIST", "FashionMNIST"):
        write_idx(tmp_path / "data", folder, train=600)
    for key, value in expected_of_cifar10(write_cifar10(tmp_path / "data")).items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    for name in ODDS_FILES:
        write_odds(tmp_path / "data", name, rows=300)
    write_image_folder(tmp_path / "photos", IMAGES)
    own_tables.parts().drop(columns="truth").to_csv(tmp_path / "parts.csv", index=False)
    return tmp_path


def test_every_command_on_the_pages_is_of_a_tested_kind() -> None:
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] == "make" or (words[0] == "python" and words[1] in SCRIPTS), command


# Commands that succeeded in this process; several pages have some of them.
done: set[str] = set()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python")])
def test_python_commands_run(
    command: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command in done:
        return
    _, script, *arguments = shlex.split(command)
    if script == "score.py":
        run_score(arguments, fresh, monkeypatch, capsys)
        return
    if any(argument.startswith("study=") for argument in arguments):
        run_study(arguments, fresh, monkeypatch, capsys)
        done.add(command)
        return
    # In a separate process: DDP leaves its group behind, --help exits, and a stacked sweep has workers.
    single = not {"--help", "trainer=ddp", "hydra/launcher=stacked"}.isdisjoint(arguments)
    extra = [] if "--help" in arguments else ["trainer.max_epochs=1", "trainer.threads=1"]
    if not any(argument.startswith("logger=") for argument in arguments):
        extra.append("logger=none")
    if single:
        finished = run_script(script, *arguments, *extra, cwd=fresh)
        assert finished.returncode == 0, finished.stderr
        shown = finished.stdout
    else:
        monkeypatch.setattr(sys, "argv", [script, *arguments, *extra])
        SCRIPTS[script]()
        shown = capsys.readouterr().out
    if "--help" not in arguments:
        assert list((fresh / "runs").glob("*/*/*/metrics.json"))
        assert "AUROC" in shown
    done.add(command)


def run_score(
    arguments: list[str], fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a command that scores, after the training command before it on a small table, with new rows."""
    trained = next(command for command in COMMANDS if "dataset=table" in command)
    words = ["trainer.max_epochs=1", "logger=none"]
    monkeypatch.setattr(sys, "argv", [*shlex.split(trained)[1:], *words])
    cli.train()
    (run_dir,) = (fresh / "runs" / "table" / "deep_sad").iterdir()
    own_tables.parts(300, seed=1).drop(columns=["quality", "truth"]).to_csv("new.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["score.py", *(word.replace("$RUN", str(run_dir)) for word in arguments)])
    capsys.readouterr()
    score()
    assert re.fullmatch(r"300 scored, \d+ anomalies at alpha 0.05: scores.csv\n", capsys.readouterr().out)
    assert len((fresh / "scores.csv").read_text().splitlines()) == 301


def run_study(
    arguments: list[str], fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the smallest part of a study in this process, and then the commands about a finished study."""
    small = ["trainer.max_epochs=1", "trainer.threads=1", "study.normal_classes=[0]", "study.anomaly_classes=[0,1]"]
    here = ["logger=none", "hydra/launcher=stacked", "hydra.launcher.n_jobs=1"]
    given = {argument.split("=")[0] for argument in arguments}
    narrower = [] if {"study.seeds", "seed"} & given else ["study.seeds=[0]"]
    action = next((a for a in arguments if a.startswith("action=")), "action=run")
    (study,) = (a for a in arguments if a.startswith("study="))
    if not {"study.datasets", "dataset"} & given:
        narrower.append(f"study.datasets=[{','.join(fields_of(study.removeprefix('study='))['datasets'][:2])}]")
    if "hydra/launcher=slurm" in given or "hydra/launcher" in given:
        here, action = ["logger=none", "dry_run=true"], "action=none"
    if action in ("action=status", "action=report"):
        words = [study, *small, *narrower, *here, "study.datasets=[cardio]", "study.methods=[ocsvm_raw]"]
        monkeypatch.setattr(sys, "argv", ["sweep.py", *words])
        cli.sweep()
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments])
    else:
        monkeypatch.setattr(
            sys, "argv", ["sweep.py", *arguments, *small, *narrower, *here[action == "action=dashboard" :]]
        )
    cli.sweep()
    shown = capsys.readouterr().out
    folder = fresh / "runs" / "studies" / study.removeprefix("study=")
    if action == "action=run" and "dry_run" not in given:
        assert (folder / "figure.png").exists()
    expected = {
        "action=run": "experiments",
        "action=none": "to do",
        "action=status": "1 finished",
        "action=report": "AUROC",
    }
    assert expected.get(action, "workspace.json") in shown


def test_make_run_works(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("the checkout has no .venv of make's own")
    done = subprocess.run(
        ["make", "run", f"ARGS=trainer.max_epochs=1 logger=none output_dir={tmp_path}"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
    assert list(tmp_path.glob("digits/deep_sad/*/metrics.json"))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(command: str) -> None:
    assert shutil.which("make")
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    tool = {"run": "train.py", "test": "pytest", "wandb-sync": "wandb_sync"}[command.split()[1]]
    assert tool in done.stdout


def block_of(page: str, number: int) -> dict[str, object]:
    """The variables that a page's Python example leaves."""
    block = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[number]
    namespace: dict[str, object] = {}
    exec(compile(block, page, "exec"), namespace)
    return namespace


def test_python_examples_run(fresh: Path) -> None:
    namespace = block_of("README.md", 0)
    assert len(namespace["scores"]) == 719  # type: ignore[arg-type]
    assert namespace["result"].run_dir.is_relative_to("runs")  # type: ignore[attr-defined]


def test_the_modules_train_on_a_scenario() -> None:
    namespace = block_of("docs/lightning.md", 1)
    result = namespace["module"].test_result  # type: ignore[attr-defined]
    assert len(result["score"]) == 719
    assert torch.equal(torch.cat(namespace["scores"]), result["score"])  # type: ignore[arg-type]


def test_inline_commands_and_settings_exist() -> None:
    assert "`python train.py --help`" in README
    from planned import settings_of

    settings_of("method.lr=[1e-4,1e-5]", "method.epochs=[50,100]", "method.batch_size=200", "trainer.max_epochs=1")
    settings_of("method.weight_decay=1e-6", "method.eta=2", "method.center_from=all", "pretrain.loss=cross_entropy")
    settings_of("recipe=paper", "logger.mode=online", "dataset=cardio", "dataset.scaling=minmax")
    settings_of("method=autoencoder", "method.sees_labeled_anomalies=true")


def test_at_most_300_lines() -> None:
    assert len(README.splitlines()) <= 300


def test_the_page_of_methods_has_every_method() -> None:
    index = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z0-9_]+)`", index)) >= set(list_methods())
    for page in re.findall(r"\]\((methods/[a-z_]+\.md)\)", index):
        headline = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()[0]
        assert set(re.findall(r"`([a-z0-9_]+)`", headline)) <= set(list_methods()), headline


def test_links_to_files_of_the_checkout_exist() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert "docs/results.md" in links
    assert all((ROOT / link).exists() for link in links)
