"""The acting side computes what the learning side does, without torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smac_core.agent import Posteriors, prior
from smac_core.encoder import infer_posterior
from smac_core.losses import action_distribution, sample_action
from smac_core.networks import MlpShape, forward, view_mlp
from tests.smac_core.stairs import random_agent

OBS, ACTION, LATENT = 4, 2, 3
RNG = np.random.default_rng(0)


def normal(*dims: int) -> np.ndarray:
    return RNG.standard_normal(dims).astype(np.float32)


def torch_net(packed):  # type: ignore[no-untyped-def]
    return view_mlp(torch.from_numpy(packed.parameters), MlpShape(tuple(packed.sizes.tolist())))


def test_actions_equal_the_learning_side() -> None:
    agent = random_agent(OBS, ACTION)
    obs, latent, noise = normal(50, OBS), normal(50, LATENT), normal(50, ACTION)
    output = forward(torch_net(agent.policy), torch.from_numpy(np.hstack([obs, latent]))[None])
    dist = action_distribution(output[0])
    expected, _ = sample_action(dist, torch.from_numpy(noise))
    np.testing.assert_allclose(agent.stochastic()(obs, latent, noise), expected, atol=1e-5)
    mean = torch.tanh(dist.mean)
    np.testing.assert_allclose(agent.deterministic()(obs, latent, noise), mean, atol=1e-5)


def test_controllers_take_strided_rows() -> None:
    agent = random_agent(OBS, ACTION)
    obs, latent, noise = normal(5, OBS), normal(5, 7, LATENT), normal(5, 7, ACTION)
    found = agent.stochastic()(obs, latent[:, 3], noise[:, 3])
    expected = agent.stochastic()(obs, latent[:, 3].copy(), noise[:, 3].copy())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("is_std", [False, True])
def test_inference_equals_the_learning_side(is_std: bool) -> None:
    agent = random_agent(OBS, ACTION, softplus_is_std=is_std)
    contexts = [normal(16, OBS + ACTION + 1) for _ in range(4)]
    found = agent.infer(contexts)
    expected = infer_posterior(
        torch_net(agent.encoder), torch.from_numpy(np.stack(contexts))[None], softplus_is_std=is_std
    )
    np.testing.assert_allclose(found.mean, expected.mean[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.variance, expected.variance[0], rtol=1e-4)


@pytest.mark.parametrize("raw", [-20.0, -3.0, 0.5, 12.0, 40.0])
def test_a_spread_read_as_std_is_squared_whatever_its_size(raw: float) -> None:
    agent = random_agent(OBS, ACTION, softplus_is_std=True)
    agent.encoder.parameters[:] = 0.0
    agent.encoder.parameters[-LATENT:] = raw  # the last bias is the encoder's whole output
    std = np.logaddexp(0.0, raw)
    found = agent.infer([normal(1, OBS + ACTION + 1)])
    np.testing.assert_allclose(found.variance, max(std**2, 1e-7), rtol=1e-4)


def test_contexts_may_differ_in_size_and_an_empty_one_is_the_prior() -> None:
    agent = random_agent(OBS, ACTION)
    long, short = normal(30, OBS + ACTION + 1), normal(2, OBS + ACTION + 1)
    empty = np.zeros((0, OBS + ACTION + 1), np.float32)
    found = agent.infer([long, empty, short])
    for row, context in ((0, long), (2, short)):
        alone = agent.infer([context])
        np.testing.assert_array_equal(found.mean[row], alone.mean[0])
        np.testing.assert_array_equal(found.variance[row], alone.variance[0])
    np.testing.assert_array_equal(found.mean[1], 0.0)
    np.testing.assert_array_equal(found.variance[1], 1.0)


def test_decoding_reads_the_episodes_latent() -> None:
    agent = random_agent(OBS, ACTION)
    obs, action, latent = normal(9, OBS), normal(9, ACTION), normal(3, LATENT)
    episode = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])
    rows = torch.from_numpy(np.hstack([obs, action, latent[episode]]))
    expected = forward(torch_net(agent.decoder), rows[None])[0, :, 0]
    found = agent.decode(obs, action, latent, episode)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_posteriors_select_and_diverge() -> None:
    posterior = Posteriors(normal(4, 2), np.abs(normal(4, 2)) + 0.1)
    picked = posterior.select(np.array([3, 0]))
    np.testing.assert_array_equal(picked.mean, posterior.mean[[3, 0]])
    np.testing.assert_array_equal(picked.kl(), posterior.kl()[[3, 0]])
    np.testing.assert_array_equal(prior(2, 5).kl(), 0.0)


def test_sampling_broadcasts_over_steps() -> None:
    posterior = Posteriors(
        np.array([[1.0], [10.0]], np.float32), np.array([[4.0], [9.0]], np.float32)
    )
    noise = np.array([[[0.0], [1.0]], [[-1.0], [2.0]]], np.float32)
    drawn = posterior.sample(noise)
    assert drawn.dtype == np.float32
    assert drawn[..., 0].tolist() == [[1.0, 3.0], [7.0, 16.0]]
