"""The SMAC learner: ``update`` shows one gradient step, in order, on one screen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.encoder import Posterior, infer_posterior, kl_to_prior, sample_latent
from smac_core.errors import ConfigError
from smac_core.losses import (
    ActionDistribution,
    action_distribution,
    awac_weights,
    bellman_target,
    critic_loss,
    effective_sample_size,
    log_prob,
    policy_gradient_loss,
    reward_loss,
    sample_action,
    weighted_imitation_loss,
)
from smac_core.networks import (
    Shapes,
    critic_values,
    forward,
    initial_parameters,
    network_shapes,
    view_mlp,
)
from smac_core.parameters import ParameterGroup, read_scalars, restore_groups, save_groups


class Batch(NamedTuple):
    """One meta-batch on the learner's device; every tensor is float32.

    Args:
        obs: ``[M, B, obs_dim]``.
        action: ``[M, B, action_dim]``.
        reward: ``[M, B]`` unscaled.
        next_obs: ``[M, B, obs_dim]``.
        terminated: ``[M, B]`` 0 or 1.
        context: ``[M, K, features]``, an independent draw from the same tasks.
        latent_noise: ``[M, latent_dim]`` standard normal.
        next_latent_noise: ``[M, latent_dim]``, for ``target_latent: fresh``.
        action_noise: ``[M * B, action_dim]``.
        next_action_noise: ``[M * B, action_dim]``.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    context: Tensor
    latent_noise: Tensor
    next_latent_noise: Tensor
    action_noise: Tensor
    next_action_noise: Tensor


def resolve_device(name: str) -> torch.device:
    """Turn the configured device into a torch device; nothing falls back in silence.

    Args:
        name: auto, cpu or cuda.

    Returns:
        The device; auto takes CUDA where there is one.

    Raises:
        ConfigError: ``cuda`` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            "no CUDA device",
            where="learner.device",
            expected="a GPU that torch can use",
            found="none",
            fix="set device: auto or device: cpu",
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


class Learner:
    """Encoder, decoder, twin critics and actor, with their optimisers.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: The phase's hyperparameters.
        seed: Seed of the initial parameters.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: NetworkConfig,
        config: LearnerConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        all_shapes = network_shapes(shapes, networks)
        self.config = config
        self.device = device
        self.metrics: dict[str, Tensor] = {}
        self.num_updates = 0
        rng = np.random.default_rng([seed, 0x11])
        names = ("policy", "critic", "encoder", "decoder", "target_critic")
        initial = {
            n: initial_parameters(n, all_shapes[n.removeprefix("target_")], rng) for n in names
        }
        if config.target_init == "copy":
            initial["target_critic"] = initial["critic"].copy()
        agent = {n: all_shapes[n] for n in ("policy", "critic")}
        model = {n: all_shapes[n] for n in ("encoder", "decoder")}
        self.agent = ParameterGroup(agent, initial, config.learning_rate, device)
        self.model = ParameterGroup(model, initial, config.learning_rate, device)
        self.target_flat = torch.from_numpy(initial["target_critic"]).to(device)
        self.target_critic = view_mlp(self.target_flat, all_shapes["critic"])
        self.frozen_critic = self.agent.networks["critic"].detached()

    def update(self, batch: Batch) -> None:
        """Take one gradient step on every trained network; all losses use the weights before it.

        Args:
            batch: One meta-batch.

        Source: smac-reference section 2.3 (order), Eqs. (1)-(3) of the paper.
        """
        cfg = self.config
        num_tasks, rows = batch.reward.shape
        obs = batch.obs.view(num_tasks * rows, -1)
        action = batch.action.view(num_tasks * rows, -1)
        reward = batch.reward.view(-1)

        posterior = self._posterior(batch.context)
        task_latent = sample_latent(posterior, batch.latent_noise)
        latent = spread(task_latent, rows)
        z = latent.detach()

        metrics: dict[str, Tensor] = {}
        loss = torch.zeros((), device=self.device)
        if cfg.train_model:
            predicted = forward(
                self.model.networks["decoder"], torch.cat((obs, action, latent), dim=1)
            ).squeeze(1)
            kl = kl_to_prior(posterior)
            kl = kl.mean() if cfg.kl_reduction == "mean" else kl.sum()
            decoding = reward_loss(predicted, reward)
            loss = loss + decoding + cfg.kl_weight * kl
            metrics |= {"reward_loss": decoding, "posterior_kl": kl}

        dist = action_distribution(
            forward(self.agent.networks["policy"], torch.cat((obs, z), dim=1))
        )
        if cfg.actor == "bc":
            imitation = weighted_imitation_loss(log_prob(dist, action), torch.ones_like(reward))
            loss = loss + imitation
            metrics["imitation_loss"] = imitation
        else:
            values = critic_values(self.agent.networks["critic"], obs, action, z)
            bellman = critic_loss(values, self._target(batch, posterior, z))
            actor, actor_metrics = self._actor_loss(batch, dist, (obs, action, z), values.detach())
            loss = loss + bellman + actor
            metrics |= {"critic_loss": bellman, "value": values} | actor_metrics

        loss.backward()  # type: ignore[no-untyped-call]
        self.agent.step()
        if cfg.train_model:
            self.model.step()
        if cfg.actor != "bc":
            critic = self.agent.flat[self.agent.spans["critic"]]
            self.target_flat.lerp_(critic, cfg.target_update_rate)
        self.num_updates += 1
        self.metrics = metrics

    def _posterior(self, context: Tensor) -> Posterior:
        std = self.config.posterior_variance == "std"
        if self.config.train_model:
            return infer_posterior(self.model.networks["encoder"], context, softplus_is_std=std)
        with torch.no_grad():
            return infer_posterior(self.model.networks["encoder"], context, softplus_is_std=std)

    @torch.no_grad()
    def _target(self, batch: Batch, posterior: Posterior, z: Tensor) -> Tensor:
        """Bellman target with the minimum of the target twins and a' ~ π(·|s', z)."""
        cfg = self.config
        next_obs = batch.next_obs.view(len(z), -1)
        acting = z
        if cfg.target_latent == "fresh":  # released code draws a second z for a' alone
            acting = spread(
                sample_latent(posterior, batch.next_latent_noise), batch.reward.shape[1]
            )
        dist = action_distribution(
            forward(self.agent.networks["policy"], torch.cat((next_obs, acting), dim=1))
        )
        next_action, next_log_prob = sample_action(dist, batch.next_action_noise)
        next_value = critic_values(self.target_critic, next_obs, next_action, z).min(dim=0).values
        if cfg.entropy_weight:
            next_value = next_value - cfg.entropy_weight * next_log_prob
        return bellman_target(
            batch.reward.view(-1),
            batch.terminated.view(-1),
            next_value,
            cfg.reward_scale,
            cfg.discount,
        )

    def _actor_loss(
        self,
        batch: Batch,
        dist: ActionDistribution,
        rows: tuple[Tensor, Tensor, Tensor],
        values: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """AWAC term plus λ_pearl times the PEARL actor term; the critic gets no gradient."""
        cfg = self.config
        obs, action, z = rows
        pathwise = cfg.policy_gradient_weight > 0 or cfg.actor == "policy-gradient"
        with torch.set_grad_enabled(pathwise or cfg.entropy_weight > 0):
            own_action, own_log_prob = sample_action(dist, batch.action_noise)
            own_values = critic_values(self.frozen_critic, obs, own_action, z)
        loss = torch.zeros((), device=self.device)
        metrics: dict[str, Tensor] = {}
        if cfg.actor == "awac":
            advantage = values.min(dim=0).values - own_values.detach().min(dim=0).values
            weights = awac_weights(advantage, cfg.awac_temperature)
            imitation = weighted_imitation_loss(log_prob(dist, action), weights)
            loss = loss + cfg.awac_weight * imitation
            metrics |= {
                "imitation_loss": imitation,
                "advantage": advantage,
                "effective_sample_size": effective_sample_size(weights),
            }
        if pathwise:
            climb = policy_gradient_loss(own_values)
            weight = cfg.policy_gradient_weight if cfg.actor == "awac" else 1.0
            loss = loss + weight * climb
            metrics["own_action_value"] = -climb
        if cfg.entropy_weight:
            loss = loss + cfg.entropy_weight * own_log_prob.mean()
        return loss, metrics

    def read_metrics(self) -> dict[str, float]:
        """Read the last update's metrics; the only place that waits for the device.

        Returns:
            One mean a metric.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)

    def state(self) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Returns:
            Flat parameters by network, Adam's state by group, and the update count.
        """
        out = save_groups({"agent": self.agent, "model": self.model})
        out["target_critic"] = self.target_flat.cpu().numpy().copy()
        out["num_updates"] = np.array([self.num_updates], dtype=np.int64)
        return out

    @torch.no_grad()
    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``.
        """
        restore_groups({"agent": self.agent, "model": self.model}, state)
        self.target_flat.copy_(torch.from_numpy(state["target_critic"]))
        self.num_updates = int(state["num_updates"][0])


def spread(latent: Tensor, rows: int) -> Tensor:
    """Repeat each task's latent for its rows.

    Args:
        latent: ``[M, latent_dim]``.
        rows: B.

    Returns:
        ``[M * B, latent_dim]``.
    """
    num_tasks, dim = latent.shape
    return latent[:, None, :].expand(num_tasks, rows, dim).reshape(num_tasks * rows, dim)
