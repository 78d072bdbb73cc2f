"""The wheel, installed outside a checkout, has the configs and the plugins, and runs."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    zipfile.ZipFile(path).extractall(folder / "site")
    return folder / "site"


def test_every_config_is_in_the_wheel(wheel: Path) -> None:
    configs = {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(configs) > 20
    assert {str(path.relative_to(wheel / "deepsad_pl" / "conf")) for path in wheel.rglob("*.yaml")} == configs


def test_every_template_is_in_the_wheel(wheel: Path) -> None:
    templates = {path.name for path in (ROOT / "deepsad_pl" / "pages" / "templates").iterdir()}
    assert {"frame.html", "page.css", "page.js"} <= templates
    assert {path.name for path in (wheel / "deepsad_pl" / "pages" / "templates").iterdir()} == templates


def test_plugins_share_hydras_namespace(wheel: Path) -> None:
    assert (wheel / "hydra_plugins" / "deepsad_grid_sweeper.py").exists()
    assert not (wheel / "hydra_plugins" / "__init__.py").exists()


def test_nothing_else_is_installed_at_the_top(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"deepsad_pl", "hydra_plugins"}


@pytest.mark.parametrize(
    "script", [s for s in PROJECT["scripts"].values() if not s.endswith((":score", ":export", ":report"))]
)
def test_console_scripts_run_from_the_wheel_alone(wheel: Path, tmp_path: Path, script: str) -> None:
    module, function = script.split(":")
    code = f"import {module}; print({module}.__file__); {module}.{function}()"
    # -P keeps the working directory off the path; the checkout comes after the wheel.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--cfg", "job", "dataset=thyroid"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(wheel))
    assert "name: thyroid" in done.stdout


@pytest.mark.parametrize(("name", "wrong"), [("score", "inptu"), ("export", "outptu"), ("report", "data_dri")])
def test_the_other_commands_run_from_the_wheel_alone_without_torch(
    wheel: Path, tmp_path: Path, name: str, wrong: str
) -> None:
    assert PROJECT["scripts"][f"deepsad-{name}"] == f"deepsad_pl.commands.entry:{name}"
    code = (
        f"import sys; from deepsad_pl.commands import entry, {name}\n"
        f"try: entry.{name}()\n"
        f"finally: print({name}.__file__, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "run=nowhere", f"{wrong}=new"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"there is no setting {wrong} of {name}.py; did you mean" in done.stderr
    assert done.stderr.splitlines()[-1] == f"{wheel / 'deepsad_pl' / 'commands' / name}.py False"


def test_compromised_lightning_releases_are_excluded() -> None:
    (lightning,) = [line for line in PROJECT["dependencies"] if line.startswith("pytorch-lightning")]
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning
