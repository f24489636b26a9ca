"""The equations: numbers worked out by hand, gradients, and which arguments receive one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from smac_core.losses import (
    ActionDistribution,
    action_distribution,
    awac_weights,
    bellman_target,
    critic_loss,
    draw_action,
    effective_sample_size,
    log_prob,
    policy_gradient_loss,
    reward_loss,
    sample_action,
    weighted_imitation_loss,
)


def vector(*numbers: float, grad: bool = False) -> torch.Tensor:
    return torch.tensor(numbers, requires_grad=grad)


def random_distribution(rows: int = 9, dim: int = 3) -> ActionDistribution:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(rows, 2 * dim, generator=generator)
    return action_distribution(output)


def test_bellman_target_scales_the_reward_and_stops_at_a_terminal_state() -> None:
    target = bellman_target(
        reward=vector(1.0, -2.0),
        terminated=vector(0.0, 1.0),
        next_value=vector(10.0, 100.0),
        reward_scale=5.0,
        discount=0.99,
    )
    # 5·1 + 0.99·10 and 5·(-2)
    torch.testing.assert_close(target, vector(14.9, -10.0))


def test_critic_loss_sums_the_twins_means() -> None:
    values = torch.tensor([[1.0, 2.0], [4.0, 0.0]], requires_grad=True)
    loss = critic_loss(values, vector(0.0, 3.0))
    # Q1: (1² + 1²)/2 = 1; Q2: (4² + 3²)/2 = 12.5
    assert loss.item() == 13.5
    loss.backward()
    # d/dq of (q - y)²/N = 2(q - y)/N
    torch.testing.assert_close(values.grad, torch.tensor([[1.0, -1.0], [4.0, -3.0]]))


def test_reward_loss_is_a_mean_over_rows() -> None:
    predicted = vector(1.0, 2.0, 3.0, 4.0, grad=True)
    loss = reward_loss(predicted, vector(0.0, 2.0, 0.0, 2.0))
    assert loss.item() == (1 + 0 + 9 + 4) / 4
    loss.backward()
    torch.testing.assert_close(predicted.grad, vector(0.5, 0.0, 1.5, 1.0))


def test_awac_weights_are_a_softmax_over_the_whole_batch_times_its_size() -> None:
    # softmax([0, ln 3, 0, ln 3]) = [1, 3, 1, 3] / 8, times 4
    advantage = vector(0.0, math.log(3.0), 0.0, math.log(3.0))
    torch.testing.assert_close(awac_weights(advantage, 1.0), vector(0.5, 1.5, 0.5, 1.5))
    # Half the temperature squares the ratio: [1, 9, 1, 9] / 20, times 4
    torch.testing.assert_close(awac_weights(advantage, 0.5), vector(0.2, 1.8, 0.2, 1.8))


def test_awac_weights_ignore_a_constant_and_survive_large_advantages() -> None:
    advantage = vector(3.0, -1.0, 0.5)
    torch.testing.assert_close(
        awac_weights(advantage, 0.7), awac_weights(advantage + 40.0, 0.7), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(awac_weights(vector(1e6, 0.0), 1.0), vector(2.0, 0.0))


def test_awac_becomes_behaviour_cloning_as_the_temperature_grows() -> None:
    log_probs = torch.randn(64, generator=torch.Generator().manual_seed(1))
    advantage = torch.randn(64, generator=torch.Generator().manual_seed(2))
    cloning = weighted_imitation_loss(log_probs, torch.ones(64))
    gaps = [
        abs(weighted_imitation_loss(log_probs, awac_weights(advantage, t)) - cloning).item()
        for t in (1.0, 100.0, 1e6)
    ]
    assert gaps[0] > 1e-2
    assert gaps[1] < gaps[0] / 20
    assert gaps[2] < 1e-6


def test_weighted_imitation_loss_equals_the_weighted_sum_of_the_softmax() -> None:
    log_probs = vector(-1.0, -3.0, grad=True)
    weights = vector(0.5, 1.5)
    loss = weighted_imitation_loss(log_probs, weights)
    assert loss.item() == pytest.approx((0.5 * 1.0 + 1.5 * 3.0) / 2)
    loss.backward()
    torch.testing.assert_close(log_probs.grad, vector(-0.25, -0.75))


def test_policy_gradient_loss_takes_the_smaller_twin_of_each_row() -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, 2.0]], requires_grad=True)
    loss = policy_gradient_loss(values)
    assert loss.item() == -(1.0 + 2.0) / 2
    loss.backward()
    torch.testing.assert_close(values.grad, torch.tensor([[-0.5, 0.0], [0.0, -0.5]]))


def test_effective_sample_size_is_one_for_equal_weights_and_one_nth_for_a_single_one() -> None:
    assert effective_sample_size(torch.ones(8)).item() == 1.0
    assert effective_sample_size(vector(4.0, 0.0, 0.0, 0.0)).item() == 0.25


def test_log_std_is_clamped_and_then_has_no_gradient() -> None:
    output = torch.tensor([[0.5, 3.0], [0.5, -21.0], [0.5, 1.0]], requires_grad=True)
    dist = action_distribution(output)
    torch.testing.assert_close(dist.log_std[:, 0], vector(2.0, -20.0, 1.0))
    dist.log_std.sum().backward()
    torch.testing.assert_close(output.grad[:, 1], vector(0.0, 0.0, 1.0))


def squashed(dist: ActionDistribution) -> Independent:
    base = Normal(dist.mean.double(), dist.log_std.double().exp())
    return Independent(TransformedDistribution(base, [TanhTransform()]), 1)


def test_log_prob_equals_the_transformed_distribution() -> None:
    dist = random_distribution()
    action = torch.tanh(torch.randn(9, 3, generator=torch.Generator().manual_seed(5)))
    expected = squashed(dist).log_prob(action.double())
    torch.testing.assert_close(log_prob(dist, action).double(), expected, atol=1e-4, rtol=1e-5)


def test_log_prob_by_hand() -> None:
    # a = tanh(0.5), mean 0, std 1: log N(0.5; 0, 1) - log(1 - tanh²(0.5))
    dist = ActionDistribution(torch.zeros(1, 1), torch.zeros(1, 1))
    expected = -0.125 - 0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(0.5) ** 2)
    found = log_prob(dist, torch.tensor([[math.tanh(0.5)]]))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_log_prob_of_an_action_at_the_bound_is_finite() -> None:
    dist = random_distribution(4)
    action = torch.tensor([[1.0, -1.0, 1.0]]).repeat(4, 1)
    inside = action.clamp(-0.999999, 0.999999)
    assert torch.isfinite(log_prob(dist, action)).all()
    torch.testing.assert_close(log_prob(dist, action), log_prob(dist, inside))


def test_sample_action_has_the_density_of_its_own_draw() -> None:
    dist = random_distribution()
    noise = torch.randn(9, 3, generator=torch.Generator().manual_seed(7))
    action, own = sample_action(dist, noise)
    torch.testing.assert_close(action, torch.tanh(dist.mean + dist.log_std.exp() * noise))
    assert torch.equal(action, draw_action(dist, noise))
    expected = squashed(dist).log_prob(
        torch.tanh(dist.mean.double() + dist.log_std.double().exp() * noise.double())
    )
    torch.testing.assert_close(own.double(), expected, atol=1e-4, rtol=1e-4)


def test_own_log_prob_stays_exact_far_out_where_atanh_would_not() -> None:
    dist = ActionDistribution(torch.tensor([[30.0]]), torch.tensor([[0.0]]))
    action, own = sample_action(dist, torch.tensor([[1.0]]))
    assert action.item() == 1.0
    # log N(31; 30, 1) - 2(log 2 - 31)
    expected = -0.5 - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2.0) - 31.0)
    assert own.item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_log_prob_equals_finite_differences() -> None:
    rng = np.random.default_rng(0)
    mean = torch.tensor(rng.normal(size=(2, 2)), requires_grad=True)
    log_std = torch.tensor(rng.normal(size=(2, 2)), requires_grad=True)
    action = torch.tensor(np.tanh(rng.normal(size=(2, 2))))
    assert torch.autograd.gradcheck(
        lambda m, s: log_prob(ActionDistribution(m, s), action), (mean, log_std)
    )
    noise = torch.tensor(rng.normal(size=(2, 2)))
    assert torch.autograd.gradcheck(
        lambda m, s: sample_action(ActionDistribution(m, s), noise), (mean, log_std)
    )
