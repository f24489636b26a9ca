"""The published update, written down as the paper's code has it: the learner's baseline.

Encoder forward twice, Q1 and Q2 as modules of their own, Q(s, a_π) evaluated twice, Python loops
over tasks, one Adam a network. It computes what ``smac_core.learner`` computes with
``target_latent: fresh``. One thing differs from the published order, which PyTorch 1.5 and later
refuse: the policy's loss goes backward before the critics step. Source: smac-reference section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from benchmarks.plain_networks import PlainPolicy, plain_mlp, plain_twins
from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.learner import Batch
from smac_core.networks import Shapes, network_shapes


def _multiply_gaussians(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply the factors of one task, ``[K, latent_dim]`` each."""
    variance = variance.clamp(min=1e-7)
    product = 1.0 / torch.reciprocal(variance).sum(dim=0)
    return product * (mean / variance).sum(dim=0), product


def _tanh_log_prob(normal: Normal, pre_tanh: Tensor) -> Tensor:
    """Log density of tanh(pre_tanh) ``[N]``."""
    squash = 2.0 * (math.log(2.0) - pre_tanh - functional.softplus(-2.0 * pre_tanh))
    density: Tensor = normal.log_prob(pre_tanh) - squash  # type: ignore[no-untyped-call]
    return density.sum(dim=1)


def _soft_update(source: nn.Module, target: nn.Module, rate: float) -> None:
    """Move every target parameter a little towards its source."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(old.data * (1.0 - rate) + new.data * rate)


class Transcription:
    """The published trainer.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: Hyperparameters; the equations must be those of the released configuration.
        state: Initial parameters, as ``Learner.state`` gives them.
        device: Where to compute.

    Raises:
        ValueError: The configuration asks for another equation.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: NetworkConfig,
        config: LearnerConfig,
        state: Mapping[str, np.ndarray],
        device: torch.device,
    ) -> None:
        released = LearnerConfig(target_latent="fresh")
        for key in ("actor", "target_latent", "posterior_variance", "kl_reduction"):
            if getattr(config, key) != getattr(released, key):
                raise ValueError(f"{key}: the published update has {getattr(released, key)}")
        sizes = {name: shape.sizes for name, shape in network_shapes(shapes, networks).items()}
        self.config = config
        self.latent_dim = networks.latent_dim
        self.policy = PlainPolicy(state["policy"], sizes["policy"]).to(device)
        self.encoder = plain_mlp(state["encoder"], sizes["encoder"]).to(device)
        self.decoder = plain_mlp(state["decoder"], sizes["decoder"]).to(device)
        self.qf1, self.qf2 = (q.to(device) for q in plain_twins(state["critic"], sizes["critic"]))
        self.target_qf1, self.target_qf2 = (
            q.to(device) for q in plain_twins(state["target_critic"], sizes["critic"])
        )
        rate = config.learning_rate
        self.policy_optimiser = torch.optim.Adam(self.policy.parameters(), lr=rate)
        self.qf1_optimiser = torch.optim.Adam(self.qf1.parameters(), lr=rate)
        self.qf2_optimiser = torch.optim.Adam(self.qf2.parameters(), lr=rate)
        model = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.context_optimiser = torch.optim.Adam(model, lr=rate)
        self.prior = Normal(
            torch.zeros(self.latent_dim, device=device), torch.ones(self.latent_dim, device=device)
        )

    def _posterior(self, context: Tensor) -> Normal:
        """Infer q(z|h), task by task."""
        params = self.encoder(context.view(-1, context.size(2)))
        params = params.view(context.size(0), context.size(1), -1)
        means = params[..., : self.latent_dim]
        variances = functional.softplus(params[..., self.latent_dim :])
        tasks = [
            _multiply_gaussians(mean, variance)
            for mean, variance in zip(means.unbind(), variances.unbind(), strict=True)
        ]
        mean = torch.stack([task[0] for task in tasks])
        variance = torch.stack([task[1] for task in tasks])
        return Normal(mean, variance.sqrt())

    def _act(self, obs: Tensor, context: Tensor, noise: Tensor) -> tuple[Normal, Normal, Tensor]:
        """Encode the context, draw z, and run the policy on every row."""
        posterior = self._posterior(context)
        drawn = posterior.mean + posterior.stddev * noise
        task_z = torch.cat([z.repeat(obs.size(1), 1) for z in drawn], dim=0)
        rows = torch.cat([obs.view(len(task_z), -1), task_z.detach()], dim=1)
        return Normal(*self.policy(rows)), posterior, task_z

    def update(self, batch: Batch) -> None:
        """Take one gradient step.

        Args:
            batch: One meta-batch.
        """
        cfg = self.config
        dist, posterior, z_attached = self._act(batch.obs, batch.context, batch.latent_noise)
        next_dist, _, _ = self._act(batch.next_obs, batch.context, batch.next_latent_noise)
        z = z_attached.detach()
        pre_tanh = dist.mean + dist.stddev * batch.action_noise
        own_action, log_pi = torch.tanh(pre_tanh), _tanh_log_prob(dist, pre_tanh)

        num = len(z)
        obs, action = batch.obs.view(num, -1), batch.action.view(num, -1)
        next_obs = batch.next_obs.view(num, -1)
        reward, terminated = batch.reward.view(num, 1), batch.terminated.view(num, 1)

        q1 = self.qf1(torch.cat([obs, action, z], dim=1))
        q2 = self.qf2(torch.cat([obs, action, z], dim=1))
        next_pre_tanh = next_dist.mean + next_dist.stddev * batch.next_action_noise
        next_action = torch.tanh(next_pre_tanh)
        next_log_pi = _tanh_log_prob(next_dist, next_pre_tanh).unsqueeze(1)
        with torch.no_grad():
            target_q = torch.min(
                self.target_qf1(torch.cat([next_obs, next_action, z], dim=1)),
                self.target_qf2(torch.cat([next_obs, next_action, z], dim=1)),
            )
            target_q = target_q - cfg.entropy_weight * next_log_pi
            target = cfg.reward_scale * reward + (1.0 - terminated) * cfg.discount * target_q
        qf1_loss = functional.mse_loss(q1, target)
        qf2_loss = functional.mse_loss(q2, target)

        kl = kl_divergence(posterior, self.prior).mean(dim=0).sum()
        predicted = self.decoder(torch.cat([obs, action, z_attached], dim=1))
        context_loss = cfg.kl_weight * kl + ((predicted - reward) ** 2).mean()

        own = torch.cat([obs, own_action, z], dim=1)
        own_value = torch.min(self.qf1(own), self.qf2(own))
        policy_loss = cfg.entropy_weight * log_pi.mean()
        policy_loss = policy_loss + cfg.awac_weight * self._awac_loss(
            dist, (obs, action, z), own_action, torch.min(q1, q2)
        )
        if cfg.policy_gradient_weight:
            policy_loss = policy_loss + cfg.policy_gradient_weight * (-own_value).mean()

        self._step(policy_loss, context_loss, qf1_loss, qf2_loss)
        _soft_update(self.qf1, self.target_qf1, cfg.target_update_rate)
        _soft_update(self.qf2, self.target_qf2, cfg.target_update_rate)

    def _awac_loss(
        self, dist: Normal, rows: tuple[Tensor, Tensor, Tensor], own_action: Tensor, q: Tensor
    ) -> Tensor:
        """Imitate the dataset's actions, weighted by advantage; Q(s, a_π) a second time."""
        obs, action, z = rows
        own = torch.cat([obs, own_action, z], dim=1)
        value = torch.min(self.qf1(own), self.qf2(own))
        clipped = action.clamp(-0.999999, 0.999999)
        log_prob = _tanh_log_prob(dist, torch.atanh(clipped))
        weights = functional.softmax((q - value) / self.config.awac_temperature, dim=0)[:, 0]
        return (-log_prob * len(weights) * weights.detach()).mean()

    def _step(
        self, policy_loss: Tensor, context_loss: Tensor, qf1_loss: Tensor, qf2_loss: Tensor
    ) -> None:
        """Go backward through every loss, then step every network."""
        self.policy_optimiser.zero_grad()
        policy_loss.backward()  # type: ignore[no-untyped-call]
        if self.config.train_model:
            self.context_optimiser.zero_grad()
        self.qf1_optimiser.zero_grad()  # also drops what the policy's loss left in the critics
        self.qf2_optimiser.zero_grad()
        context_loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        qf1_loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        qf2_loss.backward()  # type: ignore[no-untyped-call]
        self.qf1_optimiser.step()
        self.qf2_optimiser.step()
        if self.config.train_model:
            self.context_optimiser.step()
        self.policy_optimiser.step()
