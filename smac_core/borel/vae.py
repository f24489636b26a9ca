"""The belief: a GRU over (a, s', r), a Gaussian over the task at every step, and its decoders.

Source: baselines.md section 3 (VariBAD's model, trained offline).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smac_core.borel.config import BeliefConfig
from smac_core.networks import Shapes

PAIRS_AT_ONCE = 1 << 16  # latents times rows; 8 MiB an activation of width 32


class Beliefs(NamedTuple):
    """Diagonal Gaussians over the task, before the first step and after each.

    Args:
        mean: ``[B, T + 1, latent_dim]``.
        log_variance: ``[B, T + 1, latent_dim]``.
    """

    mean: Tensor
    log_variance: Tensor


class TrajectoryBatch(NamedTuple):
    """What the belief is trained on, on its device.

    Args:
        obs: ``[B, T, obs_dim]``.
        action: ``[B, T, action_dim]``.
        reward: ``[B, T]``.
        next_obs: ``[B, T, obs_dim]``.
        length: ``[B]`` int64 steps; what is behind is padding.
        steps: ``[B, n]`` int64, the latents that are decoded from.
        weight: ``[B, n]``, of each of them.
        noise: ``[B, n, latent_dim]`` standard normal.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    length: Tensor
    steps: Tensor
    weight: Tensor
    noise: Tensor


class FactoredDecoder(nn.Module):
    """An MLP on every pair of a latent and a row, whose first layer is computed once for each.

    W·[z, h] = W_z·z + W_h·h: n latents and T rows cost n + T products there, not n · T.

    Args:
        latent_dim: Length of z.
        row_dim: Length of h.
        hidden: Widths.
        outputs: Length of the output.
    """

    def __init__(self, latent_dim: int, row_dim: int, hidden: tuple[int, ...], outputs: int):
        super().__init__()
        self.of_latent = nn.Linear(latent_dim, hidden[0])
        self.of_row = nn.Linear(row_dim, hidden[0], bias=False)
        bound = 1.0 / math.sqrt(latent_dim + row_dim)  # that of one layer for both
        for parameter in (*self.of_latent.parameters(), *self.of_row.parameters()):
            nn.init.uniform_(parameter, -bound, bound)
        widths = (*hidden, outputs)
        self.layers = nn.ModuleList(nn.Linear(ins, outs) for ins, outs in pairwise(widths))

    def forward(self, latent: Tensor, rows: Tensor) -> Tensor:
        """Decode every row under every latent.

        Args:
            latent: ``[B, n, latent_dim]``.
            rows: ``[B, T, row_dim]``.

        Returns:
            ``[B, n, T, outputs]``.
        """
        x: Tensor = self.of_latent(latent)[:, :, None] + self.of_row(rows)[:, None]
        for layer in self.layers:
            x = layer(torch.relu_(x))
        return x


class BeliefVae(nn.Module):
    """Embeddings, GRU, heads and decoders.

    Args:
        shapes: Sizes of the environment.
        config: Widths.
        seed: Of the initial parameters.
    """

    def __init__(self, shapes: Shapes, config: BeliefConfig, seed: int) -> None:
        super().__init__()
        assert config.decode != "auto", "choose_decoders settles it"
        self.config = config
        widths = (config.action_embedding, config.obs_embedding, config.reward_embedding)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed_action = nn.Linear(shapes.action_dim, widths[0])
            self.embed_obs = nn.Linear(shapes.obs_dim, widths[1])
            self.embed_reward = nn.Linear(1, widths[2])
            self.gru = nn.GRU(sum(widths), config.hidden, batch_first=True)
            for name, parameter in self.gru.named_parameters():
                if name.startswith("weight"):
                    nn.init.orthogonal_(parameter)
                else:
                    nn.init.zeros_(parameter)
            self.mean = nn.Linear(config.hidden, config.latent_dim)
            self.log_variance = nn.Linear(config.hidden, config.latent_dim)
            self.decode_obs = nn.Linear(shapes.obs_dim, widths[1])
            self.decode_action = nn.Linear(shapes.action_dim, widths[0])
            latent, row = config.latent_dim, widths[0] + widths[1]
            if config.decode in {"reward", "both"}:
                self.reward = FactoredDecoder(latent, row + widths[1], config.decoder, 1)
            if config.decode in {"next_obs", "both"}:
                self.next_obs = FactoredDecoder(latent, row, config.decoder, shapes.obs_dim)

    def beliefs(self, action: Tensor, next_obs: Tensor, reward: Tensor) -> Beliefs:
        """Filter trajectories; padding behind a trajectory does not reach what is before it.

        Args:
            action: ``[B, T, action_dim]``.
            next_obs: ``[B, T, obs_dim]``.
            reward: ``[B, T]``.

        Returns:
            The beliefs; the first is that of the zero state, before any step.
        """
        parts = (
            self.embed_action(action),
            self.embed_obs(next_obs),
            self.embed_reward(reward[..., None]),
        )
        hidden, _ = self.gru(torch.relu(torch.cat(parts, dim=-1)))
        hidden = torch.cat((hidden.new_zeros(len(hidden), 1, hidden.shape[2]), hidden), dim=1)
        limit = self.config.log_variance_limit
        return Beliefs(self.mean(hidden), self.log_variance(hidden).clamp(-limit, limit))

    def errors(self, batch: TrajectoryBatch, latent: Tensor) -> dict[str, Tensor]:
        """Decode the whole trajectory, past and future, from each latent.

        Many pairs are decoded a few trajectories at a time, and once more on the way back, so that
        their activations are never all in memory.

        Args:
            batch: The trajectories.
            latent: ``[B, n, latent_dim]``.

        Returns:
            By decoder ``[B, n, T]`` squared errors; of the next observation, the mean over its
            numbers of the error in its change.
        """
        pairs = latent.shape[1] * batch.reward.shape[1]
        together = max(PAIRS_AT_ONCE // pairs, 1)
        columns = (batch.obs, batch.action, batch.reward, batch.next_obs, latent)
        if len(latent) <= together:
            return self._errors(*columns)
        parts: list[dict[str, Tensor]] = [
            checkpoint(self._errors, *chunk, use_reentrant=False)
            for chunk in zip(*(torch.split(c, together) for c in columns), strict=True)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _errors(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, latent: Tensor
    ) -> dict[str, Tensor]:
        seen = torch.relu(self.decode_obs(obs))
        done = torch.relu(self.decode_action(action))
        out: dict[str, Tensor] = {}
        if self.config.decode in {"reward", "both"}:
            after = torch.relu(self.decode_obs(next_obs))
            decoded = self.reward(latent, torch.cat((after, done, seen), dim=-1)).squeeze(-1)
            out["reward_loss"] = (decoded - reward[:, None]).square()
        if self.config.decode in {"next_obs", "both"}:
            change = self.next_obs(latent, torch.cat((done, seen), dim=-1))
            wanted = (next_obs - obs)[:, None]
            out["next_obs_loss"] = (change - wanted).square().mean(dim=-1)
        return out


def kl_chain(beliefs: Beliefs) -> Tensor:
    """Compute KL(q_t ‖ q_{t-1}) for every t; q_{-1} is N(0, I).

    Args:
        beliefs: With log variances that are clamped: the divergence divides by a variance.

    Returns:
        ``[B, T + 1]`` nats, summed over dimensions.

    Source: baselines.md section 3, "VAE loss".
    """
    mean, log_variance = beliefs
    zero = torch.zeros_like(mean[:, :1])
    before_mean = torch.cat((zero, mean[:, :-1]), dim=1)
    before = torch.cat((zero, log_variance[:, :-1]), dim=1)
    ratio = (log_variance - before).exp()
    moved = (mean - before_mean).square() * (-before).exp()
    return 0.5 * (ratio + moved - 1.0 - (log_variance - before)).sum(dim=-1)


def trajectory_losses(vae: BeliefVae, batch: TrajectoryBatch) -> dict[str, Tensor]:
    """Compute the terms of the objective, each a mean over trajectories.

    Args:
        vae: The model.
        batch: Trajectories and the latents that are decoded from.

    Returns:
        ``belief_kl``, the chain summed over a trajectory, and by decoder the estimated sum over all
        latents of the mean squared error over the trajectory.

    Source: baselines.md section 3: a mean over the decoded steps, a sum over the latents.
    """
    beliefs = vae.beliefs(batch.action, batch.next_obs, batch.reward)
    length = batch.length[:, None]
    within = torch.arange(beliefs.mean.shape[1], device=length.device) <= length
    out = {"belief_kl": (kl_chain(beliefs) * within).sum(dim=1).mean()}
    which = batch.steps[..., None].expand_as(batch.noise)
    mean, log_variance = (part.gather(1, which) for part in beliefs)
    latent = mean + (0.5 * log_variance).exp() * batch.noise
    steps = (within[:, 1:] / length).to(batch.reward.dtype)
    for name, error in vae.errors(batch, latent).items():
        of_latent = torch.einsum("bnt,bt->bn", error, steps)
        out[name] = (of_latent * batch.weight).sum(dim=1).mean()
    return out
