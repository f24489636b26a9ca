"""Intervals over seeds and tasks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.intervals import bootstrap_interval


def test_the_mean_and_the_counts_are_those_of_the_table():
    value = bootstrap_interval(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert value.mean == 3.0
    assert (value.num_seeds, value.num_tasks) == (2, 3)
    assert value.low < 3.0 < value.high


def test_equal_values_leave_no_doubt():
    value = bootstrap_interval(np.full((3, 4), -7.0))
    assert (value.low, value.mean, value.high) == (-7.0, -7.0, -7.0)
    assert not value.includes_zero


def test_one_seed_has_the_interval_of_the_mean_over_tasks():
    row = np.random.default_rng(0).normal(5.0, 2.0, (1, 400))
    value = bootstrap_interval(row, samples=4000)
    half = 1.96 * row.std() / np.sqrt(400)
    assert value.low == pytest.approx(row.mean() - half, abs=0.1 * half)
    assert value.high == pytest.approx(row.mean() + half, abs=0.1 * half)


def test_what_all_seeds_share_does_not_average_out():
    # Tasks differ by 10, seeds by nothing: a draw of single cells would give half the width.
    table = np.repeat(np.random.default_rng(1).normal(0.0, 10.0, (1, 30)), 4, axis=0)
    alone, together = bootstrap_interval(table[:1]), bootstrap_interval(table)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_seeds_that_disagree_widen_the_interval():
    agree = bootstrap_interval(np.ones((2, 50)))
    differ = bootstrap_interval(np.repeat([[-1.0], [3.0]], 50, axis=1))
    assert agree.high - agree.low == 0.0
    assert (differ.low, differ.high) == (-1.0, 3.0)
    assert differ.includes_zero


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        tasks, seeds = rng.normal(0, 3.0, (1, 20)), rng.normal(0, 1.0, (8, 1))
        value = bootstrap_interval(tasks + seeds + rng.normal(0, 1.0, (8, 20)), samples=300)
        hits += value.low <= 0.0 <= value.high
    assert 0.85 <= hits / 200 <= 1.0


def test_missing_values_are_left_out():
    value = bootstrap_interval(np.array([[1.0, np.nan, 3.0], [np.nan] * 3]))
    assert value.mean == 2.0
    assert (value.num_seeds, value.num_tasks) == (1, 2)
    assert np.isfinite([value.low, value.high]).all()


def test_one_value_has_no_interval_and_none_has_nothing():
    single = bootstrap_interval(np.array([[4.0]]))
    assert single.mean == 4.0
    assert not single.known
    assert single.includes_zero
    nothing = bootstrap_interval(np.full((2, 3), np.nan))
    assert np.isnan(nothing.mean)
    assert nothing.num_seeds == 0


def test_the_same_table_gives_the_same_interval_and_more_confidence_a_wider_one():
    table = np.random.default_rng(3).normal(size=(3, 10))
    assert bootstrap_interval(table) == bootstrap_interval(table)
    narrow, wide = (bootstrap_interval(table, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("values", "confidence"), [(np.zeros(3), 0.95), (np.zeros((2, 2)), 1.0), (np.zeros((2, 2)), 0)]
)
def test_wrong_arguments_are_refused(values, confidence):
    with pytest.raises(ValueError, match="expected"):
        bootstrap_interval(values, confidence=confidence)
