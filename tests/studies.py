"""Studies as in their YAML, and planners, without a command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from processes import ROOT

from deepsad_pl.commands.main import CONF
from deepsad_pl.compose.composer import Composer
from deepsad_pl.study.grid import Study
from deepsad_pl.study.jobs import Planner

STUDIES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml"))
DIGITS = tuple("0123456789")


@cache
def fields_of(name: str) -> dict[str, Any]:
    with initialize_config_dir(CONF, version_base="1.3"):
        study = compose("sweep", [f"study={name}"]).study
    fields = OmegaConf.to_container(study, resolve=True)
    assert isinstance(fields, dict)
    return {str(key): value for key, value in fields.items()}


def study_of(name: str, **changed: Any) -> Study:
    return Study(**{**fields_of(name), **changed})


@cache
def composer() -> Composer:
    """One composer for all tests, which keeps what it has composed."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return Composer(GlobalHydra.instance().config_loader())


@contextmanager
def planner(*passed_on: str, may_lack: Sequence[str] = ()) -> Iterator[Planner]:
    for name in STUDIES:
        fields_of(name)  # Hydra does not allow nested compositions.
    shared = composer()
    with initialize_config_dir(CONF, version_base="1.3"):
        yield Planner(shared, passed_on, may_lack)
