"""The equations of the MAML methods, one pure function each.

A gradient is stopped where the caller passes a detached tensor; each docstring says which
arguments must be. Source: baselines.md sections 2 and 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smac_core.losses import HALF_LOG_TWO_PI

SMALL = 1e-6  # beside a standard deviation; released code has none: equal advantages give nan


def gaussian_log_prob(mean: Tensor, std: float, action: Tensor) -> Tensor:
    """Compute log N(a; mean, std² I).

    Args:
        mean: ``[N, action_dim]``.
        std: Standard deviation.
        action: ``[N, action_dim]``.

    Returns:
        ``[N]`` (nats).
    """
    normal = -0.5 * ((action - mean) / std).square() - math.log(std) - HALF_LOG_TWO_PI
    return normal.sum(dim=-1)


def standardised(advantage: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation; equal advantages become zeros.

    Args:
        advantage: ``[N]``.

    Returns:
        ``[N]``.
    """
    centred = advantage - advantage.mean()
    # Not torch.std, whose gradient at equal numbers is nan and whose n - 1 makes nan of one row.
    return centred / (centred.square().mean().sqrt() + SMALL)


def regression_weights(advantage: Tensor, max_weight: float, *, lower: bool) -> Tensor:
    """Weigh rows by exp(advantage), clamped.

    Args:
        advantage: ``[N]``, detached.
        max_weight: Of a row.
        lower: Clamp at 1 / max_weight too.

    Returns:
        ``[N]``.
    """
    limit = math.log(max_weight)
    return advantage.clamp(min=-limit if lower else None, max=limit).exp()


def weighted_cloning_loss(log_prob: Tensor, weight: Tensor | None) -> Tensor:
    """Imitate actions: - mean w · log π(a|s).

    Args:
        log_prob: ``[N]``.
        weight: ``[N]``, detached; None: all equal, behaviour cloning.

    Returns:
        Scalar.
    """
    return -(log_prob if weight is None else weight * log_prob).mean()


def policy_gradient_loss(
    log_prob: Tensor,
    behaviour_log_prob: Tensor,
    advantage: Tensor,
    limits: tuple[float, float] | None,
) -> Tensor:
    """Follow the policy gradient: - mean sg(ratio) · log π(a|s) · A.

    Args:
        log_prob: ``[N]``.
        behaviour_log_prob: ``[N]`` of the policy that collected the rows, detached.
        advantage: ``[N]``, detached.
        limits: Of the ratio π / π_behaviour, which explodes after many steps on the same rows;
            None: none.

    Returns:
        Scalar.

    Source: baselines.md section 4, "Inner step", and trap 1.
    """
    log_ratio = log_prob.detach() - behaviour_log_prob
    if limits is not None:
        log_ratio = log_ratio.clamp(math.log(limits[0]), math.log(limits[1]))
    return -(log_ratio.exp() * log_prob * advantage).mean()


def clipped_surrogate(
    log_prob: Tensor, behaviour_log_prob: Tensor, advantage: Tensor, clip: float
) -> Tensor:
    """Bound what many steps on the same rows can gain: - mean min(r · A, clamp(r, 1 ± clip) · A).

    A row whose ratio r has left the bounds in its favour has no gradient, so that no density can
    run off to zero, as it can where the ratio is but a weight.

    Args:
        log_prob: ``[N]``.
        behaviour_log_prob: ``[N]`` of the policy that collected the rows, detached.
        advantage: ``[N]``, detached.
        clip: How far the ratio may be from one.

    Returns:
        Scalar.

    Source: Schulman et al., 2017, equation 7.
    """
    ratio = (log_prob - behaviour_log_prob).exp()
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, bounded * advantage).mean()


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute mean (predicted - target)² of ``[N]`` arrays; the target must be detached."""
    return (predicted - target).square().mean()


def effective_sample_size(weight: Tensor) -> Tensor:
    """Compute (Σw)² / (N Σw²) of ``[N]`` weights: 1 where all rows count alike."""
    return weight.sum().square() / (weight.square().sum() * weight.shape[0])
