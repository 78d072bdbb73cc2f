"""Every command of the README and of the site's pages runs (one epoch, tiny files of the real formats)."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import own_tables
import pytest
import torch
from planned import settings_of
from processes import ROOT, run_script
from studies import fields_of
from tiny_data import expected_of_cifar10, write_cifar10, write_idx, write_image_folder, write_odds
from torchvision import datasets

from deepsad_pl import list_datasets, list_methods
from deepsad_pl.commands import main as cli
from deepsad_pl.commands.report import report
from deepsad_pl.commands.score import score
from deepsad_pl.data.odds import ODDS_FILES

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
# Pages whose commands other tests run, and two whose commands take hours.
ELSEWHERE = {
    *("adbench.md", "labeling_budget.md", "export.md", "reproduce.md", "precision.md"),
    *(f"tutorials/{name}.md" for name in ("own_images", "own_method", "own_table", "cluster", "paper")),
}


def commands_of(page: str) -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]


def cut(command: str) -> str:
    """A sweep of a page of results, reduced to its first data set and seed."""
    return re.sub(r"\b(dataset|seed)=([^,\s]+),\S+", r"\1=\2", command)


def commands() -> list[str]:
    """The commands of the README and of all pages of the site that this file is about, each of them once."""
    found = commands_of(README)
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).as_posix()
        if name not in ELSEWHERE and not name.startswith("_build/"):
            of_page = commands_of(path.read_text(encoding="utf-8"))
            found += map(cut, of_page) if name.startswith("results") else of_page
    return list(dict.fromkeys(found))


COMMANDS = commands()
SCRIPTS = {"train.py": cli.train, "sweep.py": cli.sweep, "score.py": score, "report.py": report}
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
    assert len(COMMANDS) >= 40
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] == "make" or (words[0] == "python" and words[1] in SCRIPTS), command


@pytest.mark.parametrize(
    "command",
    [
        # The commands of the other pages are left to the gate.
        pytest.param(command, id=command, marks=() if command in commands_of(README) else pytest.mark.slow)
        for command in COMMANDS
        if command.startswith("python")
    ],
)
def test_python_commands_run(
    command: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, script, *arguments = shlex.split(command)
    if script in ("score.py", "report.py"):
        run_on_a_detector(script, arguments, fresh, monkeypatch, capsys)
        return
    if any(argument.startswith("study=") for argument in arguments):
        run_study(arguments, fresh, monkeypatch, capsys)
        return
    # In a separate process: DDP leaves its group behind, --help exits, and a stacked sweep has workers.
    single = not {"--help", "trainer=ddp", "hydra/launcher=stacked"}.isdisjoint(arguments)
    extra = [] if "--help" in arguments else ["trainer.max_epochs=1", "trainer.threads=1"]
    if not any(argument.startswith("logger=") for argument in arguments):
        extra.append("logger=none")
    if "--help" not in arguments and command not in commands_of(README):
        extra.append("report=false")
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


def run_on_a_detector(
    script: str,
    arguments: list[str],
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run a command about a finished run, after the training command before it on a small table, with new rows."""
    trained = next(command for command in COMMANDS if "dataset=table" in command)
    words = ["trainer.max_epochs=1", "logger=none"]
    monkeypatch.setattr(sys, "argv", [*shlex.split(trained)[1:], *words])
    cli.train()
    (run_dir,) = (fresh / "runs" / "table" / "deep_sad").iterdir()
    own_tables.parts(300, seed=1).drop(columns=["quality", "truth"]).to_csv("new.csv", index=False)
    monkeypatch.setattr(sys, "argv", [script, *(word.replace("$RUN", str(run_dir)) for word in arguments)])
    capsys.readouterr()
    SCRIPTS[script]()
    if script == "report.py":
        assert "report.html" in capsys.readouterr().out
        return
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


@pytest.mark.parametrize("page", ["README.md", "docs/experiments.md"])
def test_python_examples_run(page: str, fresh: Path) -> None:
    namespace = block_of(page, 0)
    assert len(namespace["scores"]) == 719  # type: ignore[arg-type]
    assert namespace["result"].run_dir.is_relative_to("runs")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("page", "number"), [("README.md", 1), ("docs/get_started.md", 0)])
def test_the_estimator_finds_the_anomalies_of_the_example(page: str, number: int) -> None:
    namespace = block_of(page, number)
    predicted = namespace["detector"].predict(namespace["X"])  # type: ignore[attr-defined]
    assert (predicted[10:20] == -1).mean() > 0.7 and (predicted[20:] == 1).mean() > 0.9


def test_the_modules_train_on_a_scenario() -> None:
    namespace = block_of("docs/lightning.md", 1)
    result = namespace["module"].test_result  # type: ignore[attr-defined]
    assert len(result["score"]) == 719
    assert torch.equal(torch.cat(namespace["scores"]), result["score"])  # type: ignore[arg-type]


def test_inline_commands_and_settings_exist() -> None:
    assert "`python train.py --help`" in README
    settings_of("method.lr=[1e-4,1e-5]", "method.epochs=[50,100]", "method.batch_size=200", "trainer.max_epochs=1")
    settings_of("method.weight_decay=1e-6", "method.eta=2", "method.center_from=all", "pretrain.loss=cross_entropy")
    settings_of("recipe=paper", "logger.mode=online", "dataset=cardio", "dataset.scaling=minmax")
    settings_of("method=autoencoder", "method.sees_labeled_anomalies=true")


def test_the_readme_is_short_and_counts_right() -> None:
    assert len(README.splitlines()) <= 150
    own = {"image_folder", "table"}
    assert f"[{len(list_methods())} methods]" in README
    assert f"[{len({*list_datasets()} - own)} data sets and your" in README
    families = {name for method in list_methods() if (name := family(method)) is not None}
    assert f"Deep SAD and {len(families) - 1} others" in README


def family(method: str) -> str | None:
    """What a method is called without its variants, if it uses labeled anomalies."""
    declared = (ROOT / "conf" / "method" / f"{method}.yaml").read_text(encoding="utf-8")
    base = re.search(r"^  - (\w+_raw)$", declared, re.MULTILINE)
    hidden = "labels: hidden" in declared or (base is not None and family(base[1]) is None)
    return None if hidden else re.sub(r"_(raw|hybrid|m2|m1m2)$", "", method)


def test_no_setting_of_the_old_readme_is_lost() -> None:
    site = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    wanted = """scenario.gamma_l gamma_p gamma_n gamma_e gamma_en k_l anomaly_class normal_class labels unlabeled
    method.eta method.center_from method.selection method.sees_labeled_anomalies method.lr method.epochs
    method.batch_size method.weight_decay pretrain.data pretrain.loss recipe=paper trainer.max_epochs trainer.precision
    trainer.compile trainer.devices trainer.threads logger.mode WANDB_RUN_GROUP dataset.scaling dataset.test_share
    dataset.image_size data_dir study.sample study.metric study.axes experiments_per_job hydra.launcher.max_replicas
    hydra.launcher.n_jobs hydra.launcher.partition action=status action=report action=forget action=dashboard dry_run
    force=true metrics.json scores.csv last.ckpt model.npz detector/ config.yaml losses.csv"""
    assert [word for word in re.findall(r"\S+", wanted) if word not in site] == []


def test_the_page_of_methods_has_every_method() -> None:
    index = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    named = {name for text in re.findall(r"\[([^]]+)\]\(methods/", index) for name in re.findall(r"`(\w+)`", text)}
    assert named == set(list_methods())
    for page in re.findall(r"\]\((methods/[a-z_]+\.md)\)", index):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert set(re.findall(r"`([a-z0-9_]+)`", text.splitlines()[0])) <= set(list_methods()), page
        assert all(f"**{part}" in text for part in ("When to use it.", "Source.", "Settings.")), page
        assert page == "methods/tabicl.md" or f"figures/{page.removesuffix('.md')}.png" in text, page


def test_links_to_files_of_the_checkout_exist() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert "docs/results.md" in links
    assert all((ROOT / link).exists() for link in links)
