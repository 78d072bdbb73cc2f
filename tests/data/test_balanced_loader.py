"""Balanced batches: half labeled anomalies, drawn by seed and epoch alone, shared by all ranks."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.balanced_loader import BalancedLoader, require_both_kinds
from deepsad_pl.data.batch_loader import BatchLoader, batch_sizes

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def labels(samples: int, anomalies: int) -> Tensor:
    """Known anomalies first, then in turn unlabeled and known normal samples."""
    return torch.where(torch.arange(samples) < anomalies, -1, torch.arange(samples) % 2)


def loader(samples: int, anomalies: int, batch_size: int = 10, **options: int) -> BalancedLoader:
    rows, semi_y = torch.arange(samples), labels(samples, anomalies)
    return BalancedLoader(rows[:, None].float(), semi_y, rows % 2, batch_size=batch_size, **options)


@quick
@given(samples=st.integers(4, 300), anomalies=st.integers(1, 3), batch_size=st.integers(2, 60), seed=seeds)
def test_half_of_every_batch_is_labeled_anomalies(samples: int, anomalies: int, batch_size: int, seed: int) -> None:
    batches = list(loader(samples, anomalies, batch_size, seed=seed))
    assert [len(idx) for *_, idx in batches] == batch_sizes(samples, batch_size)
    for x, semi_y, y, idx in batches:
        assert abs(2 * int((semi_y == -1).sum()) - len(idx)) <= 1
        assert torch.equal(semi_y, labels(samples, anomalies)[idx])
        assert torch.equal(x[:, 0].long(), idx)
        assert torch.equal(y, idx % 2)


def test_both_kinds_are_drawn_uniformly() -> None:
    batches = loader(60, 4, seed=0)
    drawn = torch.zeros(60)
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn += torch.bincount(batches.order(), minlength=60)
    # 6,000 draws of 4 anomalies and of 56 other samples; four standard deviations.
    assert drawn[:4] == pytest.approx(1500, abs=4 * 1500**0.5)
    assert drawn[4:] == pytest.approx(6000 / 56, abs=4 * (6000 / 56) ** 0.5)


def test_the_draws_depend_on_seed_and_epoch_alone() -> None:
    orders = set()
    for seed in range(5):
        for epoch in range(5):
            batches, other = loader(50, 3, seed=seed), loader(50, 3, 7, seed=seed)
            other.set_epoch(epoch + 1)
            list(other)
            for one in (batches, other):
                one.set_epoch(epoch)
            torch.manual_seed(epoch)
            assert torch.equal(batches.order(), other.order())
            assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(epoch)))
            orders.add(tuple(batches.order().tolist()))
    assert len(orders) == 25


def test_the_draws_have_a_stream_of_their_own() -> None:
    rows = torch.arange(40)
    shuffled = BatchLoader(rows[:, None].float(), labels(40, 20), rows, batch_size=10, seed=3).order()
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(loader(40, 20, seed=3).order(), shuffled)
    assert not torch.equal(torch.randperm(40, generator=generator), shuffled)


@quick
@given(samples=st.integers(6, 100), batch_size=st.integers(4, 40), seed=seeds, world_size=st.integers(2, 3))
def test_ranks_share_every_global_batch(samples: int, batch_size: int, seed: int, world_size: int) -> None:
    whole = [idx.tolist() for *_, idx in loader(samples, 2, batch_size, seed=seed)]
    ranks = [
        [idx.tolist() for *_, idx in loader(samples, 2, batch_size, seed=seed, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize(("samples", "anomalies"), [(5, 0), (5, 5)])
def test_one_kind_alone_cannot_be_balanced(samples: int, anomalies: int) -> None:
    with pytest.raises(DeepSADError, match=f"{anomalies} of {samples} training samples are labeled anomalies"):
        loader(samples, anomalies)
    require_both_kinds(labels(6, 1))
