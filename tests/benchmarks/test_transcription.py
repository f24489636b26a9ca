"""The learner computes what the published update computes, step after step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.learning import random_batch
from benchmarks.plain_networks import PlainPolicy, plain_mlp, plain_twins
from benchmarks.transcription import Transcription
from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.learner import Batch, Learner
from smac_core.networks import MlpShape, Shapes, critic_values, forward, view_mlp

CPU = torch.device("cpu")
SHAPES = Shapes(obs_dim=5, action_dim=3)
NETWORKS = NetworkConfig(encoder=(16, 12), decoder=(8, 8), critic=(16, 12, 8), policy=(12, 16))
OFFLINE = LearnerConfig(
    num_tasks=3, rows_per_task=9, context_size=6, target_latent="fresh", learning_rate=3e-3
)
ONLINE = dataclasses.replace(OFFLINE, policy_gradient_weight=1.0, train_model=False)
VARIANTS = {
    "offline": OFFLINE,
    "online": ONLINE,
    # With the paper's temperature the weights are nearly uniform; here the advantage shows.
    "low temperature": dataclasses.replace(OFFLINE, awac_temperature=0.1),
    "weights": dataclasses.replace(
        ONLINE, awac_weight=0.5, policy_gradient_weight=0.3, train_model=True
    ),
}


def make_learner(config: LearnerConfig) -> Learner:
    """A learner whose every network gives outputs of order one."""
    learner = Learner(SHAPES, NETWORKS, config, [0], CPU)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for flat in (learner.agent.flat, learner.model.flat, learner.target_flat):
            flat.add_(torch.from_numpy(rng.normal(0.0, 0.2, flat.shape).astype(np.float32)))
    return learner


def alone(batch: Batch) -> Batch:
    """The published code has no axis of seeds."""
    return Batch(*(tensor[0] for tensor in batch))


def flat_modules(*nets: torch.nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().T.copy() for net in nets for p in net.parameters()]


def transcribed_parameters(plain: Transcription) -> dict[str, list[np.ndarray]]:
    return {
        "policy": flat_modules(plain.policy),
        "encoder": flat_modules(plain.encoder),
        "decoder": flat_modules(plain.decoder),
        "critic": flat_modules(plain.qf1, plain.qf2),
        "target_critic": flat_modules(plain.target_qf1, plain.target_qf2),
    }


def learned_parameters(learner: Learner) -> dict[str, list[np.ndarray]]:
    """The learner's networks as the transcription's classes hold them."""
    state = learner.state()
    again = Transcription(SHAPES, NETWORKS, learner.config, state, CPU)
    return transcribed_parameters(again)


@pytest.mark.parametrize("name", VARIANTS)
def test_update_equals_the_published_one(name):
    config = VARIANTS[name]
    learner = make_learner(config)
    plain = Transcription(SHAPES, NETWORKS, config, learner.state(), CPU)
    start = transcribed_parameters(plain)
    for number in range(5):
        batch = random_batch(SHAPES, NETWORKS, config, seed=number)
        learner.update(batch)
        plain.update(alone(batch))
    mine, theirs = learned_parameters(learner), transcribed_parameters(plain)
    for net, before in start.items():
        moved = any(not np.array_equal(a, b) for a, b in zip(before, theirs[net], strict=True))
        assert moved == (config.train_model or net not in {"encoder", "decoder"}), net
        for a, b in zip(mine[net], theirs[net], strict=True):
            # Adam's first steps are sign-like: rounding of a tiny gradient moves a weight by up
            # to the learning rate, so the bound is well below a step rather than an ulp.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=config.learning_rate / 30)


def test_gradients_equal_the_published_ones():
    """Adam hides the scale of a gradient; its first moments do not."""
    learner = make_learner(ONLINE)
    plain = Transcription(SHAPES, NETWORKS, ONLINE, learner.state(), CPU)
    batch = random_batch(SHAPES, NETWORKS, ONLINE, seed=3)
    learner.update(batch)
    plain.update(alone(batch))
    mine = learner.agent.moments["exp_avg"].numpy()

    def moments(optimiser: torch.optim.Adam, net: torch.nn.Module) -> list[np.ndarray]:
        return [optimiser.state[p]["exp_avg"].numpy().T.ravel() for p in net.parameters()]

    twins = zip(
        moments(plain.qf1_optimiser, plain.qf1),
        moments(plain.qf2_optimiser, plain.qf2),
        strict=True,
    )
    critic = np.concatenate([part for pair in twins for part in pair])
    np.testing.assert_allclose(mine[learner.agent.spans["critic"]], critic, rtol=1e-3, atol=1e-6)
    trunk = np.concatenate(moments(plain.policy_optimiser, plain.policy.trunk))
    policy = mine[learner.agent.spans["policy"]]
    np.testing.assert_allclose(policy[: len(trunk)], trunk, rtol=1e-3, atol=1e-6)


def test_plain_networks_compute_the_same():
    rng = np.random.default_rng(0)
    single, twins = MlpShape((4, 6, 2)), MlpShape((5, 6, 1), ensemble=2)
    flat = rng.normal(size=single.num_parameters).astype(np.float32)
    x = torch.from_numpy(rng.normal(size=(7, 4)).astype(np.float32))
    expected = forward(view_mlp(torch.from_numpy(flat), single), x[None])[0]
    torch.testing.assert_close(plain_mlp(flat, single.sizes)(x), expected)
    mean, std = PlainPolicy(flat, single.sizes)(x)
    torch.testing.assert_close(mean, expected[:, :1])
    torch.testing.assert_close(std, expected[:, 1:].clamp(-20.0, 2.0).exp())
    flat = rng.normal(size=twins.num_parameters).astype(np.float32)
    rows = [torch.from_numpy(rng.normal(size=(7, n)).astype(np.float32)) for n in (2, 2, 1)]
    stacked = (part[None] for part in rows)
    expected = critic_values(view_mlp(torch.from_numpy(flat), twins), *stacked)[0]
    found = [q(torch.cat(rows, dim=1)).squeeze(1) for q in plain_twins(flat, twins.sizes)]
    torch.testing.assert_close(torch.stack(found), expected)


def test_transcription_refuses_what_the_paper_has_not():
    config = dataclasses.replace(OFFLINE, target_latent="same")
    with pytest.raises(ValueError, match="target_latent"):
        Transcription(SHAPES, NETWORKS, config, make_learner(config).state(), CPU)
