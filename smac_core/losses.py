"""Every equation of the method as one pure function: arrays in, scalars out, no state.

A gradient is stopped where the caller passes a detached tensor; each docstring says which
arguments must be. Leading axes, such as stacked seeds, stay apart: each has its own result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from smac_core.networks import LOG_STD_MAX, LOG_STD_MIN

MAX_ABS_ACTION = 0.999999  # released code clamps dataset actions before atanh
LOG_TWO = math.log(2.0)
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class ActionDistribution(NamedTuple):
    """A tanh-squashed diagonal Gaussian.

    Args:
        mean: Mean before the tanh ``[N, action_dim]``.
        log_std: Log standard deviation before the tanh ``[N, action_dim]``.
    """

    mean: Tensor
    log_std: Tensor


def action_distribution(output: Float[Tensor, "*S N twice_action_dim"]) -> ActionDistribution:
    """Split the policy's output into mean and clamped log standard deviation.

    Args:
        output: Linear output of the policy network.

    Returns:
        The distribution of each row.
    """
    mean, log_std = output.chunk(2, dim=-1)
    return ActionDistribution(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))


def _log_density(
    dist: ActionDistribution, pre_tanh: Tensor, standardised: Tensor
) -> Float[Tensor, "*S N"]:
    """Log density at a = tanh(pre_tanh), with the stable Jacobian of tanh."""
    normal = -0.5 * standardised.square() - dist.log_std - HALF_LOG_TWO_PI
    jacobian = 2.0 * (LOG_TWO - pre_tanh - torch.nn.functional.softplus(-2.0 * pre_tanh))
    return (normal - jacobian).sum(dim=-1)


def log_prob(
    dist: ActionDistribution, action: Float[Tensor, "*S N action_dim"]
) -> Float[Tensor, "*S N"]:
    """Compute log π(a|s, z) of dataset actions.

    Args:
        dist: The policy's distribution on each row.
        action: Actions in [-1, 1]; clamped just inside before atanh.

    Returns:
        One log density a row (nats).

    Source: smac-reference section 1, "Policy".
    """
    pre_tanh = torch.atanh(action.clamp(-MAX_ABS_ACTION, MAX_ABS_ACTION))
    return _log_density(dist, pre_tanh, (pre_tanh - dist.mean) * torch.exp(-dist.log_std))


def sample_action(
    dist: ActionDistribution, noise: Float[Tensor, "*S N action_dim"]
) -> tuple[Float[Tensor, "*S N action_dim"], Float[Tensor, "*S N"]]:
    """Draw a_π by reparameterisation, with its log density.

    Args:
        dist: The policy's distribution on each row.
        noise: Standard normal draws.

    Returns:
        The actions and log π of each, computed at the stored pre-tanh value.
    """
    pre_tanh = dist.mean + dist.log_std.exp() * noise
    return torch.tanh(pre_tanh), _log_density(dist, pre_tanh, noise)


def draw_action(
    dist: ActionDistribution, noise: Float[Tensor, "*S N action_dim"]
) -> Float[Tensor, "*S N action_dim"]:
    """Draw a_π by reparameterisation, where nobody asks for its density.

    Args:
        dist: The policy's distribution on each row.
        noise: Standard normal draws.

    Returns:
        The actions, those of ``sample_action``.
    """
    return torch.tanh(dist.mean + dist.log_std.exp() * noise)


def bellman_target(
    reward: Float[Tensor, "*S N"],
    terminated: Float[Tensor, "*S N"],
    next_value: Float[Tensor, "*S N"],
    reward_scale: float,
    discount: float,
) -> Float[Tensor, "*S N"]:
    """Compute y = reward_scale · r + (1 − d) · γ · V(s').

    Args:
        reward: Unscaled rewards r.
        terminated: 1 where the episode ended in a terminal state, else 0; a time limit is 0.
        next_value: Value of the next state, in units of scaled reward.
        reward_scale: Multiplies the reward here and nowhere else.
        discount: γ.

    Returns:
        One target a row. Pass detached tensors.

    Source: Eq. (1) of the paper; smac-reference section 2.2.
    """
    return reward_scale * reward + (1.0 - terminated) * discount * next_value


def critic_loss(
    values: Float[Tensor, "*S 2 N"], target: Float[Tensor, "*S N"]
) -> Float[Tensor, "*S"]:
    """Sum over the twins of the mean squared Bellman error.

    Args:
        values: Q1 and Q2 at (s, a, z); z detached, so that no gradient reaches the encoder.
        target: Detached Bellman targets.

    Returns:
        One loss a seed, without the factor ½.

    Source: Eq. (1) of the paper.
    """
    return (values - target.unsqueeze(-2)).square().mean(dim=-1).sum(dim=-1)


def reward_loss(
    predicted: Float[Tensor, "*S N"], reward: Float[Tensor, "*S N"]
) -> Float[Tensor, "*S"]:
    """Mean squared error of the decoder on unscaled rewards.

    Args:
        predicted: r̂(s, a, z), with z attached: this is what trains the encoder.
        reward: Unscaled rewards of the same rows.

    Returns:
        One loss a seed.

    Source: Eq. (3) of the paper, first term; a mean over the RL batch: docs/deviations.md.
    """
    return (predicted - reward).square().mean(dim=-1)


def awac_weights(advantage: Float[Tensor, "*S N"], temperature: float) -> Float[Tensor, "*S N"]:
    """Compute softmax(A / temperature) · N over the whole flattened meta-batch.

    Args:
        advantage: A of every row, across tasks; detached.
        temperature: λ of Eq. (2), "β" in the released code.

    Returns:
        Weights with mean one.

    Source: Eq. (2) of the paper; differs: docs/deviations.md#D9.
    """
    return torch.softmax(advantage / temperature, dim=-1) * advantage.shape[-1]


def weighted_imitation_loss(
    log_probs: Float[Tensor, "*S N"], weights: Float[Tensor, "*S N"]
) -> Float[Tensor, "*S"]:
    """Mean of −w · log π(a|s, z): AWAC with advantage weights, behaviour cloning with ones.

    Args:
        log_probs: log π of the dataset actions.
        weights: Detached weights with mean one.

    Returns:
        One loss a seed.

    Source: Eq. (2) of the paper.
    """
    return -(log_probs * weights).mean(dim=-1)


def policy_gradient_loss(values: Float[Tensor, "*S 2 N"]) -> Float[Tensor, "*S"]:
    """Mean of −min(Q1, Q2)(s, a_π, z), the PEARL actor term without entropy.

    Args:
        values: Twin values at the policy's own action; only the action carries a gradient.

    Returns:
        One loss a seed.

    Source: the paper's PEARL actor loss weighted by λ_pearl; smac-reference section 2.2.
    """
    return -values.min(dim=-2).values.mean(dim=-1)


def effective_sample_size(weights: Float[Tensor, "*S N"]) -> Float[Tensor, "*S"]:
    """Compute the share of rows that the weights really use.

    Args:
        weights: Weights with mean one.

    Returns:
        1 / mean(w²), between 1/N and 1.
    """
    return 1.0 / weights.square().mean(dim=-1)
