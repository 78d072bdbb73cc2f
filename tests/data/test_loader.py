"""Batches: number, sizes, order, the part of each rank, and scaling."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsad_pl.data.batch_loader import BatchLoader, batch_sizes

quick = settings(max_examples=80, deadline=None)
sizes = st.integers(1, 500)
seeds = st.integers(0, 2**64)


def loader(samples: int, batch_size: int, **kwargs: int | float | None) -> BatchLoader:
    rows = torch.arange(samples)
    return BatchLoader(rows[:, None].float(), rows % 3 - 1, rows % 2, batch_size=batch_size, **kwargs)


def order(batches: BatchLoader) -> list[int]:
    return torch.cat([idx for *_, idx in batches]).tolist()


@quick
@given(samples=st.integers(1, 10_000), batch_size=sizes)
def test_batches_are_few_and_of_nearly_equal_size(samples: int, batch_size: int) -> None:
    found = batch_sizes(samples, batch_size)
    assert len(found) == (samples + batch_size - 1) // batch_size
    assert sum(found) == samples
    assert max(found) - min(found) <= 1
    assert max(found) <= batch_size


@quick
@given(samples=sizes, batch_size=sizes, seed=st.none() | seeds)
def test_length_and_batch_sizes_agree_with_the_iteration(samples: int, batch_size: int, seed: int | None) -> None:
    batches = loader(samples, batch_size, seed=seed)
    found = [len(idx) for *_, idx in batches]
    assert found == batch_sizes(samples, batch_size)
    assert len(batches) == len(found)


@quick
@given(samples=sizes, batch_size=sizes, seed=seeds, epoch=st.integers(0, 10**6))
def test_an_epoch_takes_every_index_once(samples: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = loader(samples, batch_size, seed=seed)
    batches.set_epoch(epoch)
    assert sorted(order(batches)) == list(range(samples))


@quick
@given(seed=seeds, epoch=st.integers(0, 1000), batch_size=sizes, other=sizes, before=st.integers(0, 3))
def test_the_order_depends_on_seed_and_epoch_alone(
    seed: int, epoch: int, batch_size: int, other: int, before: int
) -> None:
    first, second = loader(100, batch_size, seed=seed), loader(100, other, seed=seed)
    for i in range(before):
        second.set_epoch(i)
        list(second)
    torch.manual_seed(before)
    for batches in (first, second):
        batches.set_epoch(epoch)
    assert order(first) == order(second)


def test_each_epoch_and_seed_has_its_own_order() -> None:
    orders = set()
    for seed in range(8):
        batches = loader(50, 10, seed=seed)
        for epoch in range(8):
            batches.set_epoch(epoch)
            orders.add(tuple(order(batches)))
    assert len(orders) == 64


def test_the_order_stays_until_a_new_epoch_is_set() -> None:
    batches = loader(50, 10, seed=0)
    assert order(batches) == order(batches)


def test_shuffling_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    list(loader(50, 10, seed=0))
    assert torch.equal(torch.rand(1), expected)


def test_without_a_seed_the_data_keep_their_order() -> None:
    batches = loader(50, 7)
    batches.set_epoch(3)
    assert order(batches) == list(range(50))


@quick
@given(samples=sizes, batch_size=sizes, seed=seeds)
def test_a_batch_holds_the_rows_of_its_indices(samples: int, batch_size: int, seed: int) -> None:
    for x, semi_y, y, idx in loader(samples, batch_size, seed=seed):
        assert torch.equal(x[:, 0].long(), idx)
        assert torch.equal(semi_y, idx % 3 - 1)
        assert torch.equal(y, idx % 2)


@quick
@given(samples=sizes, batch_size=sizes, seed=st.none() | seeds, world_size=st.integers(1, 5))
def test_ranks_share_every_global_batch_without_padding(
    samples: int, batch_size: int, seed: int | None, world_size: int
) -> None:
    whole = [idx.tolist() for *_, idx in loader(samples, batch_size, seed=seed)]
    ranks = [
        [idx.tolist() for *_, idx in loader(samples, batch_size, seed=seed, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole
    for parts in zip(*ranks, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("scale", [16.0, 255.0])
def test_pixels_become_floats_between_0_and_1(scale: float) -> None:
    pixels = torch.arange(int(scale) + 1, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    ((x, *_),) = BatchLoader(pixels, labels, labels, batch_size=1000, scale=scale)
    assert x.dtype == torch.float32
    assert torch.equal(x.flatten(), torch.arange(scale + 1) / scale)
    assert pixels.dtype == torch.uint8


def test_rows_are_used_unchanged() -> None:
    rows = torch.tensor([[-3.5, 1e6], [0.0, 2.0]])
    ((x, *_),) = BatchLoader(rows, torch.zeros(2), torch.zeros(2), batch_size=2)
    assert torch.equal(x, rows)


def test_scaling_does_not_change_the_data() -> None:
    rows = torch.full((4, 1), 2.0)
    batches = BatchLoader(rows, torch.zeros(4), torch.zeros(4), batch_size=4, scale=2.0)
    for _ in range(2):
        ((x, *_),) = batches
        assert x.tolist() == [[1.0]] * 4
