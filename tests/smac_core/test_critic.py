"""The acting side's critic: the learner's values, and returns in its unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smac_core.critic import Critic, load_critic
from smac_core.dense import Mlp
from smac_core.envs.episodes import Episodes
from smac_core.networks import MlpShape, critic_values, view_mlp
from smac_core.smac_agent import SmacAgent
from tests.smac_core.stairs import random_agent

SIZES = [5, 7, 6, 1]
META = {"sizes": {"critic": SIZES}, "learner": {"discount": 0.5, "reward_scale": 3.0}}


def random_critic(seed: int = 0) -> np.ndarray:
    shape = MlpShape(tuple(SIZES), ensemble=2)
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape.num_parameters).astype(np.float32)


def test_values_are_the_learners():
    flat = random_critic()
    net: Mlp = view_mlp(torch.from_numpy(flat), MlpShape(tuple(SIZES), ensemble=2), 1)
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(9, width)).astype(np.float32) for width in (2, 1, 2)]
    expected = critic_values(net, *(torch.from_numpy(part)[None] for part in parts))[0]
    critic = load_critic({"critic": flat}, META)
    assert critic is not None
    np.testing.assert_allclose(critic.values(*parts), expected.min(dim=0).values, rtol=1e-5)
    assert (expected[0] < expected[1]).any()  # either twin is the lower one somewhere
    assert (expected[1] < expected[0]).any()


def test_what_is_realised_is_discounted_and_scaled():
    critic = Critic((), discount=0.5, reward_scale=3.0)
    reward = np.array([[1.0, 2.0, 4.0], [1.0, np.nan, np.nan]])
    found = critic.realised(reward, np.array([3, 1]))
    assert found.tolist() == [3.0 * (1.0 + 1.0 + 1.0), 3.0]


@pytest.mark.parametrize(
    ("tensors", "meta"),
    [
        ({}, META),
        ({"critic": random_critic()}, META | {"learner": {}}),
        ({"critic": random_critic()}, META | {"sizes": {}}),
        ({"critic": random_critic()[:-1]}, META),
    ],
)
def test_no_critic_where_the_checkpoint_does_not_tell(tensors, meta):
    assert load_critic(tensors, meta) is None


def test_an_episode_is_judged_by_the_z_that_was_drawn_for_it():
    flat = random_critic()
    critic = load_critic({"critic": flat}, META)
    agent = SmacAgent(random_agent(2, 1, latent_dim=2), critic)
    agent.begin_task(3)
    rows = np.array([0, 2])
    agent.begin_episode(rows, [np.random.default_rng(seed) for seed in (5, 6)], 1)
    rng = np.random.default_rng(7)
    obs, action = (rng.normal(size=(2, 4, width)).astype(np.float32) for width in (2, 1))
    reward = np.ones((2, 4), np.float32)
    rest = np.zeros(2, bool), obs[:, 0], np.zeros((2, 5, 2), np.float32), np.ones(2, bool)
    played = Episodes(obs, action, reward, np.array([4, 2]), *rest)
    value, realised = agent.judge(rows, played)
    noise = [np.random.default_rng(s).standard_normal(2, dtype=np.float32) for s in (5, 6)]
    drawn = np.stack(noise)
    np.testing.assert_array_equal(value, critic.values(obs[:, 0], action[:, 0], drawn))
    assert realised.tolist() == [3.0 * 1.875, 3.0 * 1.5]
    assert SmacAgent(random_agent(2, 1, latent_dim=2)).judge(rows, played) is None
