"""The belief: its KL chain, padding, the factored decoder, and which latents train it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from smac_core.borel.config import BeliefConfig
from smac_core.borel.vae import (
    Beliefs,
    BeliefVae,
    FactoredDecoder,
    TrajectoryBatch,
    kl_chain,
    trajectory_losses,
)
from smac_core.networks import Shapes

SMALL = BeliefConfig(latent_dim=2, hidden=8, decoder=(6, 6), decode="both")


@pytest.fixture
def vae():
    return BeliefVae(Shapes(3, 2), SMALL, seed=4)


def make_batch(lengths, steps=None, *, width=None, latent_dim=2, seed=0):
    rng = np.random.default_rng(seed)
    num, horizon = len(lengths), width or max(lengths)

    def draw(*shape):
        return torch.from_numpy(rng.normal(size=(num, 12, *shape)).astype(np.float32))[:, :horizon]

    obs, action, reward, after = draw(3), draw(2), draw(), draw(3)
    steps = [list(range(max(lengths) + 1))] * num if steps is None else steps
    noise = torch.zeros(num, len(steps[0]), latent_dim)
    weight = torch.tensor(
        [
            [(n + 1) / len(s) if t <= n else 0.0 for t in s]
            for n, s in zip(lengths, steps, strict=True)
        ]
    )
    return TrajectoryBatch(
        obs, action, reward, after, torch.tensor(lengths), torch.tensor(steps), weight, noise
    )


def test_the_chain_is_that_of_torch_distributions():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 7, 2, generator=rng).double()
    chain = kl_chain(Beliefs(mean, log_variance))
    prior = Normal(torch.zeros(3, 1, 2).double(), torch.ones(3, 1, 2).double())
    own = Normal(mean, (0.5 * log_variance).exp())
    first = kl_divergence(Normal(own.mean[:, :1], own.stddev[:, :1]), prior)
    later = kl_divergence(
        Normal(own.mean[:, 1:], own.stddev[:, 1:]), Normal(own.mean[:, :-1], own.stddev[:, :-1])
    )
    torch.testing.assert_close(chain, torch.cat((first, later), dim=1).sum(-1))
    assert (chain >= 0).all()


def test_a_belief_that_does_not_change_costs_nothing():
    same = Beliefs(torch.ones(1, 4, 2), torch.full((1, 4, 2), -1.0))
    chain = kl_chain(same)
    assert chain[0, 0] > 0
    torch.testing.assert_close(chain[0, 1:], torch.zeros(3))


def test_log_variances_are_clamped(vae):
    with torch.no_grad():
        vae.log_variance.bias += 100.0
    batch = make_batch([4])
    beliefs = vae.beliefs(batch.action, batch.next_obs, batch.reward)
    assert beliefs.log_variance.max() == SMALL.log_variance_limit
    assert torch.isfinite(kl_chain(beliefs)).all()


def test_the_gru_starts_orthogonal_and_unbiased(vae):
    for name, parameter in vae.gru.named_parameters():
        if name.startswith("bias"):
            assert (parameter == 0).all()
        else:
            short = parameter if parameter.shape[0] <= parameter.shape[1] else parameter.T
            torch.testing.assert_close(short @ short.T, torch.eye(len(short)), atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_network_and_leaves_torch_alone(vae):
    state = torch.random.get_rng_state()
    again, other = (BeliefVae(Shapes(3, 2), SMALL, seed=s) for s in (4, 5))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, tensor in vae.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(vae.mean.weight, other.mean.weight)


def test_the_first_belief_is_that_of_the_zero_state(vae):
    batch = make_batch([4])
    beliefs = vae.beliefs(batch.action, batch.next_obs, batch.reward)
    torch.testing.assert_close(beliefs.mean[0, 0], vae.mean.bias)
    torch.testing.assert_close(beliefs.log_variance[0, 0], vae.log_variance.bias)


def test_padding_changes_nothing(vae):
    plain, padded = make_batch([5, 5]), make_batch([5, 5], width=11)
    padded = padded._replace(steps=plain.steps, weight=plain.weight, noise=plain.noise)
    padded.reward[:, 5:] = 1e6
    for name, value in trajectory_losses(vae, padded).items():
        torch.testing.assert_close(value, trajectory_losses(vae, plain)[name])


def test_padding_equals_packed_sequences(vae):
    batch = make_batch([3, 7, 5])
    parts = (
        vae.embed_action(batch.action),
        vae.embed_obs(batch.next_obs),
        vae.embed_reward(batch.reward[..., None]),
    )
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.relu(torch.cat(parts, dim=-1)), batch.length, batch_first=True, enforce_sorted=False
    )
    hidden, _ = torch.nn.utils.rnn.pad_packed_sequence(vae.gru(packed)[0], batch_first=True)
    beliefs = vae.beliefs(batch.action, batch.next_obs, batch.reward)
    for place, length in enumerate(batch.length):
        torch.testing.assert_close(
            beliefs.mean[place, 1 : length + 1], vae.mean(hidden[place, :length])
        )


def test_a_batch_of_different_lengths_is_the_mean_of_its_trajectories(vae):
    lengths = [3, 7, 5]
    together = trajectory_losses(vae, make_batch(lengths))
    alone = []
    for place, length in enumerate(lengths):
        parts = [part[place : place + 1] for part in make_batch(lengths)]
        alone.append(trajectory_losses(vae, TrajectoryBatch(*parts)))
        cut = TrajectoryBatch(
            *(part[:, :length] for part in parts[:4]),
            parts[4],
            *(part[:, : length + 1] for part in parts[5:]),
        )
        for name, value in trajectory_losses(vae, cut).items():
            # weights say how many latents count: all of this trajectory's
            torch.testing.assert_close(value, alone[-1][name])
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in alone]).mean())


def test_the_factored_decoder_is_the_plain_one():
    decoder = FactoredDecoder(2, 5, (6, 4), 3)
    latent, rows = torch.randn(2, 3, 2), torch.randn(2, 7, 5)
    pairs = torch.cat(
        (latent[:, :, None].expand(-1, -1, 7, -1), rows[:, None].expand(-1, 3, -1, -1)), dim=-1
    )
    weight = torch.cat((decoder.of_latent.weight, decoder.of_row.weight), dim=1)
    x = torch.nn.functional.linear(pairs, weight, decoder.of_latent.bias)
    for layer in decoder.layers:
        x = layer(torch.relu(x))
    torch.testing.assert_close(decoder(latent, rows), x)
    assert x.shape == (2, 3, 7, 3)


def test_every_latent_decodes_the_whole_trajectory(vae):
    batch = make_batch([6])
    before = vae.errors(batch, torch.zeros(1, 2, 2))["reward_loss"]
    assert before.shape == (1, 2, 6)
    batch.reward[0, 0] += 3.0
    after = vae.errors(batch, torch.zeros(1, 2, 2))["reward_loss"]
    assert (after[0, :, 0] != before[0, :, 0]).all()
    torch.testing.assert_close(after[0, :, 1:], before[0, :, 1:])


def test_the_average_over_all_subsets_is_the_sum_over_all_latents(vae):
    full = trajectory_losses(vae, make_batch([5]))
    parts = [
        trajectory_losses(vae, make_batch([5], [list(subset)]))
        for subset in itertools.combinations(range(6), 2)
    ]
    for name in ("reward_loss", "next_obs_loss"):
        torch.testing.assert_close(torch.stack([p[name] for p in parts]).mean(), full[name])
    assert all(torch.equal(p["belief_kl"], full["belief_kl"]) for p in parts)  # never subsampled


@pytest.mark.parametrize("decode", ["reward", "next_obs", "both"])
def test_only_the_decoders_that_are_asked_for_exist(decode):
    config = BeliefConfig(latent_dim=2, hidden=8, decoder=(6,), decode=decode)
    vae = BeliefVae(Shapes(3, 2), config, seed=0)
    losses = trajectory_losses(vae, make_batch([4]))
    names = {"reward": {"reward_loss"}, "next_obs": {"next_obs_loss"}}
    expected = names.get(decode, {"reward_loss", "next_obs_loss"})
    assert set(losses) == {"belief_kl", *expected}
    sum(losses.values()).backward()
    unused = {n for n, p in vae.named_parameters() if p.grad is None}
    assert unused == set()


def test_decoding_a_few_trajectories_at_a_time_changes_nothing(vae, monkeypatch):
    found = []
    for at_once in (1 << 16, 2 * 8 * 7, 1):
        monkeypatch.setattr("smac_core.borel.vae.PAIRS_AT_ONCE", at_once)
        vae.zero_grad()
        losses = trajectory_losses(vae, make_batch([3, 7, 5]))
        sum(losses.values()).backward()
        found.append((losses, [p.grad.clone() for p in vae.parameters()]))
    for losses, gradients in found[1:]:
        for name, loss in losses.items():
            torch.testing.assert_close(loss, found[0][0][name])
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other)
