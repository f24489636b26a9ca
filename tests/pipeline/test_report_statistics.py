"""The statistics that compare methods, on numbers worked out by hand and against their sources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, trim_mean

from pipeline.report_statistics import (
    improvement,
    improvement_interval,
    iqm,
    iqm_interval,
    mean_interval,
    percentiles,
    profile,
    resample,
    seed_intervals,
)


def test_the_iqm_leaves_out_a_quarter_at_either_end():
    assert iqm(np.array([100.0, 1.0, 2.0, -100.0])) == 1.5
    assert iqm(np.array([5.0, 1.0, 2.0, 3.0, 4.0])) == 3.0  # a quarter of 5 is 1: 2, 3, 4
    assert iqm(np.array([7.0])) == 7.0
    assert iqm(np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 9.0, 9.0])) == 0.75  # 0, 1, 1, 1


def test_the_iqm_counts_only_what_is_known():
    assert iqm(np.array([np.nan, 100.0, 1.0, 2.0, -100.0, np.nan])) == 1.5
    assert np.isnan(iqm(np.array([np.nan, np.nan])))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
@settings(deadline=None)
def test_the_iqm_is_the_trimmed_mean_of_rliable(values):
    # rliable.metrics.aggregate_iqm is scipy.stats.trim_mean(scores, proportiontocut=0.25).
    expected = trim_mean(np.array(values), proportiontocut=0.25)
    np.testing.assert_allclose(iqm(np.array(values)), expected, atol=1e-9)


def test_improvement_counts_pairs_of_seeds():
    first = np.array([[1.0, 5.0], [3.0, 5.0]])
    second = np.array([[2.0, 5.0], [0.0, 4.0]])
    # Task 0: 1 beats 0, 3 beats 2 and 0: 3 of 4. Task 1: two ties, two wins: 3 of 4.
    assert improvement(first, second) == 0.75
    assert improvement(second, first) == 0.25
    assert improvement(first, first) == 0.5


def test_improvement_may_have_unequal_seeds_and_leaves_out_unknown_tasks():
    first = np.array([[1.0, np.nan]])
    second = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert improvement(first, second) == pytest.approx((1.0 + 0.5) / 4)
    assert np.isnan(improvement(first[:, 1:], second[:, 1:]))


def test_improvement_is_the_mann_whitney_statistic_of_rliable():
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 5, (2, 6, 7)).astype(np.float64)
    # rliable.metrics.probability_of_improvement: U of each task over the pairs, then the mean.
    share = [
        mannwhitneyu(first[:, t], second[:, t], alternative="greater").statistic / 36
        for t in range(7)
    ]
    assert improvement(first, second) == pytest.approx(np.mean(share))


def test_a_profile_is_the_share_above():
    values = np.array([1.0, 2.0, 2.0, 4.0, np.nan])
    found = profile(values, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(found, [1.0, 0.75, 0.25, 0.25, 0.0])


def test_one_draw_of_seeds_serves_all_tasks():
    # Seed 0 scores 0 everywhere, seed 1 scores 1: a resample has seeds 00, 01, 10 or 11.
    scores = np.zeros((2, 50, 1))
    scores[1] = 1.0
    drawn = resample(scores, 400).drawn
    assert (drawn == drawn[:, :, :1]).all()
    means = drawn.mean(axis=(1, 2))
    assert set(means) == {0.0, 0.5, 1.0}
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.1)
    # Were they drawn task by task, no mean of 50 tasks would reach the ends.
    value = iqm_interval(resample(scores, 400), 0.95)
    assert (value.mean, value.low, value.high) == (0.5, 0.0, 1.0)


def test_the_interval_of_a_mean_keeps_the_tasks():
    scores = np.array([[[0.0], [10.0]], [[2.0], [12.0]]])
    value = mean_interval(resample(scores, 400), 0.95)
    assert (value.mean, value.low, value.high) == (6.0, 5.0, 7.0)
    assert not mean_interval(resample(scores[:1], 10), 0.95).known


def test_tasks_are_strata():
    # Tasks differ by thousands, seeds and repeats do not: nothing is uncertain.
    scores = np.tile(np.array([0.0, 1000.0, 5000.0, 9000.0])[:, None], (3, 1, 2))
    value = iqm_interval(resample(scores, 100), 0.95)
    assert (value.mean, value.low, value.high) == (3000.0, 3000.0, 3000.0)
    assert (value.num_seeds, value.num_tasks) == (3, 4)


def test_repeats_are_drawn_within_a_seed_and_task():
    scores = np.array([[[0.0, 2.0]]])  # means of two draws: 0, 1, 1 or 2
    drawn = resample(scores, 4000)
    values, counts = np.unique(drawn.by_seed, return_counts=True)
    assert values.tolist() == [0.0, 1.0, 2.0]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    (value,) = seed_intervals(drawn, 0.95)
    assert (value.mean, value.low, value.high) == (1.0, 0.0, 2.0)


def test_a_single_value_has_no_interval():
    drawn = resample(np.ones((1, 3, 1)), 50)
    assert not iqm_interval(drawn, 0.95).known
    assert not seed_intervals(drawn, 0.95)[0].known
    assert not improvement_interval(drawn, drawn, 0.95).known
    two = resample(np.ones((2, 3, 1)), 50)
    assert iqm_interval(two, 0.95).known
    assert not seed_intervals(two, 0.95)[0].known  # one repeat each


def test_missing_repeats_are_left_out():
    scores = np.array([[[1.0, np.nan], [3.0, 5.0]]])
    assert resample(scores, 10).point.tolist() == [[1.0, 4.0]]


def test_streams_draw_apart_and_again_alike():
    scores = np.random.default_rng(0).normal(size=(4, 3, 2))
    one, same, other = (resample(scores, 20, stream).drawn for stream in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_interval_of_an_improvement_holds_it():
    low, high = np.arange(4.0)[:, None, None], np.arange(4.0)[:, None, None] + 2.5
    value = improvement_interval(resample(high, 500), resample(low, 500, 1), 0.9)
    # 2.5 beats 0, 1, 2; 3.5, 4.5 and 5.5 beat all four: 15 of 16.
    assert value.mean == 15 / 16
    assert 0.5 < value.low < 15 / 16 <= value.high == 1.0


def test_percentiles_are_those_of_the_resamples():
    low, high = percentiles(np.arange(101.0)[:, None], 0.9)
    np.testing.assert_allclose([low[0], high[0]], [5.0, 95.0])


@pytest.mark.parametrize("shape", [(2, 3), (0, 3, 2), (2, 0, 2)])
def test_what_is_no_table_of_scores_is_refused(shape):
    with pytest.raises(ValueError, match=r"\[seeds, tasks, repeats\]"):
        resample(np.zeros(shape), 10)
