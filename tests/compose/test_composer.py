"""Settings composed once and then changed equal those that Hydra composes anew."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.declared import to_settings


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with initialize_config_dir(CONF, version_base="1.3"):
        yield Composer(GlobalHydra.instance().config_loader())


CHOICES = st.tuples(
    st.sampled_from(["dataset=digits", "dataset=cardio"]), st.sampled_from(["method=deep_sad", "method=ssad_hybrid"])
)
VALUES = st.lists(
    st.sampled_from(
        [
            "seed=3",
            "scenario.normal_class=Trouser",
            "scenario.normal_class=[1,2]",
            "scenario.anomaly_class=null",
            "scenario.anomaly_class='1e3'",
            "scenario.gamma_l=0",
            "trainer.max_epochs=2",
            "pretrain.lr=[1,2]",
            "recipe=paper",
            "recipe.batch_size=7",
            "logger=none",
        ]
    ),
    unique_by=lambda word: word.split("=")[0],
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHOICES, VALUES)
def test_settings_equal_those_of_hydra(composer: Composer, choices: tuple[str, str], values: list[str]) -> None:
    overrides = [*choices, *values]
    assert composer.settings(overrides) == to_settings(compose("train", overrides))


def test_two_requests_do_not_affect_each_other(composer: Composer) -> None:
    first = composer.settings(["dataset=digits", "seed=1"])
    second = composer.settings(["dataset=digits", "seed=2", "scenario.anomaly_class=4"])
    assert (first["seed"], second["seed"]) == (1, 2)
    assert (first["scenario"]["anomaly_class"], second["scenario"]["anomaly_class"]) == (1, 4)


def test_a_setting_that_refers_to_the_seed_follows_it(composer: Composer) -> None:
    overrides = ["dataset=image_folder", "dataset.image_size=8", "dataset.root=photos/${seed}"]
    for seed in (1, 2):
        assert composer.settings([*overrides, f"seed={seed}"])["dataset"]["root"] == f"photos/{seed}"


def test_keys_are_found_with_any_value(composer: Composer) -> None:
    assert composer.has_key(["method=deep_sad"], "method.eta")
    assert not composer.has_key(["method=kde_raw"], "method.eta")
    assert composer.has_key([], "trainer.max_epochs"), "null is a value"
    assert composer.has_key(["dataset=image_folder"], "dataset.root"), "a missing value has a key"
    assert not composer.has_key([], "nothing.at_all")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("scenario.gama_l=1", "scenario.gamma_l"),
        ("dataset=minst", "mnist"),
        ("seed=x", "Integer"),
        ("trainer.devices=[1]", "trainer.devices"),
    ],
)
def test_overrides_that_hydra_refuses_are_refused(composer: Composer, wrong: str, told: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)):
        compose("train", [wrong])
    with pytest.raises(DeepSADError, match=told):
        composer.settings([wrong])


def test_a_missing_value_is_reported(composer: Composer) -> None:
    with pytest.raises(DeepSADError, match=r"dataset.root is not set"):
        composer.settings(["dataset=image_folder"])
