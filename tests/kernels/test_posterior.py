"""Products of Gaussians and their divergence against NumPy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.posterior import kl_to_prior, product_of_gaussians


def product(encoded, starts, dim):
    shape = (len(starts) - 1, dim)
    mean, variance = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    product_of_gaussians(encoded, np.asarray(starts, dtype=np.int64), mean, variance)
    return mean, variance


def oracle(encoded, starts, dim):
    means, variances = [], []
    for first, last in itertools.pairwise(starts):
        rows = encoded[first:last].astype(np.float64)
        if len(rows) == 0:
            means.append(np.zeros(dim))
            variances.append(np.ones(dim))
            continue
        factor = np.maximum(np.logaddexp(0, rows[:, dim:]), 1e-7)
        variances.append(1 / (1 / factor).sum(axis=0))
        means.append(variances[-1] * (rows[:, :dim] / factor).sum(axis=0))
    return np.array(means).reshape(-1, dim), np.array(variances).reshape(-1, dim)


@given(
    sizes=st.lists(st.integers(0, 70), max_size=6),
    dim=st.integers(1, 6),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_equals_numpy(sizes, dim, scale, seed):
    starts = np.cumsum([0, *sizes])
    rng = np.random.default_rng(seed)
    encoded = scale * rng.normal(size=(starts[-1], 2 * dim)).astype(np.float32)
    encoded = encoded.astype(np.float32)
    mean, variance = product(encoded, starts, dim)
    expected = oracle(encoded, starts, dim)
    # Everything inside is float64: what differs is the rounding to float32.
    np.testing.assert_allclose(mean, expected[0], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-7)


def test_worked_example():
    # softplus(log(e - 1)) = 1 and softplus(log(e^3 - 1)) = 3: 1/v = 1 + 1/3, m = v (2 - 4/3).
    spread = np.log(np.expm1([1.0, 3.0]))
    encoded = np.array([[2.0, spread[0]], [-4.0, spread[1]]], dtype=np.float32)
    mean, variance = product(encoded, [0, 2], 1)
    np.testing.assert_allclose(variance, [[0.75]], rtol=1e-6)
    np.testing.assert_allclose(mean, [[0.5]], rtol=1e-6)


def test_empty_context_is_the_prior():
    mean, variance = product(np.ones((2, 4), np.float32), [0, 0, 2, 2], 2)
    np.testing.assert_array_equal(mean[[0, 2]], 0)
    np.testing.assert_array_equal(variance[[0, 2]], 1)
    mean, variance = product(np.empty((0, 4), np.float32), [0, 0], 2)
    np.testing.assert_array_equal(variance, 1)


def test_extreme_spread_is_clamped_and_nan_is_not_hidden():
    encoded = np.array([[3.0, -200.0], [1.0, 500.0], [1.0, np.nan]], dtype=np.float32)
    mean, variance = product(encoded, [0, 1, 2, 3], 1)
    np.testing.assert_allclose(variance[:2, 0], [1e-7, 500.0], rtol=1e-6)
    np.testing.assert_allclose(mean[:2, 0], [3.0, 1.0], rtol=1e-6)
    assert np.isnan(variance[2, 0])
    assert np.isnan(mean[2, 0])


def test_groups_do_not_touch_each_other():
    encoded = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    together = product(encoded, [0, 11, 12, 30], 2)
    alone = product(encoded[11:12], [0, 1], 2)
    np.testing.assert_array_equal(alone[0][0], together[0][1])
    np.testing.assert_array_equal(alone[1][0], together[1][1])


@pytest.mark.parametrize(
    ("starts", "message"),
    [([0, 3], "outside"), ([-1, 2], "outside"), ([2, 0, 2], "decreasing"), ([], "one more")],
)
def test_bad_starts(starts, message):
    num = max(len(starts) - 1, 1)
    out = np.empty((num, 2), np.float32), np.empty((num, 2), np.float32)
    with pytest.raises(ValueError, match=message):
        product_of_gaussians(np.ones((2, 4), np.float32), np.array(starts, np.int64), *out)


def test_wrong_shapes_and_dtypes():
    encoded, starts = np.ones((2, 4), np.float32), np.array([0, 2])
    out = np.empty((1, 2), np.float32)
    with pytest.raises(ValueError, match="widths"):
        product_of_gaussians(encoded[:, :3].copy(), starts, out, out.copy())
    with pytest.raises(ValueError, match="widths"):
        product_of_gaussians(encoded, starts, out, np.empty((2, 2), np.float32))
    with pytest.raises(TypeError):
        product_of_gaussians(encoded, starts.astype(np.int32), out, out.copy())
    with pytest.raises(ValueError, match="shapes"):
        kl_to_prior(out, np.empty((2, 2), np.float32), np.empty(1, np.float32))
    with pytest.raises(ValueError, match="shapes"):
        kl_to_prior(out, out, np.empty(2, np.float32))


@given(num=st.integers(0, 9), dim=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_kl(num, dim, seed):
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(num, dim)).astype(np.float32)
    variance = np.exp(rng.normal(size=(num, dim))).astype(np.float32)
    out = np.empty(num, dtype=np.float32)
    kl_to_prior(mean, variance, out)
    m, v = mean.astype(np.float64), variance.astype(np.float64)
    np.testing.assert_allclose(out, 0.5 * (v + m**2 - 1 - np.log(v)).sum(axis=1), rtol=1e-7)


def test_kl_of_the_prior_is_zero():
    out = np.full(3, np.nan, dtype=np.float32)
    kl_to_prior(np.zeros((3, 5), np.float32), np.ones((3, 5), np.float32), out)
    np.testing.assert_array_equal(out, 0)
