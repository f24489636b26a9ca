"""SAC on hyper-states [s, flag, mean, log variance]: plain, without any offline regulariser.

Source: baselines.md section 3; the flag says that an episode begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smac_core.borel.config import HyperSacConfig
from smac_core.losses import action_distribution, bellman_target, critic_loss, sample_action
from smac_core.networks import (
    MlpShape,
    Shapes,
    critic_values,
    forward,
    initial_parameters,
    view_mlp,
)
from smac_core.parameters import (
    ParameterGroup,
    put_seed,
    restore_groups,
    save_groups,
    take_seed,
)

FLAG = 1  # numbers that a hyper-state has beside observation and belief


class HyperBatch(NamedTuple):
    """N rows on the learner's device; the leading axis is that of the networks' seeds, here one.

    Args:
        obs: ``[1, N, obs_dim + 1]``, with the flag.
        belief: ``[1, N, 2 * latent_dim]``, mean and log variance before the step.
        action: ``[1, N, action_dim]``.
        reward: ``[1, N]`` unscaled.
        next_obs: ``[1, N, obs_dim + 1]``; behind an episode's end the start of the next.
        next_belief: ``[1, N, 2 * latent_dim]``.
        terminated: ``[1, N]``; 0 at a time limit.
        action_noise: ``[1, N, action_dim]`` standard normal.
        next_action_noise: ``[1, N, action_dim]``.
    """

    obs: Tensor
    belief: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    next_belief: Tensor
    terminated: Tensor
    action_noise: Tensor
    next_action_noise: Tensor


def hyper_shapes(shapes: Shapes, latent_dim: int, config: HyperSacConfig) -> dict[str, MlpShape]:
    """Layer widths of both networks.

    Args:
        shapes: Sizes of the environment.
        latent_dim: Length of z; the belief has twice as many numbers.
        config: Hidden widths.

    Returns:
        A shape for critic and policy.
    """
    state = shapes.obs_dim + FLAG + 2 * latent_dim
    return {
        "critic": MlpShape((state + shapes.action_dim, *config.critic, 1), ensemble=2),
        "policy": MlpShape((state, *config.policy, 2 * shapes.action_dim)),
    }


class HyperSac:
    """Twin critics, their targets and the actor.

    Args:
        shapes: Sizes of the environment.
        latent_dim: Length of z.
        config: Hyperparameters.
        seed: Seed of the initial parameters.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        latent_dim: int,
        config: HyperSacConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        layers = hyper_shapes(shapes, latent_dim, config)
        rng = np.random.default_rng([seed, 0xB0])
        initial = {n: initial_parameters(n, shape, rng) for n, shape in layers.items()}
        self.config = config
        rates = {"critic": config.critic_learning_rate, "policy": config.actor_learning_rate}
        self.critic, self.policy = (
            ParameterGroup({n: layers[n]}, [initial], rates[n], device) for n in layers
        )
        self.critic_shape = layers["critic"]
        self.target_flat = self.critic.flat.detach().clone()
        self.target_critic = view_mlp(self.target_flat, self.critic_shape)
        self.frozen_critic = self.critic.networks["critic"].detached()

    def update(self, batch: HyperBatch) -> dict[str, Tensor]:
        """Take one gradient step on the critics, then on the actor, then move the targets.

        Args:
            batch: Rows.

        Returns:
            Metrics, with the leading axis of the networks.

        Source: baselines.md section 3, "SAC".
        """
        cfg = self.config
        values = critic_values(
            self.critic.networks["critic"], batch.obs, batch.action, batch.belief
        )
        bellman = critic_loss(values, self._target(batch))
        bellman.sum().backward()  # type: ignore[no-untyped-call]
        self.critic.step()

        inputs = torch.cat((batch.obs, batch.belief), dim=-1)
        dist = action_distribution(forward(self.policy.networks["policy"], inputs))
        action, log_prob = sample_action(dist, batch.action_noise)
        own = critic_values(self.frozen_critic, batch.obs, action, batch.belief).min(dim=-2).values
        (cfg.entropy_weight * log_prob - own).mean().backward()  # type: ignore[no-untyped-call]
        self.policy.step()
        self.target_flat.lerp_(self.critic.flat, cfg.target_update_rate)
        metrics = {
            "critic_loss": bellman,
            "value": values,
            "largest_value": values.abs().amax(dim=(-2, -1)),
            "own_action_value": own,
            "policy_entropy": -log_prob,
        }
        return {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def _target(self, batch: HyperBatch) -> Tensor:
        """Bellman target y = r + γ(1 − d)[min Q̄(b', a') − α log π(a'|b')]."""
        cfg = self.config
        inputs = torch.cat((batch.next_obs, batch.next_belief), dim=-1)
        dist = action_distribution(forward(self.policy.networks["policy"], inputs))
        action, log_prob = sample_action(dist, batch.next_action_noise)
        twins = critic_values(self.target_critic, batch.next_obs, action, batch.next_belief)
        value = twins.min(dim=-2).values - cfg.entropy_weight * log_prob
        return bellman_target(batch.reward, batch.terminated, value, cfg.reward_scale, cfg.discount)

    @property
    def _groups(self) -> dict[str, ParameterGroup]:
        return {"critic": self.critic, "policy": self.policy}

    def state(self) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Returns:
            Flat parameters by network and Adam's state by group.
        """
        out = save_groups(self._groups, 0)
        out["target_critic"] = take_seed(self.target_flat, self.critic_shape, 1, 0)
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``.
        """
        restore_groups(self._groups, state, 0)
        put_seed(self.target_flat, self.critic_shape, 1, 0, state["target_critic"])
