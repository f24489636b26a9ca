"""The posterior against float64 NumPy, torch.distributions and the acting side's kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kernels import posterior as kernel
from smac_core.encoder import (
    MIN_VARIANCE,
    Posterior,
    infer_posterior,
    kl_to_prior,
    product_of_gaussians,
    sample_latent,
)
from smac_core.networks import MlpShape, forward, view_mlp

L = 4


def random_encoded(tasks: int = 3, size: int = 11, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 2.0, (tasks, size, 2 * L)).astype(np.float32)


def plain_product(encoded: np.ndarray, power: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Multiply Gaussian densities one by one, in float64."""
    x = encoded.astype(np.float64)
    variances = np.maximum(np.log1p(np.exp(x[..., L:])) ** power, 1e-7)
    mean, variance = x[:, 0, :L], variances[:, 0]
    for k in range(1, x.shape[1]):
        total = variance + variances[:, k]
        mean = (mean * variances[:, k] + x[:, k, :L] * variance) / total
        variance = variance * variances[:, k] / total
    return mean, variance


def test_product_of_two_factors_by_hand() -> None:
    # softplus(x) = 1 at x = log(e - 1); variances 1 and 1, means 2 and 4
    raw = math.log(math.e - 1.0)
    encoded = torch.tensor([[[2.0, raw], [4.0, raw]]])
    mean, variance = product_of_gaussians(encoded)
    assert variance.item() == pytest.approx(0.5)
    assert mean.item() == pytest.approx(3.0)


@pytest.mark.parametrize(("is_std", "power"), [(False, 1), (True, 2)])
def test_product_equals_multiplying_densities(is_std: bool, power: int) -> None:
    encoded = random_encoded()
    mean, variance = product_of_gaussians(torch.from_numpy(encoded), softplus_is_std=is_std)
    expected_mean, expected_variance = plain_product(encoded, power)
    np.testing.assert_allclose(mean, expected_mean, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(variance, expected_variance, rtol=2e-5)


def test_product_equals_the_acting_side() -> None:
    encoded = random_encoded(tasks=5, size=64)
    mean, variance = product_of_gaussians(torch.from_numpy(encoded))
    out_mean, out_variance = np.empty((5, L), np.float32), np.empty((5, L), np.float32)
    starts = np.arange(0, 6 * 64, 64)
    kernel.product_of_gaussians(encoded.reshape(-1, 2 * L), starts, out_mean, out_variance)
    np.testing.assert_allclose(mean, out_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, out_variance, rtol=1e-5)


def test_the_prior_is_not_a_factor() -> None:
    encoded = torch.from_numpy(random_encoded(size=1))
    mean, variance = product_of_gaussians(encoded)
    torch.testing.assert_close(mean, encoded[:, 0, :L])
    torch.testing.assert_close(variance, torch.nn.functional.softplus(encoded[:, 0, L:]))


def test_variance_is_clamped_before_the_reciprocal() -> None:
    encoded = torch.full((1, 3, 2), -200.0)
    mean, variance = product_of_gaussians(encoded)
    assert variance.item() == pytest.approx(MIN_VARIANCE / 3)
    assert mean.item() == pytest.approx(-200.0)


def test_order_of_the_context_does_not_matter() -> None:
    encoded = torch.from_numpy(random_encoded())
    shuffled = encoded[:, torch.randperm(11, generator=torch.Generator().manual_seed(0))]
    for one, other in zip(
        product_of_gaussians(encoded), product_of_gaussians(shuffled), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_kl_equals_torch_distributions() -> None:
    rng = np.random.default_rng(3)
    mean = torch.from_numpy(rng.normal(size=(6, L)).astype(np.float32))
    variance = torch.from_numpy(rng.uniform(0.01, 3.0, (6, L)).astype(np.float32))
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_prior(Posterior(mean, variance)), expected)
    out = np.empty(6, np.float32)
    kernel.kl_to_prior(mean.numpy(), variance.numpy(), out)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_kl_by_hand_and_zero_at_the_prior() -> None:
    prior = Posterior(torch.zeros(1, 2), torch.ones(1, 2))
    assert kl_to_prior(prior).item() == 0.0
    # ½(e + 1 - 1 - 1) + ½(1 + 4 - 1 - 0)
    shifted = Posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[math.e, 1.0]]))
    assert kl_to_prior(shifted).item() == pytest.approx(0.5 * (math.e - 1.0) + 2.0)


def test_an_untrained_encoder_has_the_reference_divergence() -> None:
    # smac-reference trap 21: 64 factors of variance softplus(0) give 8.8 nats in five dimensions.
    posterior = product_of_gaussians(torch.zeros(1, 64, 10))
    assert posterior.variance[0, 0].item() == pytest.approx(0.693147 / 64, rel=1e-5)
    assert kl_to_prior(posterior).item() == pytest.approx(8.8, abs=0.1)


def test_sampling_is_reparameterised() -> None:
    mean = torch.tensor([[1.0, -1.0]], requires_grad=True)
    variance = torch.tensor([[4.0, 0.25]], requires_grad=True)
    z = sample_latent(Posterior(mean, variance), torch.tensor([[0.5, 2.0]]))
    torch.testing.assert_close(z, torch.tensor([[2.0, 0.0]]))
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(1, 2))
    # d(√v·ε)/dv = ε / (2√v)
    torch.testing.assert_close(variance.grad, torch.tensor([[0.125, 2.0]]))


def test_inference_encodes_each_task_apart() -> None:
    shape = MlpShape((3, 8, 2 * L))
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(rng.normal(0, 0.5, shape.num_parameters).astype(np.float32))
    net = view_mlp(flat, shape)
    context = torch.from_numpy(rng.normal(size=(3, 5, 3)).astype(np.float32))
    together = infer_posterior(net, context[None])
    for task in range(3):
        alone = product_of_gaussians(forward(net, context[None, task]))
        torch.testing.assert_close(together.mean[0, task], alone.mean[0])
        torch.testing.assert_close(together.variance[0, task], alone.variance[0])
