"""Reward labels r̂(s, a, z) for all rows of a rollout."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import types

from kernels._jit import F4_1, F4_2, I8_1, OUT_F4_1, helper, jit
from kernels.mlp import PANEL, Floats, Ints, check_network, copy_row, forward_panel, panel_width


@helper
def _check_episodes(row_episode: Ints, latent: Floats) -> None:
    """Raise ValueError unless every row has its latent."""
    for episode in row_episode:
        if episode < 0 or episode >= latent.shape[0]:
            raise ValueError("row_episode: no such row of latent")


@jit(types.void(F4_1, I8_1, F4_2, F4_2, F4_2, I8_1, OUT_F4_1))
def _decode(
    params: Floats,
    sizes: Ints,
    obs: Floats,
    action: Floats,
    latent: Floats,
    row_episode: Ints,
    out_reward: Floats,
) -> None:
    """Label the given rows, of equal number in every array, on this thread."""
    inputs = obs.shape[1] + action.shape[1] + latent.shape[1]
    check_network(params, sizes, inputs, 1)
    _check_episodes(row_episode, latent)
    width = panel_width(sizes)
    obs_dim, action_dim, latent_dim = obs.shape[1], action.shape[1], latent.shape[1]
    flat_obs, flat_action, flat_latent = obs.reshape(-1), action.reshape(-1), latent.reshape(-1)
    panel_a = np.empty(min(PANEL, len(obs)) * width, np.float32)
    panel_b = np.empty_like(panel_a)
    for start in range(0, len(obs), PANEL):
        rows = min(PANEL, len(obs) - start)
        for i in range(rows):
            row, into, z = start + i, i * width, row_episode[start + i]
            copy_row(flat_obs, row * obs_dim, obs_dim, panel_a, into)
            copy_row(flat_action, row * action_dim, action_dim, panel_a, into + obs_dim)
            copy_row(flat_latent, z * latent_dim, latent_dim, panel_a, into + obs_dim + action_dim)
        result = forward_panel(params, sizes, panel_a, panel_b, rows, width)
        for i in range(rows):
            out_reward[start + i] = result[i * width]


def decode_rewards(
    params: Floats,
    sizes: Ints,
    obs: Floats,
    action: Floats,
    latent: Floats,
    row_episode: Ints,
    out_reward: Floats,
    num_threads: int = 1,
) -> None:
    """Label every row with the decoder's reward; the bits do not depend on the number of threads.

    Args:
        params: Flat parameters of the decoder.
        sizes: Layer widths, from obs_dim + action_dim + latent_dim to 1.
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]``.
        latent: ``[E, latent_dim]``, one z an episode.
        row_episode: ``[N]`` the episode of each row.
        out_reward: ``[N]`` unscaled rewards, written.
        num_threads: How many threads share the rows.

    Raises:
        ValueError: The shapes do not fit together, an episode is out of range, or num_threads < 1.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads: expected at least 1, got {num_threads}")
    if not len(obs) == len(action) == len(row_episode) == len(out_reward):
        raise ValueError("obs, action, row_episode, out_reward: lengths differ")
    share = -(-len(obs) // num_threads) or 1
    parts = [slice(start, start + share) for start in range(0, len(obs), share)] or [slice(0)]

    def label(part: slice) -> None:
        rows = (obs[part], action[part])
        _decode(params, sizes, *rows, latent, row_episode[part], out_reward[part])

    if len(parts) == 1:
        label(parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(label, parts))
