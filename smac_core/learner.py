"""The SMAC learner: ``update`` shows one gradient step, in order, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    draw_action,
    effective_sample_size,
    log_prob,
    policy_gradient_loss,
    reward_loss,
    sample_action,
    weighted_imitation_loss,
)
from smac_core.networks import (
    MlpShape,
    Shapes,
    critic_values,
    forward,
    initial_parameters,
    network_shapes,
    stack_seeds,
    view_mlp,
)
from smac_core.parameters import (
    ParameterGroup,
    put_seed,
    read_scalars,
    restore_groups,
    save_groups,
    take_seed,
)
from smac_core.plug_in import load_import


class Batch(NamedTuple):
    """One meta-batch of each of S seeds on the learner's device; all float32 but the tasks.

    Args:
        task: ``[S, M]`` int64, the drawn task slots.
        obs: ``[S, M, B, obs_dim]``.
        action: ``[S, M, B, action_dim]``.
        reward: ``[S, M, B]`` unscaled.
        next_obs: ``[S, M, B, obs_dim]``.
        terminated: ``[S, M, B]`` 0 or 1.
        context: ``[S, M, K, features]``, an independent draw from the same tasks.
        latent_noise: ``[S, M, latent_dim]`` standard normal.
        next_latent_noise: ``[S, M, latent_dim]``, for ``target_latent: fresh``.
        action_noise: ``[S, M * B, action_dim]``.
        next_action_noise: ``[S, M * B, action_dim]``.
    """

    task: Tensor
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


class ActorInputs(NamedTuple):
    """What an actor loss sees, N = M · B rows of each of S seeds.

    Args:
        dist: π(·|s, z), which carries the gradient.
        obs: ``[S, N, obs_dim]``.
        action: ``[S, N, action_dim]`` of the dataset.
        latent: ``[S, N, latent_dim]``, detached.
        values: ``[S, 2, N]`` Q1 and Q2 at the dataset's actions, detached.
        noise: ``[S, N, action_dim]`` standard normal.
        critic: Maps obs, action and latent to twin values; gradients reach the action alone.
    """

    dist: ActionDistribution
    obs: Tensor
    action: Tensor
    latent: Tensor
    values: Tensor
    noise: Tensor
    critic: Callable[[Tensor, Tensor, Tensor], Tensor]


ActorLoss = Callable[[ActorInputs, LearnerConfig], tuple[Tensor, dict[str, Tensor]]]
"""What ``learner.actor`` may name: gives a loss and metrics, each with the seeds in front."""


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


def seeds_together(seeds: Sequence[int], device: torch.device) -> list[tuple[int, ...]]:
    """Decide which seeds are stacked in one learner.

    Args:
        seeds: Seeds of one job.
        device: Where to compute.

    Returns:
        All together on a GPU, which one seed leaves idle; each alone on the CPU, where stacking
        gains nothing, so that a seed's numbers are bit for bit those of a job of its own.
    """
    return [(seed,) for seed in seeds] if device.type == "cpu" else [tuple(seeds)]


class Learner:
    """Encoder, decoder, twin critics and actor of S seeds, with their optimisers.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: The phase's hyperparameters.
        seeds: Seed of the initial parameters of each stacked learner.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: NetworkConfig,
        config: LearnerConfig,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        all_shapes = network_shapes(shapes, networks)
        self.config = config
        self.device = device
        self.num_seeds = len(seeds)
        self.metrics: dict[str, Tensor] = {}
        self.num_updates = 0
        initial = [_initial(all_shapes, config, seed) for seed in seeds]
        agent = {n: all_shapes[n] for n in ("policy", "critic")}
        model = {n: all_shapes[n] for n in ("encoder", "decoder")}
        self.agent = ParameterGroup(agent, initial, config.learning_rate, device)
        self.model = ParameterGroup(model, initial, config.learning_rate, device)
        self.critic_shape = all_shapes["critic"]
        target = stack_seeds(self.critic_shape, [one["target_critic"] for one in initial])
        self.target_flat = torch.from_numpy(target).to(device)
        self.target_critic = view_mlp(self.target_flat, self.critic_shape, self.num_seeds)
        self.frozen_critic = self.agent.networks["critic"].detached()
        self._plugged: ActorLoss | None = None
        if ":" in config.actor:
            self._plugged = load_import(config.actor, "learner.actor")

    def update(self, batch: Batch) -> None:
        """Take one gradient step on every trained network; all losses use the weights before it.

        Args:
            batch: One meta-batch.

        Source: smac-reference section 2.3 (order), Eqs. (1)-(3) of the paper.
        """
        cfg = self.config
        seeds, num_tasks, rows = batch.reward.shape
        obs = batch.obs.view(seeds, num_tasks * rows, -1)
        action = batch.action.view(seeds, num_tasks * rows, -1)
        reward = batch.reward.view(seeds, -1)

        posterior = self._posterior(batch.context)
        latent = spread(sample_latent(posterior, batch.latent_noise), rows)
        z = latent.detach()

        metrics: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        if cfg.train_model:
            predicted = forward(
                self.model.networks["decoder"], torch.cat((obs, action, latent), dim=-1)
            ).squeeze(-1)
            kl = kl_to_prior(posterior)
            kl = kl.mean(dim=-1) if cfg.kl_reduction == "mean" else kl.sum(dim=-1)
            decoding = reward_loss(predicted, reward)
            losses += [decoding, cfg.kl_weight * kl]
            metrics |= {"reward_loss": decoding, "posterior_kl": kl}

        dist = action_distribution(
            forward(self.agent.networks["policy"], torch.cat((obs, z), dim=-1))
        )
        if cfg.actor == "bc":
            imitation = weighted_imitation_loss(log_prob(dist, action), torch.ones_like(reward))
            losses.append(imitation)
            metrics["imitation_loss"] = imitation
        else:
            values = critic_values(self.agent.networks["critic"], obs, action, z)
            bellman = critic_loss(values, self._target(batch, posterior, z))
            actor, actor_metrics = self._actor_loss(batch, dist, (obs, action, z), values.detach())
            losses += [bellman, actor]
            metrics |= {"critic_loss": bellman, "value": values} | actor_metrics
            metrics["largest_value"] = _largest(values)

        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.agent.step()
        if cfg.train_model:
            self.model.step()
        if cfg.actor != "bc":
            critic = self.agent.flat[self.agent.spans["critic"]]
            self.target_flat.lerp_(critic, cfg.target_update_rate)
        self.num_updates += 1
        self.metrics = {name: value.detach() for name, value in metrics.items()}

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
        next_obs = batch.next_obs.view(*z.shape[:2], -1)
        acting = z
        if cfg.target_latent == "fresh":  # released code draws a second z for a' alone
            acting = spread(
                sample_latent(posterior, batch.next_latent_noise), batch.reward.shape[2]
            )
        dist = action_distribution(
            forward(self.agent.networks["policy"], torch.cat((next_obs, acting), dim=-1))
        )
        next_action, next_log_prob = self._draw(dist, batch.next_action_noise)
        next_value = critic_values(self.target_critic, next_obs, next_action, z).min(dim=-2).values
        if next_log_prob is not None:
            next_value = next_value - cfg.entropy_weight * next_log_prob
        return bellman_target(
            batch.reward.view(len(z), -1),
            batch.terminated.view(len(z), -1),
            next_value,
            cfg.reward_scale,
            cfg.discount,
        )

    def _draw(self, dist: ActionDistribution, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Draw actions, with their log density where the entropy term reads it."""
        if self.config.entropy_weight:
            return sample_action(dist, noise)
        return draw_action(dist, noise), None

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
        if self._plugged is not None:
            critic = partial(critic_values, self.frozen_critic)
            inputs = ActorInputs(dist, obs, action, z, values, batch.action_noise, critic)
            return self._plugged(inputs, cfg)
        pathwise = cfg.policy_gradient_weight > 0 or cfg.actor == "policy-gradient"
        own_action, own_log_prob = self._draw(dist, batch.action_noise)
        with torch.set_grad_enabled(pathwise):
            own_values = critic_values(self.frozen_critic, obs, own_action, z)
        loss = own_values.new_zeros(len(z))
        metrics = {"largest_own_action_value": _largest(own_values)}
        if cfg.actor == "awac":
            advantage = values.min(dim=-2).values - own_values.detach().min(dim=-2).values
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
        if own_log_prob is not None:
            loss = loss + cfg.entropy_weight * own_log_prob.mean(dim=-1)
        return loss, metrics

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the last update's metrics; the only place that waits for the device.

        Returns:
            For each seed one mean a metric.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Copy everything that the next update of one seed depends on.

        Args:
            seed: Which of the stacked seeds, from 0.

        Returns:
            Flat parameters by network, Adam's state by group, and the update count.
        """
        out = save_groups({"agent": self.agent, "model": self.model}, seed)
        out["target_critic"] = take_seed(self.target_flat, self.critic_shape, self.num_seeds, seed)
        out["num_updates"] = np.array([self.num_updates], dtype=np.int64)
        return out

    def load_state(self, state: Mapping[str, np.ndarray], seed: int = 0) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``; stacked seeds must be equally far.
            seed: Which of the stacked seeds, from 0.

        Raises:
            ValueError: The numbers do not fit the layer widths.
        """
        restore_groups({"agent": self.agent, "model": self.model}, state, seed)
        target = state["target_critic"]
        put_seed(self.target_flat, self.critic_shape, self.num_seeds, seed, target)
        self.num_updates = int(state["num_updates"][0])


def _largest(values: Tensor) -> Tensor:
    """Find the largest |Q| of each seed: a critic that blows up shows here first."""
    return values.detach().abs().amax(dim=(-2, -1))


def _initial(
    shapes: Mapping[str, MlpShape], config: LearnerConfig, seed: int
) -> dict[str, np.ndarray]:
    """Draw the initial parameters of one seed."""
    rng = np.random.default_rng([seed, 0x11])
    names = ("policy", "critic", "encoder", "decoder", "target_critic")
    initial = {n: initial_parameters(n, shapes[n.removeprefix("target_")], rng) for n in names}
    if config.target_init == "copy":
        initial["target_critic"] = initial["critic"].copy()
    return initial


def spread(latent: Tensor, rows: int) -> Tensor:
    """Repeat each task's latent for its rows.

    Args:
        latent: ``[S, M, latent_dim]``.
        rows: B.

    Returns:
        ``[S, M * B, latent_dim]``.
    """
    seeds, num_tasks, dim = latent.shape
    repeated = latent[:, :, None, :].expand(seeds, num_tasks, rows, dim)
    return repeated.reshape(seeds, num_tasks * rows, dim)
