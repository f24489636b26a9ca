"""SAC on hyper-states by hand-worked numbers, and which way its networks move."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from smac_core.borel.config import HyperSacConfig
from smac_core.borel.sac import HyperBatch, HyperSac
from smac_core.networks import Shapes

CONFIG = HyperSacConfig(
    critic=(),
    policy=(),
    discount=0.5,
    reward_scale=2.0,
    entropy_weight=0.1,
    target_update_rate=0.25,
)


@pytest.fixture
def sac():
    """Linear networks: Q1 = a + b, Q2 = a + 2 b of action a and the belief's first number b."""
    made = HyperSac(Shapes(1, 1), 1, CONFIG, 0, torch.device("cpu"))
    made.policy.flat.zero_()  # mean 0, log std 0
    made.critic.flat.zero_()
    weight = made.critic.networks["critic"].weights[0]  # [1, 2, obs + flag + action + belief, 1]
    weight[0, 0, 2, 0], weight[0, 0, 3, 0] = 1.0, 1.0
    weight[0, 1, 2, 0], weight[0, 1, 3, 0] = 1.0, 2.0
    made.target_flat.copy_(made.critic.flat)
    return made


def make_batch(**changes):
    def rows(*values):
        return torch.tensor([[[float(v)] for v in values]])

    columns = {
        "obs": torch.zeros(1, 2, 2),
        "belief": torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]),
        "action": rows(0.5, -0.5),
        "reward": torch.tensor([[1.0, -1.0]]),
        "next_obs": torch.zeros(1, 2, 2),
        "next_belief": torch.tensor([[[2.0, 0.0], [-2.0, 0.0]]]),
        "terminated": torch.tensor([[0.0, 1.0]]),
        "action_noise": torch.zeros(1, 2, 1),
        "next_action_noise": torch.zeros(1, 2, 1),
    }
    return HyperBatch(**{**columns, **changes})


# At noise 0 the action is 0 and the density of N(0, 1) squashed by tanh is 1 / sqrt(2 pi).
LOG_PROB = -0.5 * math.log(2.0 * math.pi)


def test_the_critic_loss_is_the_hand_worked_one(sac):
    # y1 = 2·1 + 0.5·(min(0 + 2, 0 + 4) − 0.1·log π) and, behind a terminal state, y2 = 2·(−1).
    y1, y2 = 2.0 + 0.5 * (2.0 - 0.1 * LOG_PROB), -2.0
    q1, q2 = (1.5, -1.5), (2.5, -2.5)
    expected = sum(((q[0] - y1) ** 2 + (q[1] - y2) ** 2) / 2 for q in (q1, q2))
    metrics = sac.update(make_batch())
    assert metrics["critic_loss"].item() == pytest.approx(expected, rel=1e-6)
    assert metrics["value"].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert metrics["largest_value"].item() == pytest.approx(2.5)
    assert metrics["policy_entropy"].mean().item() == pytest.approx(-LOG_PROB)


def test_the_actor_climbs_the_smaller_twin_and_keeps_its_entropy(sac):
    # The mean's gradient of 0.1·log π − min Q at mean 0, where tanh' = 1: −dQ/da = −1.
    gradients = []
    sac.policy.step = lambda: gradients.append(sac.policy.gradient.clone())
    sac.critic.step = sac.critic.gradient.zero_  # so that the actor sees the critics above
    sac.update(make_batch())
    mean_bias, log_std_bias = gradients[0][-2:].tolist()
    assert mean_bias == pytest.approx(-1.0, abs=1e-6)
    assert log_std_bias == pytest.approx(-0.1, abs=1e-6)  # d(0.1·log π)/d(log σ) at noise 0


def test_the_targets_follow(sac):
    before = sac.target_flat.clone()
    sac.update(make_batch())
    torch.testing.assert_close(sac.target_flat, before + 0.25 * (sac.critic.flat - before))


def test_a_time_limit_goes_on_and_a_terminal_state_does_not(sac):
    endless = sac._target(make_batch(terminated=torch.zeros(1, 2)))
    ended = sac._target(make_batch())
    assert (endless == ended).tolist() == [[True, False]]
    assert ended[0, 1] == -2.0  # the scaled reward alone


def test_the_state_restores_it():
    shapes, device = Shapes(1, 1), torch.device("cpu")
    config = HyperSacConfig(critic=(8,), policy=(8,))
    one, other = (HyperSac(shapes, 1, config, seed, device) for seed in (0, 1))
    one.update(make_batch())
    other.load_state(one.state())
    for sac in (one, other):
        sac.update(make_batch())
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, other.state()[name])
