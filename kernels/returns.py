"""Returns of episodes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import F4_1, I8_1, OUT_F8_1, jit

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]


@jit(types.void(F4_1, I8_1, OUT_F8_1))
def episode_returns(reward: Floats, episode_ends: Ints, out: npt.NDArray[np.float64]) -> None:
    """Sum the rewards of each episode, undiscounted, in float64 and in row order.

    Args:
        reward: ``[N]``, episode after episode.
        episode_ends: ``[E]`` exclusive ends; episode e is rows episode_ends[e - 1] …
            episode_ends[e] - 1, and rows after the last end belong to none.
        out: ``[E]``, written; 0 for an episode without rows.

    Raises:
        ValueError: The lengths differ, or the ends decrease or leave the rows.
    """
    if out.size != episode_ends.size:
        raise ValueError("out: expected one value for each episode")
    start = 0
    for end in episode_ends:
        if end < start or end > reward.size:
            raise ValueError("episode_ends: decreasing, or outside the rows")
        start = end
    start = 0
    for e in range(episode_ends.size):
        total = 0.0
        for i in range(start, episode_ends[e]):
            total += reward[i]
        out[e] = total
        start = episode_ends[e]
