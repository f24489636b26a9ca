"""The critic of a checkpoint in NumPy: what it says of an episode, beside what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.mlp import mlp_forward
from smac_core.agent import PackedMlp

_TWINS = 2


@dataclass(frozen=True)
class Critic:
    """Q1 and Q2, and what their unit is.

    Args:
        twins: Both networks, from obs_dim + action_dim + latent_dim to 1.
        discount: Of the Bellman target.
        reward_scale: What rewards are multiplied with in it.
    """

    twins: tuple[PackedMlp, ...]
    discount: float
    reward_scale: float

    def values(self, obs: np.ndarray, action: np.ndarray, latent: np.ndarray) -> np.ndarray:
        """Evaluate min(Q1, Q2).

        Args:
            obs: ``[N, obs_dim]`` float32.
            action: ``[N, action_dim]`` float32.
            latent: ``[N, latent_dim]`` float32.

        Returns:
            ``[N]`` float32, in units of scaled reward.
        """
        inputs = np.ascontiguousarray(np.concatenate([obs, action, latent], axis=1), np.float32)
        values = np.empty((len(self.twins), len(obs), 1), dtype=np.float32)
        for network, out in zip(self.twins, values, strict=True):
            mlp_forward(network.parameters, network.sizes, inputs, out)
        least: np.ndarray = values.min(axis=0)[:, 0]
        return least

    def realised(self, reward: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Sum the scaled rewards of episodes, discounted.

        Args:
            reward: ``[N, H]`` unscaled.
            length: ``[N]`` steps.

        Returns:
            ``[N]`` float64; of an episode that a time limit ended, what would follow is left out.
        """
        steps = np.arange(reward.shape[1])
        rewards = np.where(steps < length[:, None], reward, 0.0).astype(np.float64)
        total: np.ndarray = self.reward_scale * (rewards @ self.discount**steps)
        return total


def load_critic(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Critic | None:
    """Build the critic of a checkpoint.

    Args:
        tensors: Its arrays.
        metadata: What it says of itself.

    Returns:
        The critic; None: there is none, or it does not say what its unit is.
    """
    sizes = metadata["sizes"].get("critic")
    learner = metadata.get("learner", {})
    if "critic" not in tensors or not sizes or not {"discount", "reward_scale"} <= set(learner):
        return None
    flat = np.asarray(tensors["critic"], dtype=np.float32)
    if len(flat) != _TWINS * sum((i + 1) * o for i, o in pairwise(sizes)):
        return None
    parts: list[list[np.ndarray]] = [[] for _ in range(_TWINS)]
    place = 0
    for fan_in, fan_out in pairwise(sizes):
        for size in (fan_in * fan_out, fan_out):  # the weight of both twins, the bias of both
            for twin in parts:
                twin.append(flat[place : place + size])
                place += size
    widths = np.asarray(sizes, dtype=np.int64)
    twins = tuple(PackedMlp(np.concatenate(twin), widths) for twin in parts)
    return Critic(twins, float(learner["discount"]), float(learner["reward_scale"]))
