"""Actions against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.mlp import mlp_forward, num_parameters
from kernels.policy import act, act_mean


def make(num, obs_dim=4, latent_dim=3, action_dim=2, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    sizes = np.array([obs_dim + latent_dim, 37, 2 * action_dim], dtype=np.int64)
    params = scale * rng.normal(size=num_parameters(sizes)).astype(np.float32)
    widths = (obs_dim, latent_dim, action_dim)
    obs, latent, noise = (rng.normal(size=(num, w)).astype(np.float32) for w in widths)
    return params.astype(np.float32), sizes, obs, latent, noise


def oracle(params, sizes, obs, latent, noise):
    head = np.empty((len(obs), sizes[-1]), np.float32)
    mlp_forward(params, sizes, np.concatenate([obs, latent], axis=1), head)
    mean, log_std = np.split(head.astype(np.float64), 2, axis=1)
    return np.tanh(mean + np.exp(np.clip(log_std, -20, 2)) * noise), np.tanh(mean)


@given(
    num=st.integers(0, 130),
    widths=st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(1, 17)),
    scale=st.sampled_from([0.1, 1.0, 8.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_equals_numpy(num, widths, scale, seed):
    params, sizes, obs, latent, noise = make(num, *widths, seed=seed, scale=scale)
    sampled, mean = np.empty_like(noise), np.empty_like(noise)
    act(params, sizes, obs, latent, noise, sampled)
    act_mean(params, sizes, obs, latent, mean)
    expected = oracle(params, sizes, obs, latent, noise)
    np.testing.assert_allclose(sampled, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, expected[1], rtol=1e-5, atol=1e-6)
    assert np.abs(sampled).max(initial=0) <= 1


@pytest.mark.parametrize(("bias", "std"), [(5.0, np.exp(2.0)), (-50.0, np.exp(-20.0)), (0.0, 1.0)])
def test_log_std_is_clamped(bias, std):
    params, sizes = np.array([0, 0, 0, 0, 0, bias], np.float32), np.array([2, 2])
    out = np.empty((1, 1), np.float32)
    one = np.ones((1, 1), np.float32)
    act(params, sizes, one, one, 0.1 * one, out)
    np.testing.assert_allclose(out, np.tanh(0.1 * std), rtol=1e-5)


def test_bits_of_a_row_do_not_depend_on_the_batch():
    params, sizes, obs, latent, noise = make(131)
    whole, single = np.empty_like(noise), np.empty_like(noise)
    act(params, sizes, obs, latent, noise, whole)
    for i in range(131):
        row = slice(i, i + 1)
        act(params, sizes, obs[row], latent[row], noise[row], single[row])
    np.testing.assert_array_equal(single, whole)


def test_zero_noise_gives_the_mean():
    params, sizes, obs, latent, noise = make(9)
    sampled, mean = np.empty_like(noise), np.empty_like(noise)
    act(params, sizes, obs, latent, 0 * noise, sampled)
    act_mean(params, sizes, obs, latent, mean)
    np.testing.assert_array_equal(sampled, mean)


def test_nan_stays_in_its_row():
    params, sizes, obs, latent, noise = make(6)
    obs[4, 0] = np.nan
    out = np.empty_like(noise)
    act(params, sizes, obs, latent, noise, out)
    assert np.isnan(out[4]).all()
    assert np.isfinite(np.delete(out, 4, 0)).all()


def test_wrong_shapes_and_dtypes():
    params, sizes, obs, latent, noise = make(5)
    out = np.empty_like(noise)
    with pytest.raises(ValueError, match="numbers of rows"):
        act(params, sizes, obs, latent[:-1], noise, out)
    with pytest.raises(ValueError, match="numbers of rows"):
        act_mean(params, sizes, obs, latent, out[:-1])
    with pytest.raises(ValueError, match="noise"):
        act(params, sizes, obs, latent, noise[:-1], out)
    with pytest.raises(ValueError, match="first width"):
        act(params, sizes, obs[:, :3].copy(), latent, noise, out)
    narrow = np.empty((5, 1), np.float32)
    with pytest.raises(ValueError, match="last width"):
        act(params, sizes, obs, latent, narrow, narrow.copy())
    with pytest.raises(ValueError, match="last width"):
        act_mean(params, sizes, obs, latent, narrow)
    with pytest.raises(ValueError, match="params"):
        act_mean(params[1:], sizes, obs, latent, out)
    with pytest.raises(TypeError):
        act(params, sizes, obs.astype(np.float64), latent, noise, out)
    with pytest.raises(TypeError):
        act_mean(params, sizes, obs[:, ::-1], latent, out)
