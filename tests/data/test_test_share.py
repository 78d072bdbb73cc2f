"""The share of a table that is test data, and the split that ADBench makes."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from tiny_data import table_of, write_adbench

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.sources import adbench_source, split_rows, split_test, table_set, table_source


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(2, 200), min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_three_tenths_are_the_split_of_adbench(sizes: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    assume(ceil(0.3 * len(labels)) >= len(sizes))
    rows = np.arange(len(labels))
    expected = train_test_split(rows, labels, test_size=0.3, shuffle=True, stratify=labels, random_state=seed)
    train, test = split_test(labels, seed, 0.3)
    assert train.tolist() == sorted(expected[0]) and test.tolist() == sorted(expected[1])
    assert len(test) == ceil(0.3 * len(labels))


def test_the_default_is_the_split_without_the_setting() -> None:
    x, labels = table_of(101, 4, 20)
    train, test = split_rows(labels, 3)
    source = table_source(x, labels, 3, "zscore", 0.4)
    assert source.labels_train.tolist() == labels[train].tolist()
    assert source.x_test.tolist() == table_source(x, labels, 3, "zscore").x_test.tolist()
    assert len(source.x_test) == len(test)


def test_the_columns_are_scaled_by_the_training_part() -> None:
    x, labels = table_of(200, 4, 20)
    source = table_source(x, labels, 0, "zscore", 0.3)
    assert (len(source.x_train), len(source.x_test)) == (140, 60)
    assert np.abs(source.x_train.mean(axis=0)).max() < 1e-6


def test_tables_of_adbench_and_the_toy_data_take_it(tmp_path: Path) -> None:
    write_adbench(tmp_path, "vowels", rows=100, outliers=20)
    source = adbench_source("vowels", data_dir=tmp_path, seed=0, test_share=0.3)
    assert (np.bincount(source.labels_train).tolist(), np.bincount(source.labels_test).tolist()) == ([56, 14], [24, 6])
    halves = table_set("toy", data_dir=tmp_path, seed=0, test_share=0.5)
    assert len(halves.x_train) == len(halves.x_test)


def test_a_share_that_leaves_too_few_test_rows_is_refused() -> None:
    with pytest.raises(
        DeepSADError, match=r"100 rows cannot be split by class with dataset.test_share=0.01: .* choose"
    ):
        split_test(np.repeat([0, 1], 50), 0, 0.01)
