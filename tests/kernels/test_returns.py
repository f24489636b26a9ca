"""Returns of episodes against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.returns import episode_returns


@given(
    lengths=st.lists(st.integers(0, 20), max_size=8),
    tail=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_equals_numpy(lengths, tail, seed):
    ends = np.cumsum(lengths, dtype=np.int64)
    reward = np.random.default_rng(seed).normal(size=sum(lengths) + tail).astype(np.float32)
    out = np.full(len(lengths), np.nan)
    episode_returns(reward, ends, out)
    parts = np.split(reward.astype(np.float64), ends)[: len(lengths)]
    np.testing.assert_allclose(out, [p.sum() for p in parts], rtol=1e-12, atol=1e-12)


def test_nan_stays_in_its_episode():
    out = np.empty(3)
    episode_returns(np.array([1, np.nan, 2, 3], np.float32), np.array([1, 2, 4]), out)
    np.testing.assert_array_equal(out, [1, np.nan, 5])


@pytest.mark.parametrize("ends", [[2, 1], [5], [-1]])
def test_bad_ends(ends):
    with pytest.raises(ValueError, match="episode_ends"):
        episode_returns(np.ones(4, np.float32), np.array(ends), np.empty(len(ends)))


def test_wrong_shapes_and_dtypes():
    reward, ends = np.ones(4, np.float32), np.array([4])
    with pytest.raises(ValueError, match="out"):
        episode_returns(reward, ends, np.empty(2))
    with pytest.raises(TypeError):
        episode_returns(reward.astype(np.float64), ends, np.empty(1))
    with pytest.raises(TypeError):
        episode_returns(reward, ends, np.empty(1, np.float32))
