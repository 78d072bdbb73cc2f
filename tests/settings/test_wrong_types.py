"""A setting of a wrong type is one sentence, whatever else relies on it."""

from pathlib import Path

import pytest
from planned import problems_of, settings_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.plan import make_plan

TABLE = ("dataset=table", "dataset.label=label", "dataset.normal=[normal]")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("dataset.classes=5", ["dataset.classes is 5; it must be a list, such as 'dataset.classes=[5]'"]),
        (
            "dataset.network=5",
            ["dataset.network is 5; it must be a mapping with _target_, such as that of network=mlp"],
        ),
    ],
)
def test_settings_of_images(word: str, told: list[str]) -> None:
    assert problems_of(word) == told


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("dataset.path=5", "dataset.path is 5, which is not a file; give a CSV, TSV, Parquet, .npz or .mat file"),
        ("dataset.path=[]", "dataset.path is an empty list; name at least one file"),
        ("dataset.label=[a,b]", "dataset.label is ['a', 'b']; it must be a string"),
        ("dataset.test_path={a: 1}", "dataset.test_path is {'a': 1}; it must be a string"),
    ],
)
def test_settings_of_tables(word: str, told: str, tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text("a,label\n1,normal\n2,\n")
    assert told in problems_of(*TABLE, f"dataset.path={table}", word)


@pytest.mark.parametrize("fact", ["unused", "needs_extra", "style", "needs_unit_interval", "from_test"])
def test_facts_that_are_mappings(fact: str) -> None:
    settings = settings_of()
    settings["method"] = {**settings["method"], "about": {**settings["method"]["about"], fact: 4}}
    with pytest.raises(DeepSADError, match=rf"^method\.about\.{fact} is 4; it must be a mapping of names to values$"):
        make_plan(settings)


def test_a_decoder_is_a_mapping() -> None:
    (told,) = problems_of("+dataset.network.decoder=5")
    assert told == "dataset.network.decoder is 5; it must be a mapping of names to values"
