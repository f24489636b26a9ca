"""The acting side of a checkpoint: policy, encoder, decoder in NumPy and numba, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.mlp import mlp_forward
from kernels.policy import act, act_mean
from kernels.posterior import kl_to_prior, product_of_gaussians
from kernels.relabel import decode_rewards
from smac_core.envs.episodes import Controller


@dataclass(frozen=True)
class PackedMlp:
    """One network as the kernels take it.

    Args:
        parameters: Flat float32 vector.
        sizes: Layer widths, int64.
    """

    parameters: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Posteriors:
    """Diagonal Gaussians over z, one a context.

    Args:
        mean: ``[G, latent_dim]`` float32.
        variance: ``[G, latent_dim]`` float32.
    """

    mean: np.ndarray
    variance: np.ndarray

    def sample(self, noise: np.ndarray) -> np.ndarray:
        """Draw latents.

        Args:
            noise: ``[G, ..., latent_dim]`` standard normal.

        Returns:
            ``[G, ..., latent_dim]`` float32.
        """
        shape = (len(self.mean),) + (1,) * (noise.ndim - 2) + (self.mean.shape[1],)
        std = np.sqrt(self.variance).reshape(shape)
        drawn: np.ndarray = self.mean.reshape(shape) + std * noise
        return drawn.astype(np.float32)

    def kl(self) -> np.ndarray:
        """Divergence from the prior, summed over dimensions ``[G]`` float32 (nats)."""
        out = np.empty(len(self.mean), dtype=np.float32)
        kl_to_prior(self.mean, self.variance, out)
        return out

    def select(self, rows: np.ndarray) -> Posteriors:
        """Return some of the posteriors, in the given order."""
        return Posteriors(self.mean[rows], self.variance[rows])


def prior(num: int, latent_dim: int) -> Posteriors:
    """Build the prior N(0, I).

    Args:
        num: How many rows.
        latent_dim: Length of z.

    Returns:
        Zero means and unit variances.
    """
    shape = (num, latent_dim)
    return Posteriors(np.zeros(shape, np.float32), np.ones(shape, np.float32))


@dataclass(frozen=True)
class Agent:
    """A meta-trained agent that acts, infers its task and predicts rewards.

    Args:
        policy: π(a|s, z).
        encoder: Factors of q(z|h).
        decoder: r̂(s, a, z).
        latent_dim: Length of z.
        context_next_obs: Whether the encoder sees s'.
        softplus_is_std: How the encoder's spread is read: docs/deviations.md#D3.
    """

    policy: PackedMlp
    encoder: PackedMlp
    decoder: PackedMlp
    latent_dim: int
    context_next_obs: bool = False
    softplus_is_std: bool = False

    def stochastic(self) -> Controller:
        """Return the controller a = tanh(mean + std · noise)."""

        def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
            out = np.empty(noise.shape, dtype=np.float32)
            obs, latent, noise = (np.ascontiguousarray(x) for x in (obs, latent, noise))
            act(self.policy.parameters, self.policy.sizes, obs, latent, noise, out)
            return out

        return control

    def deterministic(self) -> Controller:
        """Return the controller a = tanh(mean), used at meta-test."""

        def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
            out = np.empty(noise.shape, dtype=np.float32)
            obs, latent = np.ascontiguousarray(obs), np.ascontiguousarray(latent)
            act_mean(self.policy.parameters, self.policy.sizes, obs, latent, out)
            return out

        return control

    def infer(self, contexts: Sequence[np.ndarray]) -> Posteriors:
        """Infer q(z|h) from each context.

        Args:
            contexts: Per context ``[K, features]`` float32; sizes may differ; an empty one gives
                the prior.

        Returns:
            One posterior a context.

        Source: smac-reference section 1.
        """
        starts = np.zeros(len(contexts) + 1, dtype=np.int64)
        np.cumsum([len(c) for c in contexts], out=starts[1:])
        features = np.ascontiguousarray(np.concatenate(contexts), dtype=np.float32)
        encoded = np.empty((len(features), 2 * self.latent_dim), dtype=np.float32)
        mlp_forward(self.encoder.parameters, self.encoder.sizes, features, encoded)
        if self.softplus_is_std:
            raw = encoded[:, self.latent_dim :].astype(np.float64)
            variance = np.logaddexp(0.0, raw) ** 2
            variance = np.maximum(variance, 1e-7)
            # The inverse of softplus, in the form that does not overflow.
            encoded[:, self.latent_dim :] = variance + np.log(-np.expm1(-variance))
        mean = np.empty((len(contexts), self.latent_dim), dtype=np.float32)
        spread = np.empty_like(mean)
        product_of_gaussians(encoded, starts, mean, spread)
        return Posteriors(mean, spread)

    def decode(
        self, obs: np.ndarray, action: np.ndarray, latent: np.ndarray, row_episode: np.ndarray
    ) -> np.ndarray:
        """Predict rewards r̂(s, a, z).

        Args:
            obs: ``[N, obs_dim]`` float32.
            action: ``[N, action_dim]`` float32.
            latent: ``[E, latent_dim]`` float32, one z an episode.
            row_episode: ``[N]`` int64, the episode of each row.

        Returns:
            ``[N]`` float32, unscaled.
        """
        out = np.empty(len(obs), dtype=np.float32)
        decode_rewards(
            self.decoder.parameters, self.decoder.sizes, obs, action, latent, row_episode, out
        )
        return out


def make_agent(
    tensors: Mapping[str, np.ndarray],
    sizes: Mapping[str, Sequence[int]],
    latent_dim: int,
    **options: bool,
) -> Agent:
    """Build an agent from a checkpoint's arrays.

    Args:
        tensors: Flat parameters of policy, encoder and decoder.
        sizes: Layer widths of each.
        latent_dim: Length of z.
        options: ``context_next_obs`` and ``softplus_is_std``.

    Returns:
        The agent.
    """
    nets = {
        n: PackedMlp(
            np.ascontiguousarray(tensors[n], dtype=np.float32), np.asarray(sizes[n], np.int64)
        )
        for n in ("policy", "encoder", "decoder")
    }
    return Agent(nets["policy"], nets["encoder"], nets["decoder"], latent_dim, **options)
