"""The configuration of BOReL; defaults are the values of its released code, for HalfCheetah.

Source: baselines.md sections 0.3 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BeliefConfig:
    """The recurrent belief, its decoders and how both are trained."""

    updates: int = 6400  # 100 epochs of 2050 trajectories, 32 at a time
    latent_dim: int = 5
    action_embedding: int = 16
    obs_embedding: int = 32
    reward_embedding: int = 16
    hidden: int = 128  # of the GRU
    decoder: tuple[int, ...] = (32, 32)
    decode: Literal["auto", "reward", "next_obs", "both"] = "auto"  # both where dynamics differ
    kl_weight: float = 0.05
    learning_rate: float = 3e-4
    num_tasks: int = 4
    trajectories_per_task: int = 8
    latents_per_trajectory: int = 50  # of its T + 1; the released code decodes from all
    log_variance_limit: float = 10.0  # clamped to ±: the chain divides by a variance


@dataclass(frozen=True)
class HyperSacConfig:
    """SAC on hyper-states: the observation, the belief, and whether an episode begins anew."""

    critic: tuple[int, ...] = (256, 256)
    policy: tuple[int, ...] = (256, 256)
    critic_learning_rate: float = 3e-4
    actor_learning_rate: float = 3e-4
    discount: float = 0.99
    reward_scale: float = 1.0
    entropy_weight: float = 0.2
    target_update_rate: float = 0.005
    num_tasks: int = 16
    rows_per_task: int = 256
    refresh_every: int = 1000  # updates between draws of tasks and of their trajectories
    trajectories_per_task: int = 8  # rows of a task come from so many, until the next draw
