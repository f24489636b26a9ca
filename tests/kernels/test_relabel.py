"""Reward labels against a forward pass over concatenated inputs, on any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.mlp import mlp_forward, num_parameters
from kernels.relabel import decode_rewards


def make(num, episodes=3, obs_dim=5, action_dim=2, latent_dim=4, seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.array([obs_dim + action_dim + latent_dim, 64, 64, 1], dtype=np.int64)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    params = 0.1 * normal(num_parameters(sizes))
    rows = rng.integers(0, episodes, num)
    return (
        params,
        sizes,
        normal(num, obs_dim),
        normal(num, action_dim),
        normal(episodes, latent_dim),
        rows,
    )


def label(arguments, **options):
    out = np.full(len(arguments[2]), np.nan, dtype=np.float32)
    decode_rewards(*arguments, out, **options)
    return out


@given(num=st.integers(0, 200), episodes=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_equals_the_network_on_concatenated_rows(num, episodes, seed):
    arguments = make(num, episodes, seed=seed)
    params, sizes, obs, action, latent, rows = arguments
    expected = np.empty((num, 1), dtype=np.float32)
    mlp_forward(params, sizes, np.concatenate([obs, action, latent[rows]], axis=1), expected)
    np.testing.assert_array_equal(label(arguments), expected[:, 0])


@pytest.mark.parametrize("num", [0, 1, 2, 63, 64, 65, 1000])
def test_bits_do_not_depend_on_threads(num):
    arguments = make(num)
    expected = label(arguments)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(label(arguments, num_threads=threads), expected)


def test_no_rows_and_no_episodes():
    params, sizes, obs, action, latent, rows = make(0)
    assert label((params, sizes, obs, action, latent[:0], rows)).size == 0


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("episode", [-1, 3])
def test_episode_out_of_range(threads, episode):
    arguments = make(100)
    arguments[-1][99] = episode
    with pytest.raises(ValueError, match="row_episode"):
        label(arguments, num_threads=threads)


def test_wrong_shapes_and_dtypes():
    params, sizes, obs, action, latent, rows = make(10)
    out = np.empty(10, np.float32)
    with pytest.raises(ValueError, match="num_threads"):
        decode_rewards(params, sizes, obs, action, latent, rows, out, num_threads=0)
    with pytest.raises(ValueError, match="lengths"):
        decode_rewards(params, sizes, obs, action[:-1], latent, rows, out)
    with pytest.raises(ValueError, match="lengths"):
        decode_rewards(params, sizes, obs, action, latent, rows, out[:-1])
    with pytest.raises(ValueError, match="first width"):
        decode_rewards(params, sizes, obs, action, latent[:, 1:].copy(), rows, out)
    with pytest.raises(ValueError, match="params"):
        decode_rewards(params[1:], sizes, obs, action, latent, rows, out)
    wide = np.array([11, 2])
    with pytest.raises(ValueError, match="last width"):
        decode_rewards(np.zeros(24, np.float32), wide, obs, action, latent, rows, out)
    with pytest.raises(TypeError):
        decode_rewards(params, sizes, obs, action, latent, rows.astype(np.int32), out)
    with pytest.raises(TypeError):
        decode_rewards(params, sizes, obs, action, latent, rows, out.astype(np.float64))
