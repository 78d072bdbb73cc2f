"""Checked choices keep their settings, and tell the package's own settings from the arguments of a component."""

from pathlib import Path
from typing import Any

import pytest
from planned import plan_of, problems_of, settings_of

from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.settings.about import DatasetAbout, own
from deepsad_pl.settings.choices import CHOICES, DatasetChoice, MethodChoice, NetworkChoice
from deepsad_pl.settings.typed import choice_of

CHOSEN = [
    (group, name) for group in CHOICES for name, node in own(group).items() if isinstance(node.get("_target_"), str)
]


@pytest.mark.parametrize(("group", "name"), CHOSEN)
def test_the_settings_of_a_choice_are_those_of_the_configuration_in_their_order(group: str, name: str) -> None:
    node = dict(own(group)[name])
    if group == "dataset":
        node["network"] = {"_target_": "deepsad_pl.networks.mlp.MLP", "name": "mlp", **node["network"]}
    found = choice_of(CHOICES[group], node).settings()
    node.pop("about", None)
    assert list(found.items()) == list(node.items())


def test_arguments_are_what_the_constructor_gets() -> None:
    plan = plan_of("dataset=cardio")
    method, dataset = plan.method, plan.dataset
    assert {"eta", "lr", "epochs", "weight_decay"} < set(method.arguments)
    assert not {"_target_", "name", "batch_size", "about"} & set(method.arguments)
    assert (method.name, method.batch_size, method.features) == ("deep_sad", 200, None)
    assert dataset.network.arguments == {"units": [32, 16, 8], "leakiness": 0.1, "initial_weights": "glorot"}
    assert (dataset.kind, dataset.scaling, dataset.about.inputs) == ("cardio", "zscore", "rows")


def test_a_setting_that_the_package_reads_is_an_argument_too_if_the_function_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scaled_rows.py").write_text("def rows(scaling, width): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    network = {"_target_": "deepsad_pl.networks.mlp.MLP", "name": "mlp", "units": [4]}
    node = {"_target_": "scaled_rows.rows", "width": 3, "scaling": "minmax", "batch_size": 8, "network": network}
    found = choice_of(DatasetChoice, {**node, "about": {"inputs": "rows"}})
    assert found.arguments == {"width": 3, "scaling": "minmax"}
    assert (found.scaling, found.batch_size) == ("minmax", 8)
    assert (found.about, found.settings()) == (DatasetAbout(inputs="rows"), node)


@pytest.mark.parametrize("more", [{}, {"decoder": None}, {"decoder": {"_target_": "mylab.Decoder", "width": 2}}])
def test_a_null_setting_is_told_from_a_missing_one(more: dict[str, Any]) -> None:
    node = {"_target_": "mylab.Encoder", "name": "mine", **more}
    found = choice_of(NetworkChoice, node)
    assert (found.decoder, found.settings()) == (more.get("decoder"), node)


def test_a_changed_argument_changes_the_settings_alone() -> None:
    before = choice_of(MethodChoice, {"_target_": "mylab.Method", "name": "mine", "epochs": [3, 4]})
    after = before.with_arguments(epochs=[3, 1])
    assert (before.epochs, after.epochs) == ([3, 4], [3, 1])
    assert after.settings() == {**before.settings(), "epochs": [3, 1]}


@pytest.mark.parametrize("key", ["method.batch_size", "dataset.scaling", "dataset.lr", "pretrain.data"])
def test_a_setting_that_must_not_be_null_is_refused(key: str) -> None:
    assert any(problem.startswith(f"{key} is None") for problem in problems_of("dataset=cardio", f"{key}=null"))


MLP, LENET = ("network=mlp", "network.units=[8,4]"), ("network=lenet", "network.filters=[4]", "network.dense=[4]")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("dataset=digits", *MLP),
            "network is mlp, which takes rows, but dataset=digits has images; leave network out, or choose "
            "network=lenet",
        ),
        (
            ("dataset=cardio", *LENET),
            "network is lenet, which takes images, but dataset=cardio has rows; leave network out, or choose "
            "network=mlp",
        ),
        (
            ("dataset=digits", "dataset.network.about.inputs=rows"),
            "dataset.network is lenet, which takes rows, but dataset=digits has images; leave dataset.network out, or "
            "choose a network for images",
        ),
    ],
    ids=["rows", "images", "recommended"],
)
def test_a_network_for_other_data_is_refused(words: tuple[str, ...], told: str) -> None:
    assert problems_of(*words) == [told]


def test_a_network_is_not_refused_where_it_fits_or_is_unused_or_unknown() -> None:
    assert plan_of("dataset=cardio", *MLP)
    assert plan_of("dataset=digits", *LENET)
    assert plan_of("dataset=digits", "method=iforest_raw", *MLP)
    settings = settings_of("dataset=digits", *MLP)
    # As a data set and a network of a user may be.
    del settings["dataset"]["about"]["inputs"]
    assert make_plan(settings)
    settings = settings_of("dataset=digits", *MLP)
    del settings["network"]["about"]["inputs"]
    assert make_plan(settings)
