"""The posterior q(z|h), a product of one Gaussian a transition, and its distance from the prior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from smac_core.dense import Mlp
from smac_core.networks import forward

MIN_VARIANCE = 1e-7  # released code clamps before the reciprocal


class Posterior(NamedTuple):
    """A diagonal Gaussian over z for each task.

    Args:
        mean: ``[S, M, latent_dim]``; S stacked seeds.
        variance: ``[S, M, latent_dim]``.
    """

    mean: Tensor
    variance: Tensor


def product_of_gaussians(
    encoded: Float[Tensor, "*S K twice_latent_dim"], *, softplus_is_std: bool = False
) -> Posterior:
    """Multiply the K Gaussian factors of each task; the prior is not a factor.

    Args:
        encoded: Encoder outputs; the first half are means, softplus of the second half variances.
        softplus_is_std: Read the softplus as a standard deviation, as the paper's text does.

    Returns:
        The posterior of each task.

    Source: smac-reference section 1; differs: docs/deviations.md#D3.
    """
    mean, raw = encoded.chunk(2, dim=-1)
    spread = torch.nn.functional.softplus(raw)
    variance = (spread.square() if softplus_is_std else spread).clamp_min(MIN_VARIANCE)
    precision = variance.reciprocal()
    combined = precision.sum(dim=-2).reciprocal()
    return Posterior(combined * (precision * mean).sum(dim=-2), combined)


def infer_posterior(
    encoder: Mlp, context: Float[Tensor, "S M K features"], *, softplus_is_std: bool = False
) -> Posterior:
    """Infer q(z|h) for each task from its context h.

    Args:
        encoder: The encoder network.
        context: Transitions [s, a, r] of each task, a bag without order.
        softplus_is_std: See ``product_of_gaussians``.

    Returns:
        The posterior of each task.

    Source: Eq. (1) of the paper and smac-reference section 1.
    """
    seeds, num_tasks, size, features = context.shape
    encoded = forward(encoder, context.reshape(seeds, num_tasks * size, features))
    return product_of_gaussians(
        encoded.view(seeds, num_tasks, size, -1), softplus_is_std=softplus_is_std
    )


def sample_latent(
    posterior: Posterior, noise: Float[Tensor, "*S latent_dim"]
) -> Float[Tensor, "*S latent_dim"]:
    """Draw z by reparameterisation.

    Args:
        posterior: Mean and variance.
        noise: Standard normal draws.

    Returns:
        One latent a task; the gradient flows into the posterior.
    """
    return posterior.mean + posterior.variance.sqrt() * noise


def kl_to_prior(posterior: Posterior) -> Float[Tensor, "*S"]:
    """Compute KL(q(z|h) ‖ N(0, I)), summed over dimensions.

    Args:
        posterior: Mean and variance.

    Returns:
        One divergence a task, in nats.

    Source: Eq. (3) of the paper, last term.
    """
    mean, variance = posterior
    return 0.5 * (variance + mean.square() - 1.0 - variance.log()).sum(dim=-1)
