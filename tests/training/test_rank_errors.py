"""An error of a rank itself is passed on as it is; what is only the echo of another rank's end is a sentence."""

import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.os_errors import in_sentences
from deepsad_pl.training import rank_processes
from deepsad_pl.training.rank_processes import ranks_together


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other ranks are started."""
    monkeypatch.setattr(rank_processes, "_cluster_starts_ranks", lambda _: True)


def test_an_error_of_the_rank_itself_stays_what_it_is() -> None:
    error = RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError) as caught, in_sentences(), ranks_together(2, 1):
        raise error
    assert caught.value is error
    assert error.__cause__ is None


def test_a_connection_that_breaks_for_a_reason_of_its_own_says_it() -> None:
    told = r"has ended, or cannot be reached \(NCCL error: Duplicate GPU detected\)"
    with pytest.raises(DeepSADError, match=told), ranks_together(2, 1):
        raise RuntimeError("NCCL error: Duplicate GPU detected\nand more")
