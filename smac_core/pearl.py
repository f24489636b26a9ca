"""PEARL with true rewards, the paper's data collector; and its variant that is told the task.

Source: smac-reference section 4 and baselines.md section 1 (the rlkit variant, with the decoder).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smac_core.config import NetworkConfig, PearlConfig
from smac_core.encoder import infer_posterior, kl_to_prior, sample_latent
from smac_core.learner import Batch, spread
from smac_core.losses import (
    action_distribution,
    bellman_target,
    critic_loss,
    reward_loss,
    sample_action,
)
from smac_core.networks import (
    Shapes,
    critic_values,
    forward,
    initial_parameters,
    network_shapes,
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

# oyster sets 1e-3 where the released SMAC configuration sets none; see docs/deviations.md#D15.


class _Rows(NamedTuple):
    """Flattened rows of a batch; the leading axis is that of ``Batch``, with one seed."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor


class PearlLearner:
    """Encoder, decoder, twin critics, state value and actor, trained with true rewards.

    Args:
        shapes: Sizes of the environment.
        networks: Hidden widths.
        config: Hyperparameters.
        seed: Seed of the initial parameters.
        device: Where to compute.
        task_latents: ``[T, latent_dim]`` for the task-conditioned variant: z is the scaled task
            parameter and there is no encoder; None: PEARL.
    """

    def __init__(
        self,
        shapes: Shapes,
        networks: NetworkConfig,
        config: PearlConfig,
        seed: int,
        device: torch.device,
        task_latents: np.ndarray | None = None,
    ) -> None:
        layers = network_shapes(shapes, networks)
        rng = np.random.default_rng([seed, 0x9E])
        initial = {n: initial_parameters(n, layers[n], rng) for n in layers}
        self.config = config
        self.device = device
        self.metrics: dict[str, Tensor] = {}
        self.num_updates = 0
        rate = config.learning_rate
        model = {n: layers[n] for n in ("critic", "encoder", "decoder")}
        self.model = ParameterGroup(model, [initial], rate, device)
        self.value = ParameterGroup({"value": layers["value"]}, [initial], rate, device)
        self.policy = ParameterGroup({"policy": layers["policy"]}, [initial], rate, device)
        self.target_flat = self.value.flat.detach().clone()  # PEARL's target V is a copy
        self.value_shape = layers["value"]
        self.target_value = view_mlp(self.target_flat, self.value_shape)
        self.frozen_critic = self.model.networks["critic"].detached()
        self.task_latents = (
            None if task_latents is None else torch.from_numpy(task_latents).float().to(device)
        )

    def update(self, batch: Batch) -> None:
        """Take one gradient step: (critics, encoder, decoder), then V, then its target, then π.

        Args:
            batch: One meta-batch of one seed.

        Source: smac-reference section 4, point 4.
        """
        num = batch.reward[0].numel()
        rows = _Rows(
            batch.obs.view(1, num, -1),
            batch.action.view(1, num, -1),
            batch.reward.view(1, num),
            batch.next_obs.view(1, num, -1),
            batch.terminated.view(1, num),
        )
        metrics: dict[str, Tensor] = {}
        latent, kl_term = self._latent(batch, metrics)
        z = latent.detach()
        self._step_model(rows, latent, kl_term, metrics)
        self._step_actor(rows, z, batch.action_noise, metrics)
        self.num_updates += 1
        self.metrics = {name: value.detach() for name, value in metrics.items()}

    def _latent(self, batch: Batch, metrics: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Draw z per task from the posterior, or take the task itself."""
        size = batch.reward.shape[2]
        if self.task_latents is not None:
            return spread(self.task_latents[batch.task], size), batch.reward.new_zeros(1)
        posterior = infer_posterior(self.model.networks["encoder"], batch.context)
        kl = kl_to_prior(posterior).sum(dim=-1)  # PEARL sums over tasks, SMAC averages
        metrics["posterior_kl"] = kl / batch.reward.shape[1]
        latent = spread(sample_latent(posterior, batch.latent_noise), size)
        return latent, self.config.kl_weight * kl

    def _step_model(
        self, rows: _Rows, latent: Tensor, kl_term: Tensor, metrics: dict[str, Tensor]
    ) -> None:
        """Critics and encoder on the Bellman error, decoder and encoder on the reward error."""
        cfg = self.config
        with torch.no_grad():
            next_input = torch.cat((rows.next_obs, latent), dim=-1)
            next_value = forward(self.target_value, next_input).squeeze(-1)
            target = bellman_target(
                rows.reward, rows.terminated, next_value, cfg.reward_scale, cfg.discount
            )
        values = critic_values(self.model.networks["critic"], rows.obs, rows.action, latent)
        bellman = critic_loss(values, target)
        loss = bellman + kl_term
        metrics |= {"critic_loss": bellman, "value": values}
        if cfg.train_decoder:
            decoder_input = torch.cat((rows.obs, rows.action, latent), dim=-1)
            predicted = forward(self.model.networks["decoder"], decoder_input).squeeze(-1)
            decoding = reward_loss(predicted, rows.reward)
            loss = loss + decoding
            metrics["reward_loss"] = decoding
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.model.step()

    def _step_actor(
        self, rows: _Rows, z: Tensor, noise: Tensor, metrics: dict[str, Tensor]
    ) -> None:
        """V towards min Q − log π, its target, and π up the soft value."""
        cfg = self.config
        inputs = torch.cat((rows.obs, z), dim=-1)
        dist = action_distribution(forward(self.policy.networks["policy"], inputs))
        action, own_log_prob = sample_action(dist, noise)
        own_value = critic_values(self.frozen_critic, rows.obs, action, z).min(dim=-2).values
        soft_value = own_value - cfg.entropy_weight * own_log_prob
        predicted = forward(self.value.networks["value"], inputs).squeeze(-1)
        value_loss = (predicted - soft_value.detach()).square().mean(dim=-1)
        penalty = cfg.mean_penalty * dist.mean.square().mean()
        penalty = penalty + cfg.log_std_penalty * dist.log_std.square().mean()
        (value_loss.sum() - soft_value.mean() + penalty).backward()  # type: ignore[no-untyped-call]
        self.value.step()
        self.target_flat.lerp_(self.value.flat.detach(), cfg.target_update_rate)
        self.policy.step()
        metrics |= {"value_loss": value_loss, "own_action_value": own_value.detach()}
        metrics["policy_entropy"] = -own_log_prob.detach()

    @property
    def _groups(self) -> dict[str, ParameterGroup]:
        return {"model": self.model, "value": self.value, "policy": self.policy}

    def read_metrics(self) -> dict[str, float]:
        """Read the last update's metrics.

        Returns:
            One mean a metric.

        Raises:
            NonFiniteError: A loss is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)[0]

    def state(self) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Returns:
            Flat parameters by network, Adam's state by group, and the update count.
        """
        out = save_groups(self._groups, 0)
        out["target_value"] = take_seed(self.target_flat, self.value_shape, 1, 0)
        out["num_updates"] = np.array([self.num_updates], dtype=np.int64)
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``.
        """
        restore_groups(self._groups, state, 0)
        put_seed(self.target_flat, self.value_shape, 1, 0, state["target_value"])
        self.num_updates = int(state["num_updates"][0])
