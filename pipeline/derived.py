"""What follows from a transitions store, and is not kept in it."""

from __future__ import annotations

import numpy as np

from pipeline.schema import Array
from pipeline.store import Store
from smac_core.errors import StoreError


def next_obs(store: Store) -> Array:
    """Derives the observation after every action of a transitions store.

    Args:
        store: Of kind `transitions`.

    Returns:
        [N, obs_dim] float32: the next row, or the final observation at an episode's end.
    """
    obs = store.arrays["data/obs"]
    after = np.empty_like(obs)
    after[:-1] = obs[1:]
    after[store.arrays["meta/episode_ends"] - 1] = store.arrays["meta/final_obs"]
    return after


def episode_returns(store: Store) -> Array:
    """Sums the rewards of every episode of a transitions store, undiscounted.

    Args:
        store: Of kind `transitions`, with rewards.

    Returns:
        [E] float64, summed in the order of the rows.

    Raises:
        StoreError: The store has no rewards.
    """
    if "data/reward" not in store.arrays:
        raise StoreError(
            "the store has no rewards", where=store.path, fix="join its relabelled rewards"
        )
    ends = store.arrays["meta/episode_ends"]
    reward = store.arrays["data/reward"].astype(np.float64)
    starts = ends - np.diff(ends, prepend=0)
    return np.add.reduceat(reward, starts) if len(ends) else np.zeros(0)
