"""Advantages behind the inner step of Guided Meta-Policy Search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smac_core.gmps.advantages import inner_advantages
from smac_core.gmps.config import GmpsConfig


def slow_advantages(obs, reward, length, config):
    """The same in loops."""
    rows = [(e, t) for e in range(len(length)) for t in range(length[e])]
    returns = {
        (e, t): sum(config.discount ** (k - t) * reward[e, k] for k in range(t, length[e]))
        for e, t in rows
    }
    features = np.array(
        [
            [*np.clip(obs[e, t], -10, 10), *np.clip(obs[e, t], -10, 10) ** 2]
            + [(t / 100) ** p for p in (1, 2, 3, 0)]
            for e, t in rows
        ],
        dtype=np.float64,
    )
    ridge = config.baseline_ridge * np.eye(features.shape[1])
    target = np.array([returns[row] for row in rows])
    weights = np.linalg.solve(features.T @ features + ridge, features.T @ target)
    value = dict(zip(rows, features @ weights, strict=True))
    error = {
        (e, t): reward[e, t] + config.discount * value.get((e, t + 1), 0.0) - value[e, t]
        for e, t in rows
    }
    factor = config.discount * config.gae_lambda
    raw = np.array(
        [sum(factor ** (k - t) * error[e, k] for k in range(t, length[e])) for e, t in rows]
    )
    out = np.zeros(reward.shape)
    out[tuple(zip(*rows, strict=True))] = (raw - raw.mean()) / raw.std()
    return out * reward.size / len(rows)


@pytest.mark.parametrize("gae_lambda", [1.0, 0.9])
def test_advantages_equal_a_loop(gae_lambda):
    rng = np.random.default_rng(1)
    obs = rng.normal(0, 6, (3, 9, 2)).astype(np.float32)
    reward, length = rng.normal(size=(3, 9)).astype(np.float32), np.array([9, 4, 7])
    config = GmpsConfig(gae_lambda=gae_lambda, discount=0.8, baseline_ridge=1e-3)
    found = inner_advantages(obs, reward, length, config)
    np.testing.assert_allclose(found, slow_advantages(obs, reward, length, config), atol=1e-5)
    assert (found[1, 4:] == 0).all()
    nan = reward.copy()
    nan[1, 4:] = np.nan  # what stands after the end is never read
    np.testing.assert_array_equal(inner_advantages(obs, nan, length, config), found)


def test_a_mean_over_padding_is_the_mean_over_valid_rows():
    rng = np.random.default_rng(2)
    obs, reward = rng.normal(size=(2, 8, 2)), rng.normal(size=(2, 8))
    config = GmpsConfig(baseline="none")
    padded = inner_advantages(obs, reward, np.array([8, 3]), config)
    weight = rng.normal(size=(2, 8))
    valid = np.arange(8) < np.array([[8], [3]])
    alone = padded[valid] * 11 / 16
    assert math.isclose(alone.std(), 1.0, abs_tol=1e-5)
    assert math.isclose((padded * weight).mean(), (alone * weight[valid]).mean(), abs_tol=1e-6)


def test_equal_rewards_give_no_direction():
    config = GmpsConfig(baseline="none", discount=0.0)
    found = inner_advantages(np.zeros((2, 5, 2)), np.ones((2, 5)), np.array([5, 5]), config)
    np.testing.assert_array_equal(found, 0.0)


# Inner step
