"""The learner against an independent re-implementation: separate modules, one Adam each."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.errors import ConfigError, NonFiniteError
from smac_core.learner import Batch, Learner, resolve_device, spread
from smac_core.networks import Shapes

CPU = torch.device("cpu")
SHAPES = Shapes(obs_dim=3, action_dim=2)
NETWORKS = NetworkConfig(encoder=(16, 16), decoder=(8, 8), critic=(16, 12), policy=(12, 16))
LATENT = NETWORKS.latent_dim
OFFLINE = LearnerConfig(num_tasks=3, rows_per_task=7, context_size=5)
ONLINE = dataclasses.replace(OFFLINE, policy_gradient_weight=1.0, train_model=False)
VARIANTS = {
    "offline": OFFLINE,
    "online": ONLINE,
    "online with encoder": dataclasses.replace(ONLINE, train_model=True),
    "small temperature": dataclasses.replace(OFFLINE, awac_temperature=0.05, awac_weight=0.7),
    "weights": dataclasses.replace(ONLINE, awac_weight=0.5, policy_gradient_weight=0.25),
    "behaviour cloning": dataclasses.replace(OFFLINE, actor="bc"),
    "policy gradient": dataclasses.replace(OFFLINE, actor="policy-gradient"),
    "entropy": dataclasses.replace(OFFLINE, entropy_weight=0.3),
    "entropy online": dataclasses.replace(ONLINE, entropy_weight=0.3),
    "fresh target latent": dataclasses.replace(OFFLINE, target_latent="fresh"),
    "copied target": dataclasses.replace(OFFLINE, target_init="copy"),
    "softplus is std": dataclasses.replace(OFFLINE, posterior_variance="std"),
    "summed KL": dataclasses.replace(OFFLINE, kl_reduction="sum", kl_weight=0.3),
}


def random_batch(seed: int, config: LearnerConfig = OFFLINE) -> Batch:
    rng = np.random.default_rng(seed)
    m, b, k = config.num_tasks, config.rows_per_task, config.context_size
    o, a = SHAPES.obs_dim, SHAPES.action_dim

    def normal(*dims: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(dims).astype(np.float32))

    return Batch(
        obs=normal(m, b, o),
        action=torch.tanh(normal(m, b, a)),
        reward=normal(m, b),
        next_obs=normal(m, b, o),
        terminated=(normal(m, b) > 0.7).float(),
        context=normal(m, k, o + a + 1),
        latent_noise=normal(m, LATENT),
        next_latent_noise=normal(m, LATENT),
        action_noise=normal(m * b, a),
        next_action_noise=normal(m * b, a),
    )


def make_learner(config: LearnerConfig = OFFLINE, seed: int = 0) -> Learner:
    """A learner whose parameters are large enough for every term to matter."""
    learner = Learner(SHAPES, NETWORKS, config, seed, CPU)
    rng = np.random.default_rng(seed + 99)
    with torch.no_grad():
        for flat in (learner.agent.flat, learner.model.flat, learner.target_flat):
            flat.add_(torch.from_numpy(rng.normal(0.0, 0.2, flat.shape).astype(np.float32)))
        if config.target_init == "copy":
            learner.target_flat.copy_(learner.agent.flat[learner.agent.spans["critic"]])
    return learner


# ---- the re-implementation -----------------------------------------------------------------------


def linear_stack(flat: np.ndarray, sizes: list[int]) -> nn.Sequential:
    """Rebuild one network from the documented layout: W [in, out] row by row, then b."""
    layers: list[nn.Module] = []
    offset = 0
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        linear = nn.Linear(fan_in, fan_out)
        weight = flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
        offset += fan_in * fan_out
        linear.weight.data = torch.from_numpy(weight.T.copy())
        linear.bias.data = torch.from_numpy(flat[offset : offset + fan_out].copy())
        offset += fan_out
        layers += [linear, nn.ReLU()]
    assert offset == len(flat)
    return nn.Sequential(*layers[:-1])


def flatten(net: nn.Sequential) -> np.ndarray:
    parts = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            parts += [layer.weight.detach().numpy().T.ravel(), layer.bias.detach().numpy()]
    return np.concatenate(parts)


def split_twins(flat: np.ndarray, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the two members out of the ensemble's layout, a leading axis on every array."""
    members: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    offset = 0
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        for length in (fan_in * fan_out, fan_out):
            for member in members:
                member.append(flat[offset : offset + length])
                offset += length
    assert offset == len(flat)
    return np.concatenate(members[0]), np.concatenate(members[1])


class PlainSmac:
    """One gradient step written the long way, from smac-reference section 2."""

    def __init__(self, state: dict[str, np.ndarray], config: LearnerConfig) -> None:
        o, a = SHAPES.obs_dim, SHAPES.action_dim
        q_sizes = [o + a + LATENT, *NETWORKS.critic, 1]
        self.q_sizes = q_sizes
        self.config = config
        self.policy = linear_stack(state["policy"], [o + LATENT, *NETWORKS.policy, 2 * a])
        self.encoder = linear_stack(state["encoder"], [o + a + 1, *NETWORKS.encoder, 2 * LATENT])
        self.decoder = linear_stack(state["decoder"], [o + a + LATENT, *NETWORKS.decoder, 1])
        self.q = [linear_stack(p, q_sizes) for p in split_twins(state["critic"], q_sizes)]
        self.target = [
            linear_stack(p, q_sizes) for p in split_twins(state["target_critic"], q_sizes)
        ]
        lr = config.learning_rate
        self.policy_adam = torch.optim.Adam(self.policy.parameters(), lr=lr)
        self.q_adam = [torch.optim.Adam(q.parameters(), lr=lr) for q in self.q]
        model = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.model_adam = torch.optim.Adam(model, lr=lr)

    def posterior(self, context: torch.Tensor) -> torch.distributions.Normal:
        means, variances = [], []
        for task in context:
            out = self.encoder(task)
            softplus = nn.functional.softplus(out[:, LATENT:])
            if self.config.posterior_variance == "std":
                softplus = softplus**2
            precision = 1.0 / torch.clamp(softplus, min=1e-7)
            variance = 1.0 / precision.sum(0)
            means.append(variance * (precision * out[:, :LATENT]).sum(0))
            variances.append(variance)
        return torch.distributions.Normal(torch.stack(means), torch.stack(variances).sqrt())

    def act(self, obs: torch.Tensor, z: torch.Tensor) -> torch.distributions.Distribution:
        mean, log_std = self.policy(torch.cat([obs, z], 1)).split(SHAPES.action_dim, 1)
        base = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        squash = torch.distributions.TanhTransform(cache_size=1)
        squashed = torch.distributions.TransformedDistribution(base, [squash])
        return torch.distributions.Independent(squashed, 1)

    def draw(
        self, obs: torch.Tensor, z: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dist = self.act(obs, z)
        base = dist.base_dist.base_dist  # type: ignore[attr-defined]
        action = dist.base_dist.transforms[0](base.loc + base.scale * noise)  # type: ignore[attr-defined]
        return action, dist.log_prob(action)

    def min_q(
        self, nets: list[nn.Sequential], obs: torch.Tensor, action: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        x = torch.cat([obs, action, z], 1)
        return torch.minimum(nets[0](x), nets[1](x))[:, 0]

    def update(self, batch: Batch) -> None:
        cfg = self.config
        m, b = batch.reward.shape
        obs, action = batch.obs.reshape(m * b, -1), batch.action.reshape(m * b, -1)
        next_obs = batch.next_obs.reshape(m * b, -1)
        reward, done = batch.reward.reshape(-1), batch.terminated.reshape(-1)
        which = torch.arange(m).repeat_interleave(b)

        q_zh = self.posterior(batch.context)
        task_z = q_zh.loc + q_zh.scale * batch.latent_noise
        z_grad, z = task_z[which], task_z[which].detach()

        prior = torch.distributions.Normal(torch.zeros(LATENT), torch.ones(LATENT))
        kl = torch.distributions.kl_divergence(q_zh, prior).sum(1)
        predicted = self.decoder(torch.cat([obs, action, z_grad], 1))[:, 0]
        model_loss = nn.functional.mse_loss(predicted, reward)
        model_loss = model_loss + cfg.kl_weight * (
            kl.mean() if cfg.kl_reduction == "mean" else kl.sum()
        )

        with torch.no_grad():
            acting = z
            if cfg.target_latent == "fresh":
                acting = (q_zh.loc + q_zh.scale * batch.next_latent_noise)[which]
            next_action, next_log_prob = self.draw(next_obs, acting, batch.next_action_noise)
            value = self.min_q(self.target, next_obs, next_action, z)
            value = value - cfg.entropy_weight * next_log_prob
            y = cfg.reward_scale * reward + (1 - done) * cfg.discount * value
        x = torch.cat([obs, action, z], 1)
        q_losses = [nn.functional.mse_loss(q(x)[:, 0], y) for q in self.q]

        policy_loss = self.policy_loss(batch, obs, action, z)

        # Gradients first, by hand, so that each parameter sees exactly its own loss.
        grads = torch.autograd.grad(policy_loss, list(self.policy.parameters()))
        if cfg.actor != "bc":
            for loss, adam in zip(q_losses, self.q_adam, strict=True):
                adam.zero_grad()
                loss.backward()
                adam.step()
        if cfg.train_model:
            self.model_adam.zero_grad()
            model_loss.backward()
            self.model_adam.step()
        for parameter, grad in zip(self.policy.parameters(), grads, strict=True):
            parameter.grad = grad
        self.policy_adam.step()
        if cfg.actor != "bc":
            self.move_targets()

    def policy_loss(
        self, batch: Batch, obs: torch.Tensor, action: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        cfg = self.config
        n = len(obs)
        log_pi = self.act(obs, z).log_prob(action.clamp(-0.999999, 0.999999))
        if cfg.actor == "bc":
            return -log_pi.mean()
        own, own_log_prob = self.draw(obs, z, batch.action_noise)
        own_value = self.min_q(self.q, obs, own, z)
        loss = cfg.entropy_weight * own_log_prob.mean()
        if cfg.actor == "policy-gradient":
            return loss - own_value.mean()
        with torch.no_grad():
            advantage = self.min_q(self.q, obs, action, z) - own_value
            exponent = (advantage - advantage.max()) / cfg.awac_temperature
            weights = n * exponent.exp() / exponent.exp().sum()
        loss = loss - cfg.awac_weight * (weights * log_pi).sum() / n
        return loss - cfg.policy_gradient_weight * own_value.mean()

    def move_targets(self) -> None:
        rate = self.config.target_update_rate
        with torch.no_grad():
            for target, q in zip(self.target, self.q, strict=True):
                for old, new in zip(target.parameters(), q.parameters(), strict=True):
                    old.copy_((1 - rate) * old + rate * new)

    def state(self) -> dict[str, np.ndarray]:
        return {
            "policy": flatten(self.policy),
            "encoder": flatten(self.encoder),
            "decoder": flatten(self.decoder),
            "q1": flatten(self.q[0]),
            "q2": flatten(self.q[1]),
            "t1": flatten(self.target[0]),
            "t2": flatten(self.target[1]),
        }


def by_member(state: dict[str, np.ndarray], q_sizes: list[int]) -> dict[str, np.ndarray]:
    out = {name: state[name] for name in ("policy", "encoder", "decoder")}
    out["q1"], out["q2"] = split_twins(state["critic"], q_sizes)
    out["t1"], out["t2"] = split_twins(state["target_critic"], q_sizes)
    return out


@pytest.mark.parametrize("name", VARIANTS)
def test_updates_equal_an_independent_implementation(name: str) -> None:
    config = VARIANTS[name]
    learner = make_learner(config)
    before = copy.deepcopy(learner.state())
    plain = PlainSmac(before, config)
    for number in range(4):
        batch = random_batch(number)
        plain.update(batch)
        learner.update(batch)
    after, expected = by_member(learner.state(), plain.q_sizes), plain.state()
    start = by_member(before, plain.q_sizes)
    for key in expected:
        # Adam's first steps have size lr whatever the gradient, so the tolerance is a share of lr.
        np.testing.assert_allclose(after[key], expected[key], rtol=0, atol=2e-6, err_msg=key)
        frozen = key in {"encoder", "decoder"} and not config.train_model
        frozen |= key in {"q1", "q2", "t1", "t2"} and config.actor == "bc"
        assert np.array_equal(after[key], start[key]) == frozen, key
