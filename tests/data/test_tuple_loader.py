"""Pairs and triplets: which kinds they have, distinct members, shared by ranks and stacked as alone."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_balanced_loader import labels

from deepsad_pl.data.batch_loader import batch_sizes
from deepsad_pl.data.tuple_loader import PairLoader, TripletLoader, TupleLoader
from deepsad_pl.stacked.replica_loader import StackedLoader

quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
KINDS = pytest.mark.parametrize("kind", [PairLoader, TripletLoader])


def loader(
    kind: type[TupleLoader], samples: int, anomalies: int, batch_size: int = 10, start: int = 0, **options: int
) -> TupleLoader:
    rows, semi_y = torch.arange(samples), labels(samples, anomalies)
    return kind((rows + start)[:, None].float(), semi_y, rows % 2, batch_size=batch_size, **options)


@quick
@given(samples=st.integers(4, 200), anomalies=st.integers(1, 3), batch_size=st.integers(2, 60), seed=seeds)
def test_half_of_the_pairs_have_no_anomaly_a_quarter_one_and_a_quarter_two(
    samples: int, anomalies: int, batch_size: int, seed: int
) -> None:
    batches = list(loader(PairLoader, samples, anomalies, batch_size, seed=seed))
    assert [len(x) for x, *_ in batches] == batch_sizes(samples, batch_size)
    x, semi_y, y, idx = (torch.cat(parts) for parts in zip(*batches, strict=True))
    pairs, place = x[..., 0].long(), torch.arange(samples) % 4
    assert torch.equal(semi_y, -torch.tensor([0, 0, 1, 2])[place])
    assert torch.equal((labels(samples, anomalies)[pairs] == -1).sum(dim=1), -semi_y)
    # In a mixed pair the anomaly is the second.
    assert (labels(samples, anomalies)[pairs[place == 2, 0]] >= 0).all()
    assert torch.equal(pairs[:, 0], idx) and torch.equal(y, idx % 2)
    same = pairs[:, 0] == pairs[:, 1]
    assert not same[(place < 3) & (samples - anomalies > 1)].any()
    assert same[place == 3].all() if anomalies == 1 else not same[place == 3].any()


def test_each_pair_is_as_likely_as_any_other() -> None:
    batches, drawn = loader(PairLoader, 40, 4, seed=0), torch.zeros(40, 40)
    for epoch in range(400):
        batches.set_epoch(epoch)
        order = batches.order()
        drawn += torch.bincount(order[:, 0] * 40 + order[:, 1], minlength=1600).view(40, 40)
    both = drawn[:4, :4][~torch.eye(4, dtype=torch.bool)]
    # A quarter of 16,000 pairs, of 12 kinds; four standard deviations.
    assert both.tolist() == pytest.approx([4000 / 12] * 12, abs=4 * (4000 / 12) ** 0.5)


def test_triplets_are_two_different_samples_and_an_anomaly() -> None:
    for x, semi_y, _, _ in loader(TripletLoader, 50, 2, seed=1):
        rows = x[..., 0].long()
        assert (rows[:, :2] >= 2).all() and (rows[:, 2] < 2).all()
        assert (rows[:, 0] != rows[:, 1]).all() and (semi_y == -1).all()


@KINDS
def test_the_draws_depend_on_seed_and_epoch_alone(kind: type[TupleLoader]) -> None:
    orders = set()
    for seed in range(4):
        for epoch in range(4):
            batches, other = loader(kind, 50, 3, seed=seed), loader(kind, 50, 3, 7, seed=seed)
            other.set_epoch(epoch + 1)
            list(other)
            for one in (batches, other):
                one.set_epoch(epoch)
            assert torch.equal(batches.order(), other.order())
            orders.add(tuple(batches.order().flatten().tolist()))
    assert len(orders) == 16


@KINDS
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_global_batch(kind: type[TupleLoader], world_size: int) -> None:
    whole = [x.tolist() for x, *_ in loader(kind, 47, 3, seed=2)]
    ranks = [
        [x.tolist() for x, *_ in loader(kind, 47, 3, seed=2, rank=i, world_size=world_size)] for i in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole


@KINDS
def test_each_replica_of_a_stack_gets_the_tuples_of_its_own_loader(kind: type[TupleLoader]) -> None:
    def loaders() -> list[TupleLoader]:
        return [loader(kind, 61, 3, 10, seed=0), loader(kind, 40, 2, 9, start=61, seed=1)]

    single, stacked = loaders(), StackedLoader(loaders())
    for one in (*single, stacked):
        one.set_epoch(2)
    expected = [list(one) for one in single]
    for step, (x, semi_y, rows) in enumerate(batch for chunk in stacked for batch in chunk):
        for k, size in enumerate(rows.sizes):
            assert torch.equal(x[k, :size], expected[k][step][0])
            assert torch.equal(semi_y[k, :size], expected[k][step][1])


def test_loaders_of_pairs_and_triplets_have_no_stack_in_common() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        StackedLoader([loader(PairLoader, 20, 2), loader(TripletLoader, 20, 2)])
