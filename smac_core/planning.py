"""Plans of episodes: every random number of an episode comes from a generator of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smac_core.agent import Posteriors
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Episodes, Plan

Key = tuple[int, ...]
"""Names an episode: (seed, purpose, ...). Equal keys give equal episodes, on any machine."""

# Purposes keep the streams of the stages apart.
COLLECT, ROLLOUT, EVALUATE_TEST, EVALUATE_TRAIN, LABEL, EVALUATE_MATCHED, EVALUATE_OFFLINE = range(
    7
)


def generator(key: Key) -> np.random.Generator:
    """Build the generator that a key names.

    Args:
        key: Non-negative integers below 2³². NumPy pads keys of fewer than four with zeros, so
            such keys must not differ in trailing zeros alone.

    Returns:
        A generator independent of those of all other keys.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def plan_episodes(
    env: Environment,
    keys: Sequence[Key],
    task: np.ndarray,
    posterior: Posteriors,
    *,
    resample_every_step: bool,
    horizon: int | None = None,
) -> Plan:
    """Draw starts, latents and action noise of some episodes.

    Args:
        env: The definition.
        keys: One key an episode.
        task: ``[N, task_dim]`` parameters.
        posterior: What each episode draws z from.
        resample_every_step: Draw z at every step, as the released code does; else once.
        horizon: Steps of an episode; None: the environment's.

    Returns:
        The plan.

    Source: smac-reference sections 5.2 and 6.1.
    """
    num, latent_dim = posterior.mean.shape
    steps = horizon or env.horizon
    draws = steps if resample_every_step else 1
    initial = np.empty((num, env.initial_dim))
    latent_noise = np.empty((num, draws, latent_dim), dtype=np.float32)
    noise = np.empty((num, steps, env.action_dim), dtype=np.float32)
    for row, key in enumerate(keys):
        rng = generator(key)
        initial[row] = env.initial_state(rng)
        rng.standard_normal(out=latent_noise[row], dtype=np.float32)
        rng.standard_normal(out=noise[row], dtype=np.float32)
    latent = posterior.sample(latent_noise)
    if not resample_every_step:
        latent = np.broadcast_to(latent, (num, steps, latent_dim))
    return Plan(np.ascontiguousarray(task, dtype=np.float64), latent, noise, initial)


def flat_rows(episodes: Episodes) -> np.ndarray:
    """Select the valid rows of padded episodes, episode by episode.

    Args:
        episodes: ``[N, H]`` padded.

    Returns:
        ``[N, H]`` bool mask; indexing with it gives rows in collection order.
    """
    steps = np.arange(episodes.obs.shape[1])
    mask: np.ndarray = steps[None, :] < episodes.length[:, None]
    return mask


def next_observations(episodes: Episodes) -> np.ndarray:
    """Compute s' of every row, padded like the observations.

    Args:
        episodes: ``[N, H]`` padded.

    Returns:
        ``[N, H, obs_dim]`` float32.
    """
    after = np.zeros_like(episodes.obs)
    after[:, :-1] = episodes.obs[:, 1:]
    after[np.arange(len(after)), episodes.length - 1] = episodes.final_obs
    return after
