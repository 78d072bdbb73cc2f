"""A run folder's name has the class names, cut so that every file system takes it."""

import pytest

from deepsad_pl.data.scenario import Scenario
from deepsad_pl.experiment.plan import _folder_slug

# With as many parts and digits as there can be.
LONG = Scenario((0,), (1,), 1.23457e-05, 1.23457e-05, 1.23457e-05, 2**32 - 1, gamma_e=1.23457e-05, gamma_en=1.23457e-05)
SHORT = Scenario((0,), (1,), 0.05, 0.0, 0.0, 0)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u7570", "\U0001d538"], ids=["1", "2", "3", "4"])
def test_names_of_classes_are_cut_at_whole_letters(letter: str) -> None:
    slug = _folder_slug(LONG, (letter * 60, letter * 60))
    # The hash and its hyphen follow.
    assert len(slug.encode()) + 9 <= 255
    assert set(slug.partition("-known_")[0].removeprefix("normal_")) == {letter}


def test_names_that_fit_are_cut_at_40_letters() -> None:
    assert (
        _folder_slug(SHORT, ("a" * 41, "\u00e9" * 41)) == f"normal_{'a' * 40}-known_{chr(233) * 40}-gamma_l_0.05-seed_0"
    )
